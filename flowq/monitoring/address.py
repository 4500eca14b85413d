"""The address on which metrics and health are served."""

from __future__ import annotations

import re
from typing import NamedTuple

from flowq.errors import UsageError

_ADDRESS = re.compile(r"(?:(?P<host>[^\s:/\[\]]+|\[[0-9a-fA-F:.]+\])?:)?(?P<port>\d{1,5})")


class Address(NamedTuple):
    """A host to bind, and a port; port 0 means any free one."""

    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def address_of(given: str, *, flag: str) -> Address:
    """Parse what a user wrote. Without a host, only this machine is served. Raises UsageError.

    >>> address_of("9100", flag="--metrics"), address_of(":9100", flag="--metrics")
    (Address(host='127.0.0.1', port=9100), Address(host='127.0.0.1', port=9100))
    >>> address_of("0.0.0.0:9100", flag="--metrics").host, address_of("[::1]:9100", flag="--metrics").host
    ('0.0.0.0', '::1')
    """
    found = _ADDRESS.fullmatch(given.strip())
    if found is None or int(found["port"]) > 65_535:
        raise UsageError(f'{flag}: "{given}" is not an address', hint=f"{flag} :9100, or {flag} 0.0.0.0:9100")
    return Address((found["host"] or "127.0.0.1").strip("[]"), int(found["port"]))
