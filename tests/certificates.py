"""A certificate authority for one test run, made with the openssl program."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Authority:
    """Signs certificates; its files are in *directory*."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self.certificate = directory / f"{name}.crt"
        self._key = directory / f"{name}.key"
        _openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout", str(self._key), "-out", str(self.certificate),
        )  # fmt: skip

    def issue(self, name: str, *, at: str = "IP:127.0.0.1", days: int = 2) -> tuple[Path, Path]:
        """Make a certificate for *name* *at* a host, valid for *days* (-1: expired); give it and its key."""
        certificate, key, request = (
            self._directory / f"{self._name}-{name}.{suffix}" for suffix in ("crt", "key", "csr")
        )
        extensions = self._directory / "extensions"
        extensions.write_text(f"subjectAltName={at}\n")
        _openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request),
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self._key),
            "-CAcreateserial", "-days", str(days), "-extfile", str(extensions), "-out", str(certificate),
        )  # fmt: skip
        return certificate, key

    @staticmethod
    def encrypt(key: Path, into: Path, passphrase: str) -> None:
        """Write *key* once more, under a passphrase."""
        _openssl("pkey", "-in", str(key), "-out", str(into), "-aes256", "-passout", f"pass:{passphrase}")


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"openssl {arguments[0]}: {done.stderr}"
