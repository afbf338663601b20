"""Half of `make lint`: planted secrets are found, known holes are red, a missing network is not."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "requirements" / "lint_security.py"
# Put together here, so that this file holds none.
PLANTED = {
    "Private Key": "-----BEGIN " + "RSA PRIVATE KEY-----",
    "AWS Access Key": "key = AKIA" + "Z7Q3M5XK2PLW9B4T",
    "Basic Auth Credentials": "dsn = postgresql://ingest:" + "Tr0ub4dor3@db.example/x",
    "Secret Keyword": "password = " + '"Tr0ub4dor3staple"',
    "GitHub Token": "token: ghp_" + "A1b2C3d4" * 4 + "A1b2",
    "Hex High Entropy String": 'x = "' + "8f14e45fceea167a5a36dedd4bea2543" + '"',  # pragma: allowlist secret
}


def run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False, timeout=100
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_secret_is_found(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.py"
    file.write_text(f"a = 1\n{PLANTED[kind]}\n")
    code, output = run("secrets", str(file))
    assert code == 1
    assert f"{file}:2: {kind}" in output


def test_a_false_alarm_can_be_marked(tmp_path: Path) -> None:
    file = tmp_path / "settings.py"
    file.write_text(f"{PLANTED['Secret Keyword']}  # pragma: allowlist secret\n")
    assert run("secrets", str(file)) == (0, "No secrets in 1 files\n")


@contextmanager
def vulnerability_service(answer: Callable[[str, str], tuple[int, dict[str, Any]]]) -> Iterator[str]:
    """Serve OSV's query interface on the loopback: *answer* gets name and version."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = answer(asked["package"]["name"], asked["version"])
            encoded = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/query"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def audit(url: str) -> tuple[int, str]:
    return run("audit", "--vulnerability-service=osv", f"--osv-url={url}")


def test_a_known_vulnerability_is_red() -> None:
    hole = {
        "id": "PYSEC-0000-1",
        "affected": [
            {
                "package": {"name": "asyncpg", "ecosystem": "PyPI"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}],
            }
        ],
    }
    with vulnerability_service(lambda name, _: (200, {"vulns": [hole]} if name == "asyncpg" else {})) as url:
        code, output = audit(url)
    assert code == 1
    assert "PYSEC-0000-1, mended in 99.1" in output
    assert output.startswith("asyncpg ")


def test_without_one_it_says_how_many_packages_it_asked_for() -> None:
    asked = []

    def answer(name: str, version: str) -> tuple[int, dict[str, Any]]:
        asked.append((name, version))
        return 200, {}

    with vulnerability_service(answer) as url:
        code, output = audit(url)
    assert (code, output) == (0, f"No known vulnerabilities in {len(asked)} packages\n")
    assert {"asyncpg", "paho-mqtt", "setuptools", "iotcore", "pytest"} <= {name for name, _ in asked}


@pytest.mark.parametrize("fault", ["nobody listens", "it fails"])
def test_a_machine_without_the_service_is_told_and_not_red(fault: str) -> None:
    if fault == "nobody listens":
        code, output = audit(f"http://127.0.0.1:{free_port()}/query")
    else:
        with vulnerability_service(lambda *_: (503, {})) as url:
            code, output = audit(url)
    assert code == 0
    assert output.startswith("NOT AUDITED: no vulnerability service was reached (")


def test_an_audit_that_cannot_run_is_red() -> None:
    code, output = run("audit", "--no-such-option")
    assert code == 1
    assert "pip-audit failed (exit 2)" in output
