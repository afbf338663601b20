"""The figures as Markdown tables and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.storage.rows import SENSORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.storage.measure import Result, Size

STORED: Final = {
    "legacy": "legacy: names as text, four indexes",
    "normalised": "normalised: ids, one unique index",
    "compressed": "normalised, compressed",
    "legacy_compressed": "legacy, compressed as it is",
    "readings": "readings as they stand: the last three days not compressed",
    "aggregates": "five continuous aggregates of them",
    "rollups": "hourly, daily and monthly rollups of them",
    "everything": "readings, aggregates and rollups",
}
"""What was weighed -> how the table calls it, in its order."""
_NOT_COMPARED: Final = {"legacy", "aggregates", "rollups"}

SMALLER_TARGET_PCT: Final = 95.0
FASTER_TARGET: Final = 100.0


def smaller_pct(result: Result, what: str) -> float:
    """Return by how many per cent a reading is smaller as *what* than in the legacy table."""
    return 100 * (1 - _bytes_a_row(result.sizes[what]) / _bytes_a_row(result.sizes["legacy"]))


def faster(result: Result, question: str, form: str) -> float:
    """Return how many times as fast *question* is answered by *form* as by the legacy rows."""
    answers = result.answers[question]
    return answers.median_ms("legacy") / answers.median_ms(form)


def reached(result: Result) -> dict[str, bool]:
    """Return each target by what it is said of: the compressed form, and each question of buckets."""
    targets = {"compressed": smaller_pct(result, "compressed") >= SMALLER_TARGET_PCT}
    for question, answers in result.answers.items():
        if "rollup" in answers.ms:
            best = max(faster(result, question, form) for form in ("aggregate", "rollup"))
            targets[question] = best >= FASTER_TARGET
    return targets


def as_markdown(result: Result) -> str:
    """Return what was measured with, both tables, and which targets were reached."""
    parts = (_heading(result), _storage(result), _queries(result), _targets(result))
    return "\n\n".join("\n".join(part) for part in parts)


def as_json(result: Result) -> dict[str, object]:
    """Return all figures by name."""
    return {
        "versions": result.versions,
        "rows": result.readings.rows,
        "sensors": SENSORS,
        "interval_s": result.interval_s,
        "bytes_a_row": {what: round(_bytes_a_row(result.sizes[what]), 2) for what in STORED},
        "smaller_pct": {what: round(smaller_pct(result, what), 2) for what in STORED},
        "queries": {
            question: {
                "rows": answers.rows,
                "median_ms": {form: round(answers.median_ms(form), 3) for form in answers.ms},
                "faster": {form: round(faster(result, question, form), 1) for form in answers.ms},
                "equal": not answers.differences,
            }
            for question, answers in result.answers.items()
        },
        "targets": {"smaller_pct": SMALLER_TARGET_PCT, "faster": FASTER_TARGET, "reached": reached(result)},
    }


def _heading(result: Result) -> Iterator[str]:
    readings, versions = result.readings, result.versions
    days = (readings.until - readings.start).days
    yield (
        f"{readings.rows:,} readings of {SENSORS} sensors, each every {result.interval_s:g} s, {days} days; "
        f"TimescaleDB {versions['timescaledb']} on PostgreSQL {versions['postgresql']}."
    )


def _storage(result: Result) -> Iterator[str]:
    yield "| stored as | bytes a reading | of these indexes | smaller than legacy |"
    yield "|---|---:|---:|---:|"
    for what, words in STORED.items():
        size = result.sizes[what]
        indexes = "" if size.index_bytes is None else f"{size.index_bytes / size.rows:.1f}"
        part = "" if what in _NOT_COMPARED else f"{smaller_pct(result, what):.1f} %"
        yield f"| {words} | {_bytes_a_row(size):.1f} | {indexes} | {part} |"


def _queries(result: Result) -> Iterator[str]:
    yield "| question | rows | legacy | aggregate | times as fast | rollup | times as fast |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for question, answers in result.answers.items():
        cells = [f"{answers.median_ms('legacy'):.2f} ms"]
        for form in ("aggregate", "rollup"):
            if form in answers.ms:
                cells += [f"{answers.median_ms(form):.2f} ms", f"{faster(result, question, form):,.1f}"]
            else:
                cells += ["", ""]
        yield f"| {question} | {answers.rows} | {' | '.join(cells)} |"


def _targets(result: Result) -> Iterator[str]:
    targets = reached(result)
    small = "reached" if targets.pop("compressed") else "missed"
    yield f"{SMALLER_TARGET_PCT:g} % smaller, compressed: {small}."
    for word, wanted in (("reached", True), ("missed", False)):
        if questions := [question for question, good in targets.items() if good is wanted]:
            yield f"{FASTER_TARGET:g} times as fast, by aggregate or rollup, {word}: {'; '.join(questions)}."


def _bytes_a_row(size: Size) -> float:
    return size.total_bytes / size.rows
