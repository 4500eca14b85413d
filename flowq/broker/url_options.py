"""The options of a Redis URL: which there are, what each takes, and which of them may be shown."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any
from urllib.parse import unquote_plus

from flowq.errors import UsageError

SENTINEL = "sentinel_"
_NAME = re.compile(r"[a-z_]{1,40}")
_YES, _NO = ("true", "1", "yes", "y", "t"), ("false", "0", "no", "n", "f")
_TLS_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one URL. `values` are as redis-py takes them, `sentinel` those that hold for Sentinels alone."""

    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    sentinel: Mapping[str, Any] = field(default_factory=dict[str, Any])
    login: Mapping[str, str] = field(default_factory=dict[str, str])
    database: int | None = None
    sentinel_tls: bool | None = None
    written: tuple[str, ...] = ()

    def shown(self) -> str:
        """For people: the value only of an option that takes a number, a yes or no, or a word of a few."""
        return "&".join(f"{name}={self._shown(name)}" for name in self.written if name != "db")

    def _shown(self, name: str) -> str:
        known = _OPTIONS[_plain(name)]
        if not known.is_shown:
            return "***"
        found = {**self.values, **{SENTINEL + key: value for key, value in self.sentinel.items()}}
        found[f"{SENTINEL}tls"] = self.sentinel_tls
        value = found.get(name, "***")
        return str(value).lower() if isinstance(value, bool) else getattr(value, "name", str(value))


def _text(value: str) -> str:
    if not value.isprintable():
        raise ValueError
    return value


def _number(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise ValueError
    return int(value)


def _seconds(value: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        raise ValueError
    return float(value)


def _yes_or_no(value: str) -> bool:
    if value.lower() not in _YES + _NO:
        raise ValueError
    return value.lower() in _YES


def _protocol(value: str) -> int:
    return {"2": 2, "3": 3}.get(value) or _number("")


def _requirement(value: str) -> str:
    """`CERT_NONE` is how Celery writes it."""
    word = value.lower().removeprefix("cert_")
    if word not in ("none", "optional", "required"):
        raise ValueError
    return word


def _tls_version(value: str) -> ssl.TLSVersion:
    """771 and 772 are the numbers of the versions, which redis-py takes."""
    word = value.lower().removeprefix("tlsv").replace("_", ".")
    found = _TLS_VERSIONS.get({"771": "1.2", "772": "1.3"}.get(word, word))
    if found is None:
        raise ValueError
    return found


def _ciphers(value: str) -> str:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers(value)
    except ssl.SSLError:
        raise ValueError from None
    return value


def _verify_flags(value: str) -> list[ssl.VerifyFlags]:
    names = [name.strip() for name in value.strip("[]").split(",")]
    if not all(name in ssl.VerifyFlags.__members__ for name in names):
        raise ValueError
    return [ssl.VerifyFlags[name] for name in names]


@dataclass(frozen=True, slots=True)
class _Option:
    """What an option takes. `set_by_flowq`: many clients know it, and flowq has its own value."""

    read: Callable[[str], Any]
    wanted: str
    is_shown: bool = False
    is_tls: bool = False
    set_by_flowq: bool = False


_WORDS = "a text"
_OPTIONS: Mapping[str, _Option] = {
    "db": _Option(_number, "a number"),
    "username": _Option(_text, _WORDS),
    "password": _Option(_text, _WORDS),
    "client_name": _Option(_text, _WORDS),
    "socket_keepalive": _Option(_yes_or_no, "true or false", is_shown=True),
    "ssl_ca_certs": _Option(_text, "a file", is_tls=True),
    "ssl_ca_path": _Option(_text, "a folder", is_tls=True),
    "ssl_ca_data": _Option(str, "a certificate", is_tls=True),
    "ssl_certfile": _Option(_text, "a file", is_tls=True),
    "ssl_keyfile": _Option(_text, "a file", is_tls=True),
    "ssl_password": _Option(_text, _WORDS, is_tls=True),
    "ssl_cert_reqs": _Option(_requirement, "none, optional or required", is_shown=True, is_tls=True),
    "ssl_check_hostname": _Option(_yes_or_no, "true or false", is_shown=True, is_tls=True),
    "ssl_min_version": _Option(_tls_version, "1.2 or 1.3", is_shown=True, is_tls=True),
    "ssl_ciphers": _Option(_ciphers, "ciphers that OpenSSL knows", is_tls=True),
    "ssl_include_verify_flags": _Option(_verify_flags, "names such as VERIFY_X509_STRICT", is_tls=True),
    "ssl_exclude_verify_flags": _Option(_verify_flags, "names such as VERIFY_X509_STRICT", is_tls=True),
    # A URL is shared with other programs. What follows is read by them; flowq has deadlines and retries of its own.
    "socket_timeout": _Option(_seconds, "seconds", set_by_flowq=True),
    "socket_connect_timeout": _Option(_seconds, "seconds", set_by_flowq=True),
    "timeout": _Option(_seconds, "seconds", set_by_flowq=True),
    "health_check_interval": _Option(_seconds, "seconds", set_by_flowq=True),
    "max_connections": _Option(_number, "a number", set_by_flowq=True),
    "socket_read_size": _Option(_number, "a number", set_by_flowq=True),
    "retry_on_timeout": _Option(_yes_or_no, "true or false", set_by_flowq=True),
    "decode_responses": _Option(_yes_or_no, "true or false", set_by_flowq=True),
    "legacy_responses": _Option(_yes_or_no, "true or false", set_by_flowq=True),
    "encoding": _Option(_text, _WORDS, set_by_flowq=True),
    "encoding_errors": _Option(_text, _WORDS, set_by_flowq=True),
    "protocol": _Option(_protocol, "2 or 3", set_by_flowq=True),
    "tls": _Option(_yes_or_no, "true or false", is_shown=True),  # only as sentinel_tls
}
_NEAR = 0.75  # of 1: a name that is less like an option may be a secret
_ONLY_FOR_DATA = ("db", *(name for name, option in _OPTIONS.items() if option.set_by_flowq))
_OTHERS_SAY = dict.fromkeys(
    ("ssl", "tls", "use_ssl", "use_tls", "secure", "usessl"), "TLS is asked for by rediss:// at the beginning"
) | {
    "user": "did you mean username?",
    "pass": "did you mean password?",
    "database": "did you mean db?",
    "sslmode": "did you mean ssl_cert_reqs?",
    "ca_certs": "did you mean ssl_ca_certs?",
    "cafile": "did you mean ssl_ca_certs?",
    "insecure": "did you mean ssl_cert_reqs=none?",
    "sentinel_ssl": "did you mean sentinel_tls?",
}


def parse_options(query: str, scheme: str) -> Options:
    """Read the part behind "?" of a URL. Raises UsageError."""
    values: dict[str, Any] = {}
    sentinel: dict[str, Any] = {}
    names: list[str] = []
    for written in query.split("&") if query else ():
        name, equals, value = written.partition("=")
        option = _known(name, scheme, bool(equals))
        if name in names:
            raise UsageError(f"the Redis URL gives {name} twice", hint="leave out one of them")
        names.append(name)
        try:
            if not value:
                raise ValueError
            read = option.read(unquote_plus(value, errors="strict"))
        except ValueError:
            raise UsageError(
                f"the Redis URL has a value of {name} that cannot be used", hint=f"{name} takes {option.wanted}"
            ) from None
        if not option.set_by_flowq:
            (sentinel if name.startswith(SENTINEL) else values)[name.removeprefix(SENTINEL)] = read
    over_tls = sentinel.get("tls", scheme.startswith("rediss"))
    if not over_tls and (needs_tls := next((name for name in sentinel if name.startswith("ssl_")), "")):
        raise UsageError(
            f"the Redis URL has {SENTINEL}{needs_tls}, but its Sentinels are asked without TLS",
            hint=f"add {SENTINEL}tls=true",
        )
    return Options(
        login={name: values.pop(name) for name in ("username", "password") if name in values},
        database=values.pop("db", None),
        sentinel_tls=sentinel.pop("tls", None),
        values=values,
        sentinel=sentinel,
        written=tuple(names),
    )


def _known(name: str, scheme: str, has_value: bool) -> _Option:
    allowed = _allowed(scheme)
    if option := allowed.get(name):
        return option
    near = get_close_matches(name, allowed, 1, cutoff=_NEAR)
    is_a_name = near or name in _OTHERS_SAY or _plain(name) in _OPTIONS
    if not has_value or not is_a_name or not _NAME.fullmatch(name):  # it may be the rest of a password
        raise UsageError(
            "the Redis URL has an option that there is not",
            hint=f"write ? in a user or password as %3F; options: {', '.join(_own(allowed))}",
        )
    if _plain(name) in _OPTIONS and _OPTIONS[_plain(name)].is_tls:
        hint = f"{name} needs TLS: write rediss:// instead of redis://"
    elif name.startswith(SENTINEL) and _plain(name) in _OPTIONS and "sentinel" not in scheme:
        hint = f"{name} is for redis+sentinel:// alone"
    elif scheme == "unix" and name == "socket_keepalive":
        hint = "a Unix socket needs none"
    else:
        hint = _OTHERS_SAY.get(name) or f"did you mean {near[0]}?"
    raise UsageError(f'the Redis URL has an option "{name}" that cannot be used here', hint=hint)


def _allowed(scheme: str) -> Mapping[str, _Option]:
    """The options of a scheme, those of Sentinels with their prefix."""
    plain = {name: option for name, option in _OPTIONS.items() if name != "tls"}
    if not scheme.startswith("rediss"):
        plain = {name: option for name, option in plain.items() if not option.is_tls}
    if scheme == "unix":
        del plain["socket_keepalive"]
    if "sentinel" not in scheme:
        return plain
    return plain | {SENTINEL + name: option for name, option in _OPTIONS.items() if name not in _ONLY_FOR_DATA}


def _own(allowed: Mapping[str, _Option]) -> list[str]:
    return [name for name, option in allowed.items() if not option.set_by_flowq]


def _plain(name: str) -> str:
    return name if name in _OPTIONS else name.removeprefix(SENTINEL)
