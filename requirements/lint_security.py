"""What `make lint` looks for beside faults of the code: secrets in the tree, known holes in the locks.

    lint_security.py secrets [FILE…]    detect-secrets on what git would commit, or on the FILEs
    lint_security.py audit [OPTION…]    pip-audit on the locks; OPTIONs are passed on to it

A finding is exit 1. A machine that reaches no vulnerability service is told so, and exits 0: nobody's lint
is red for a network. Only names and versions of packages leave the machine; no secret is tried out.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCKS = ("build.txt", "dev.txt")
"""Every package there is: dev.txt holds what runtime.txt and embedded.txt do (test_deploy_locks.py)."""

ACCEPTED: dict[str, str] = {}
"""Vulnerabilities that do not concern us: id -> why. Empty is what it should be."""

AUDIT_TIMEOUT_S = 180
ANSWER_TIMEOUT_S = 5
UNREACHABLE = re.compile(
    "ConnectionError|ConnectTimeout|ReadTimeout|Could not connect|Max retries|NameResolution|SSLError|Proxy"
    "|HTTPError|ServiceError"
)
"""How pip-audit and what it is made of say that there is no network, or nobody who answers at its end."""

PLUGINS = (
    "AWSKeyDetector",
    "Base64HighEntropyString",
    "BasicAuthDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "HexHighEntropyString",
    "JwtTokenDetector",
    "KeywordDetector",
    "NpmDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
    "SlackDetector",
)
"""What may turn up here; all of the tool's would take twice as long."""

NO_SECRETS = (
    "s3cr3t",  # what the tests hide and look for
    "C4n4ry",  # as above
    "^(password|secret)$",  # user:password@host in a text, and what tests log in with
    r"\{\w+\}",  # a placeholder of an f-string
    "^second-hash$",  # a hash of nothing
)
FILTERS = (
    "allowlist.is_line_allowlisted",
    "heuristic.is_indirect_reference",
    "heuristic.is_likely_id_string",
    "heuristic.is_not_alphanumeric_string",
    "heuristic.is_potential_uuid",
    "heuristic.is_prefixed_with_dollar_sign",
    "heuristic.is_sequential_string",
    "heuristic.is_templated_secret",
)
LOCK_FILES = re.compile(r"^requirements/\w+\.txt$|/package-lock\.json$")
"""Hashes from one end to the other."""
CLEAN_FILES = ROOT / ".venv" / ".no-secrets"
"""Digests of files that were looked through: all of them take seven seconds of a processor."""
RULES = Path(__file__).read_bytes() + (ROOT / "requirements" / "dev.txt").read_bytes()


def main(arguments: list[str]) -> int:
    """Do what the first argument says; return the exit code."""
    match arguments:
        case ["secrets", *files]:
            return look_for_secrets(files or tracked_files(), remember=not files)
        case ["audit", *options]:
            return audit(options)
        case _:
            sys.stderr.write(f"{__doc__}\n")
            return 2


def tracked_files() -> list[str]:
    """Give the files that git has, or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 (from the PATH)
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    files = [name for name in listed.split("\0") if name and not LOCK_FILES.search(name)]
    return [str(ROOT / name) for name in files if (ROOT / name).is_file()]


def look_for_secrets(files: list[str], *, remember: bool) -> int:
    """Print each place that looks like a secret; *remember* clean files until they change."""
    known = set(CLEAN_FILES.read_text().split()) if remember and CLEAN_FILES.exists() else set()
    digests = {file: digest_of(file) for file in files}
    new = [file for file, digest in digests.items() if digest not in known]
    found = scanned(new)
    suspected = {file for file, _, _ in found}
    if remember and CLEAN_FILES.parent.is_dir():
        clean = {digest for file, digest in digests.items() if file not in suspected}
        CLEAN_FILES.write_text("\n".join(sorted(clean)))
    for file, line_number, kind in found:
        name = Path(file).relative_to(ROOT) if Path(file).is_relative_to(ROOT) else file
        sys.stdout.write(f"{name}:{line_number}: {kind}\n")
    if not found:
        sys.stdout.write(f"No secrets in {len(files)} files\n")
        return 0
    sys.stdout.write(
        "Take it out, and out of git's history; a false alarm gets `# pragma: allowlist secret`\n"
    )
    return 1


def digest_of(file: str) -> str:
    """Give what is remembered of a clean file: it changes with the file, and with the rules here."""
    return hashlib.sha256(RULES + Path(file).read_bytes()).hexdigest()


def scanned(files: list[str]) -> list[tuple[str, int, str]]:
    """Give file, line and kind of each suspicion; on as many processors as there are."""
    from detect_secrets import SecretsCollection  # noqa: PLC0415 (the other command does without)
    from detect_secrets.settings import transient_settings  # noqa: PLC0415 (as above)

    filters: list[dict[str, Any]] = [{"path": f"detect_secrets.filters.{name}"} for name in FILTERS]
    filters.append(
        {"path": "detect_secrets.filters.regex.should_exclude_secret", "pattern": list(NO_SECRETS)}
    )
    found = SecretsCollection()
    with transient_settings({"plugins_used": [{"name": name} for name in PLUGINS], "filters_used": filters}):
        found.scan_files(*files)
    return [(file, secret.line_number, secret.type) for file, secret in found]


def audit(options: list[str]) -> int:
    """Print each known vulnerability of a locked package."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--format=json", "--progress-spinner=off"]
    command += [f"--timeout={ANSWER_TIMEOUT_S}", *(f"--ignore-vuln={name}" for name in ACCEPTED)]
    command += [f"--requirement={ROOT / 'requirements' / name}" for name in LOCKS]
    try:
        done = subprocess.run(
            [*command, *options], capture_output=True, text=True, check=False, timeout=AUDIT_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return not_audited(f"no answer within {AUDIT_TIMEOUT_S} s")
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        said = done.stderr.strip().splitlines() or ["no word"]
        if UNREACHABLE.search(done.stderr):
            return not_audited(said[-1][:200])
        sys.stderr.write(f"pip-audit failed (exit {done.returncode}):\n{done.stderr}\n")
        return 1
    holes = [(package, hole) for package in packages for hole in package.get("vulns", ())]
    for package, hole in holes:
        mended = ", ".join(hole["fix_versions"]) or "no version yet"
        sys.stdout.write(f"{package['name']} {package['version']}: {hole['id']}, mended in {mended}\n")
    if holes:
        sys.stdout.write(
            "Take the newer version (UPGRADE=1 make lock), or say in ACCEPTED why it does not matter\n"
        )
        return 1
    skipped = [package for package in packages if "skip_reason" in package]
    if len(skipped) == len(packages):
        return not_audited("the service that answered knows none of the packages")
    sys.stdout.write(f"No known vulnerabilities in {len(packages) - len(skipped)} packages\n")
    for package in skipped:
        sys.stdout.write(
            f"NOT AUDITED: {package['name']} {package.get('version', '')}: {package['skip_reason']}\n"
        )
    return 0


def not_audited(why: str) -> int:
    """Say that nothing was looked up; no fault of the code."""
    sys.stdout.write(f"NOT AUDITED: no vulnerability service was reached ({why})\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
