"""The options of a Redis URL: their names, the values they accept, and which may be shown."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote_plus

from flowq.errors import UsageError, did_you_mean

SENTINEL = "sentinel_"
_NAME = re.compile(r"[a-z_]{1,40}")
_YES, _NO = ("true", "1", "yes", "y", "t"), ("false", "0", "no", "n", "f")
_TLS_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one URL: `values` as redis-py accepts them, `sentinel` those for Sentinels only."""

    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    sentinel: Mapping[str, Any] = field(default_factory=dict[str, Any])
    login: Mapping[str, str] = field(default_factory=dict[str, str])
    database: int | None = None
    sentinel_tls: bool | None = None
    written: tuple[str, ...] = ()

    def shown(self) -> str:
        """For people: only numbers, booleans and choices are shown, since other values may be secret."""
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
    if value not in ("2", "3"):
        raise ValueError
    return int(value)


def _requirement(value: str) -> str:
    """Celery writes `CERT_NONE`."""
    word = value.lower().removeprefix("cert_")
    if word not in ("none", "optional", "required"):
        raise ValueError
    return word


def _tls_version(value: str) -> ssl.TLSVersion:
    """redis-py also accepts the numbers of the versions: 771 and 772."""
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
    """How to read an option. `set_by_flowq`: checked and then ignored, since flowq has its own value."""

    read: Callable[[str], Any]
    wanted: str
    is_shown: bool = False
    is_tls: bool = False
    set_by_flowq: bool = False


_BOOLEAN = _Option(_yes_or_no, "true or false", is_shown=True)
_TEXT = _Option(_text, "a text")
_TLS_FILE = _Option(_text, "a file", is_tls=True)
_TLS_FLAGS = _Option(_verify_flags, "names such as VERIFY_X509_STRICT", is_tls=True)
# Other clients that share the URL read these; flowq has its own deadlines, retries and pools.
_SECONDS_OF_OTHERS = _Option(_seconds, "a number of seconds", set_by_flowq=True)
_NUMBER_OF_OTHERS = _Option(_number, "a number", set_by_flowq=True)
_BOOLEAN_OF_OTHERS = replace(_BOOLEAN, is_shown=False, set_by_flowq=True)
_TEXT_OF_OTHERS = replace(_TEXT, set_by_flowq=True)

_OPTIONS: Mapping[str, _Option] = {
    "db": _Option(_number, "a number"),
    **dict.fromkeys(("username", "password", "client_name"), _TEXT),
    "socket_keepalive": _BOOLEAN,
    "ssl_ca_certs": _TLS_FILE,
    "ssl_ca_path": replace(_TLS_FILE, wanted="a folder"),
    "ssl_ca_data": _Option(str, "a certificate", is_tls=True),
    **dict.fromkeys(("ssl_certfile", "ssl_keyfile"), _TLS_FILE),
    "ssl_password": replace(_TEXT, is_tls=True),
    "ssl_cert_reqs": _Option(_requirement, "none, optional or required", is_shown=True, is_tls=True),
    "ssl_check_hostname": replace(_BOOLEAN, is_tls=True),
    "ssl_min_version": _Option(_tls_version, "1.2 or 1.3", is_shown=True, is_tls=True),
    "ssl_ciphers": _Option(_ciphers, "ciphers that OpenSSL knows", is_tls=True),
    **dict.fromkeys(("ssl_include_verify_flags", "ssl_exclude_verify_flags"), _TLS_FLAGS),
    **dict.fromkeys(("socket_timeout", "socket_connect_timeout", "timeout"), _SECONDS_OF_OTHERS),
    "health_check_interval": _SECONDS_OF_OTHERS,
    **dict.fromkeys(("max_connections", "socket_read_size"), _NUMBER_OF_OTHERS),
    **dict.fromkeys(("retry_on_timeout", "decode_responses", "legacy_responses"), _BOOLEAN_OF_OTHERS),
    **dict.fromkeys(("encoding", "encoding_errors"), _TEXT_OF_OTHERS),
    "protocol": _Option(_protocol, "2 or 3", set_by_flowq=True),
    "tls": _BOOLEAN,  # only as sentinel_tls
}
_NEAR = 0.75  # similarity, of 1: a name less similar to an option may be a secret
_ONLY_FOR_DATA = ("db", *(name for name, option in _OPTIONS.items() if option.set_by_flowq))
_NAMES_ELSEWHERE = dict.fromkeys(
    ("ssl", "tls", "use_ssl", "use_tls", "secure", "usessl"), "for TLS, begin the URL with rediss://"
) | {
    "user": 'did you mean "username"?',
    "pass": 'did you mean "password"?',
    "database": 'did you mean "db"?',
    "sslmode": 'did you mean "ssl_cert_reqs"?',
    "ca_certs": 'did you mean "ssl_ca_certs"?',
    "cafile": 'did you mean "ssl_ca_certs"?',
    "insecure": 'did you mean "ssl_cert_reqs=none"?',
    "sentinel_ssl": 'did you mean "sentinel_tls"?',
}


def parse_options(query: str, scheme: str) -> Options:
    """Parse the query of a URL. Raises UsageError."""
    values: dict[str, Any] = {}
    sentinel: dict[str, Any] = {}
    names: list[str] = []
    for written in query.split("&") if query else ():
        name, equals, value = written.partition("=")
        option = _known(name, scheme, bool(equals))
        if name in names:
            raise UsageError(f"the Redis URL has {name} twice", hint="remove one of them")
        names.append(name)
        try:
            if not value:
                raise ValueError
            read = option.read(unquote_plus(value, errors="strict"))
        except ValueError:
            raise UsageError(
                f"the Redis URL has an invalid value of {name}", hint=f"{name} must be {option.wanted}"
            ) from None
        if not option.set_by_flowq:
            (sentinel if name.startswith(SENTINEL) else values)[name.removeprefix(SENTINEL)] = read
    over_tls = sentinel.get("tls", scheme.startswith("rediss"))
    if not over_tls and (needs_tls := next((name for name in sentinel if name.startswith("ssl_")), "")):
        raise UsageError(
            f"the Redis URL has {SENTINEL}{needs_tls}, but connects to its Sentinels without TLS",
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
    near = did_you_mean(name, allowed, similarity=_NEAR)
    is_a_name = near or name in _NAMES_ELSEWHERE or _plain(name) in _OPTIONS
    if not has_value or not is_a_name or not _NAME.fullmatch(name):  # it may be the rest of a password
        raise UsageError(
            "the Redis URL has an unknown option",
            hint=f"write ? in a user or password as %3F; options: {', '.join(_own(allowed))}",
        )
    if _plain(name) in _OPTIONS and _OPTIONS[_plain(name)].is_tls:
        hint = f"{name} needs TLS: write rediss:// instead of redis://"
    elif name.startswith(SENTINEL) and _plain(name) in _OPTIONS and "sentinel" not in scheme:
        hint = f"{name} is only for redis+sentinel://"
    elif scheme == "unix" and name == "socket_keepalive":
        hint = "a Unix socket has no keep-alive"
    else:
        hint = _NAMES_ELSEWHERE.get(name, near)
    raise UsageError(f'the Redis URL cannot have the option "{name}"', hint=hint)


def _allowed(scheme: str) -> Mapping[str, _Option]:
    """The options that a scheme accepts, those for Sentinels with their prefix."""
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
