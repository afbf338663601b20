"""The links between the documents lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """What GitHub makes of the headings: lower case, blanks to hyphens, other signs dropped."""
    headings = re.findall(r"(?m)^#+ (.+)$", FENCED.sub("", document.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for file, anchor in LINK.findall(FENCED.sub("", document.read_text())):
        target = (document.parent / file) if file else document
        assert target.exists(), file
        assert not anchor or anchor in anchors(target), f"{file}#{anchor}"


@pytest.mark.parametrize("page", ["schema-metadata.md", "schema-timeseries.md"])
def test_the_pages_of_the_schema_say_how_to_change_it_and_come_back(page: str) -> None:
    linked = {f"{file}#{anchor}" for file, anchor in LINK.findall((ROOT / "docs" / page).read_text())}
    assert {
        "../CONTRIBUTING.md#migrations",
        "rollback.md#a-version",
        "rollback.md#further-back-dump-and-restore",
    } <= linked
