"""Reads the URL of a Redis, and shows it without anything that could be a secret.

A URL is either parsed completely or refused. What is shown is assembled from its parsed parts; of a URL that was
refused, only the scheme is ever printed.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, unquote_plus, unquote_to_bytes, urlsplit

from flowq.broker.client.url_options import Options, parse_options
from flowq.errors import UsageError

SENTINEL_PORT, REDIS_PORT = 26379, 6379
_HINT = "redis://host:6379/0, rediss:// for TLS, or unix:///path/to/socket"
_ENCODE = "in a user, password or path write / as %2F, # as %23, ? as %3F, @ as %40, [ as %5B and a space as %20"
_HINTS = {
    "servers": "redis+servers://host:6379,host:6379/0",
    "sentinel": "redis+sentinel://host:26379,host:26379/mymaster/0",
    "cluster": "redis+cluster://host:6379,host:6379",
}
_SCHEMES = ("redis", "rediss", "unix", *(f"{tls}+{kind}" for tls in ("redis", "rediss") for kind in _HINTS))
_HOST = re.compile(r"(?:[^\W_]|[_-]){1,63}(?:\.(?:[^\W_]|[_-]){1,63})*\.?")
_HOST_AND_PORT = re.compile(r"(?P<host>[^\[\]:]*|\[[0-9A-Za-z:.%_-]+\])(?::(?P<port>[0-9]{0,5}))?")
_SERVICE = re.compile(r"[A-Za-z0-9._-]+")  # the names that Sentinel allows
_DATABASE = re.compile(r"[0-9]{1,9}")
_FILES = re.compile(r"([?&](?:sentinel_)?ssl_(?:ca_certs|ca_path|certfile|keyfile)=)([^&]+)")
# To the next space, whatever is in between: it may be part of a password.
_IN_TEXT = re.compile(rf"\b(?:{'|'.join(re.escape(scheme) for scheme in _SCHEMES)})://\S+", re.IGNORECASE)
_LOGIN_IN_TEXT = re.compile(r"(://)[^\s/@]*:\S*@")  # of any other URL


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A parsed URL. `topology` is "single", "servers", "sentinel" or "cluster"; `path` is that of a Unix socket.

    `service` names one service of Sentinel, or several with commas.
    """

    text: str = field(repr=False)
    scheme: str
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    database: int = 0
    login: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    options: Options = field(default_factory=Options, repr=False)

    @property
    def topology(self) -> str:
        return self.scheme.partition("+")[2] or "single"

    @property
    def services(self) -> tuple[str, ...]:
        """The services of Sentinel that hold the shards of a pipeline, in turn."""
        return tuple(self.service.split(",")) if self.service else ()

    @property
    def is_tls(self) -> bool:
        return self.scheme.startswith("rediss")

    @property
    def settings(self) -> Mapping[str, Any]:
        """The parameters of redis-py for a connection to a data server, except its address."""
        return {**self.options.values, **self.login, "db": self.database}

    def __str__(self) -> str:
        """The URL for display: no login, and options only if their value cannot be a secret."""
        login = "***@" if self.login else ""
        hosts = ",".join(f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in self.hosts)
        database = f"/{self.database}" if self.hosts and self.topology != "cluster" else ""
        service = f"/{self.service}" if self.service else ""
        shown = self.options.shown()
        if self.path and self.database:
            shown = f"db={self.database}{'&' if shown else ''}{shown}"
        return f"{self.scheme}://{login}{hosts}{self.path}{service}{database}{'?' if shown else ''}{shown}"


def parse_redis_url(url: str) -> RedisUrl:
    """Parse a URL. Raises UsageError, which never quotes what could not be parsed."""
    url = url.strip()
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme not in _SCHEMES or not rest.isprintable():
        raise _refused(url, "cannot be read", _HINT)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _refused(url, "cannot be read", _ENCODE) from None
    authority = parts.netloc.rpartition("@")[2]
    if "@" in parts.path + parts.query or "#" in url or " " in url:
        raise _refused(url, "cannot be read", _ENCODE)
    options = parse_options(parts.query, scheme)
    login = {**options.login, **_login(parts.username, parts.password)}
    if scheme == "unix":
        if authority or len(parts.path) < 2:
            raise _refused(url, "does not name a socket", "unix:///path/to/socket")
        # Names of files are bytes, which need not be text in any encoding.
        path, database = os.fsdecode(unquote_to_bytes(parts.path)), options.database or 0
        return RedisUrl(url, scheme, path=path, database=database, login=login, options=options)
    return _of_servers(RedisUrl(url, scheme, login=login, options=options), authority, parts.path)


def _of_servers(url: RedisUrl, authority: str, path: str) -> RedisUrl:
    hosts = _hosts(
        authority, SENTINEL_PORT if url.topology == "sentinel" else REDIS_PORT, many=url.topology != "single"
    )
    if not hosts:
        what = "has a server or a port that cannot be read" if authority else "names no server"
        raise _refused(url.text, what, _HINTS.get(url.topology, _HINT))
    service, database = "", path.removeprefix("/").removesuffix("/")
    if url.topology == "sentinel":
        service, _, database = database.partition("/")
        if not all(_SERVICE.fullmatch(name) for name in service.split(",")):
            raise _refused(url.text, "names no service", _HINTS["sentinel"])
    number = _database(database, url)
    if url.topology == "cluster" and number:
        raise _refused(url.text, "names a database", "a Cluster has only one: leave it out")
    return replace(url, hosts=hosts, service=service, database=number)


def with_files_of(root: Path, url: str) -> str:
    """A URL in which the files of certificates, which are relative to a folder, have absolute paths.

    Values that are no existing files stay as they are: they may be secrets, which no error must show.
    """

    def absolute(found: re.Match[str]) -> str:
        file = root / unquote_plus(found[2])
        return f"{found[1]}{quote(os.fspath(file))}" if os.path.lexists(file) else found[0]

    return _FILES.sub(absolute, url)


def redact(url: str) -> str:
    """A Redis URL for display: without login or anything else that could be a secret.

    >>> redact("redis://user:secret@example.org:6379/0?client_name=etl&socket_keepalive=yes")
    'redis://***@example.org:6379/0?client_name=***&socket_keepalive=true'
    >>> redact("redis://:sec/ret@example.org:6379/0")
    'redis://***'
    """
    try:
        return str(parse_redis_url(url))
    except UsageError:
        return _unknown(url)


def redact_text(text: str) -> str:
    """Text for display, without the login of any URL in it.

    >>> redact_text("cannot open postgres://me:secret@db/lab, redis://:secret@cache")
    'cannot open postgres://***@db/lab, redis://***@cache:6379/0'
    """
    if "://" not in text:
        return text
    return _LOGIN_IN_TEXT.sub(r"\1***@", _IN_TEXT.sub(_redacted_match, text))


def _redacted_match(found: re.Match[str]) -> str:
    """The URL redacted; one without any secret as it is, with the punctuation of its sentence."""
    url = found[0].rstrip(".,;:!?)]}>\"'`")
    if url.endswith("://"):
        return found[0]
    shown = redact(url)
    has_no_secret = not shown.endswith("***") and not any(char in url for char in "@?")
    return found[0] if has_no_secret else shown


def _unknown(url: str) -> str:
    scheme = url.strip().partition("://")[0].lower()
    return f"{scheme}://***" if scheme in _SCHEMES else "***"


def _refused(url: str, what: str, hint: str) -> UsageError:
    return UsageError(f"the Redis URL {_unknown(url)} {what}", hint=hint)


def _login(user: str | None, password: str | None) -> dict[str, str]:
    found = {"username": unquote(user or ""), "password": unquote(password or "")}
    return {name: value for name, value in found.items() if value}


def _hosts(authority: str, default_port: int, *, many: bool) -> tuple[tuple[str, int], ...]:
    """Hosts and ports; none where any of them is not understood."""
    if not many:
        found = _host(authority or "localhost", default_port)
        return () if found is None else (found,)
    each = [_host(host, default_port) for host in authority.split(",") if host]
    return tuple(host for host in each if host) if all(each) else ()


def _host(written: str, default_port: int) -> tuple[str, int] | None:
    found = _HOST_AND_PORT.fullmatch(written)
    if found is None:
        return None
    host, port = unquote(found["host"]) or "localhost", found["port"] or str(default_port)
    if not 0 < int(port) < 65_536:
        return None
    if host.startswith("["):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            return None
    elif not _HOST.fullmatch(host) or len(host) > 253:
        return None
    return host, int(port)


def _database(written: str, url: RedisUrl) -> int:
    given = url.options.database
    if written and not _DATABASE.fullmatch(written):
        raise _refused(url.text, "has a database that is not a number", "end it with /0, or with nothing")
    if written and given is not None and given != int(written):
        raise _refused(url.text, "has two numbers of databases", "remove one of /0 and ?db=0")
    return int(written) if written else given or 0
