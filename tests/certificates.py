"""Test certificates: signed by a test authority, self-signed, expired, or for another host."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.requirements import unavailable

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
LOOPBACK = "DNS:localhost,IP:127.0.0.1"


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, in PEM files."""

    file: Path
    key: Path

    def for_server(self, *, wants_clients_of: Path | None = None) -> ssl.SSLContext:
        """What a server needs to show it. `wants_clients_of`: an authority that must have signed for the client."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key)
        if wants_clients_of is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(wants_clients_of)
        return context


@dataclass
class Authority:
    """Signs certificates. Keeps its files in a folder."""

    folder: Path

    @cached_property
    def itself(self) -> Certificate:
        return self._signed_by_itself("authority", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")

    def self_signed(self) -> Certificate:
        """Self-signed."""
        return self._signed_by_itself("alone", f"subjectAltName={LOOPBACK}")

    def issue(self, name: str = "server", names: str = LOOPBACK, *, days: int = 2) -> Certificate:
        """A certificate for some names, over since yesterday with days=-1."""
        made = Certificate(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        request = self.folder / f"{name}.csr"
        _openssl(
            *("req", *_KEY, "-keyout", made.key, "-out", request),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName={names}"),
        )
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.itself.file, "-CAkey", self.itself.key),
            *("-days", days, "-copy_extensions", "copy", "-out", made.file),
        )
        return made

    def redis_options(self, port: int) -> tuple[str, ...]:
        """With these a Redis server speaks TLS at that port as well, with clients that need no certificate."""
        mine = self.issue()
        return (
            *("--tls-port", str(port), "--tls-cert-file", str(mine.file), "--tls-key-file", str(mine.key)),
            *("--tls-ca-cert-file", str(self.itself.file), "--tls-auth-clients", "no"),
        )

    def _signed_by_itself(self, name: str, *extensions: str) -> Certificate:
        made = Certificate(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        _openssl(
            *("req", "-x509", *_KEY, "-keyout", made.key, "-out", made.file),
            *("-subj", f"/CN={name}", "-days", 2),
            *(argument for extension in extensions for argument in ("-addext", extension)),
        )
        return made


def _openssl(*arguments: object) -> None:
    program = shutil.which("openssl") or unavailable("no openssl on PATH", "apt-get install openssl")
    subprocess.run([program, *map(str, arguments)], check=True, capture_output=True)
