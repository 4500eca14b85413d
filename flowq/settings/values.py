"""Single settings: from what is written in one place to what is used, or to what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

from flowq.delivery.durations import seconds
from flowq.delivery.policy import Durability
from flowq.errors import Place
from flowq.settings.mistakes import SettingsError, nearest
from flowq.settings.stages import StageSetting

# Readers raise ValueError, and never quote a URL.


def _url(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError('a URL is needed, such as "redis://localhost:6379/0"')
    return value.strip()


def _places(value: Any) -> tuple[str, ...]:
    entries: list[Any] = value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]
    if not entries or not all(isinstance(entry, str) and entry for entry in entries):
        raise ValueError('a folder is needed, or a list of folders and "module:attribute" entries')
    return tuple(entries)


def _key_prefix(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", value):
        raise ValueError("1 to 64 letters, digits, _ . or - are needed")
    return value


def _duration(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError('a duration is needed: seconds, or text such as "10s"')
    return seconds(float(value) if isinstance(value, str) and value.replace(".", "", 1).isdigit() else value)


def _duration_above_zero(value: Any) -> float:
    if (duration := _duration(value)) == 0:
        raise ValueError("above 0 is needed")
    return duration


def _count(value: Any, *, least: int = 0) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not text.isdecimal() or int(text) < least:
        raise ValueError(f"a whole number is needed, {least} or more")
    return int(text)


def _store(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a folder or a URL such as s3://BUCKET/PREFIX is needed, the same for all workers")
    return value.strip()


def _durability(value: Any) -> Durability:
    if value not in get_args(Durability):
        raise ValueError('"local" or "replicated" is needed')
    return cast("Durability", value)


READERS: Mapping[str, Callable[[Any], Any]] = {
    "redis": _url,
    "pipelines": _places,
    "namespace": _key_prefix,
    "lease": _duration_above_zero,
    "grace": _duration,
    "workers": _count,
    "durability": _durability,
    "claim_store": _store,
}
RENAMED = {"claim_folder": "claim_store"}
"""Earlier names of settings, which still work."""
FIELDS = {"lease": "lease_seconds", "grace": "grace_seconds"}
VARIABLES = {name: f"FLOWQ_{name.upper()}" for name in READERS} | {"redis": "FLOWQ_REDIS_URL"}


@dataclass(frozen=True)
class Layer:
    """The settings of one place, as written there."""

    values: Mapping[str, Any]
    origin_of: Callable[[str], str]
    place_of: Callable[[str], Place | None] = lambda name: None
    stages: tuple[StageSetting, ...] = ()

    @classmethod
    def of_flags(cls, flags: Mapping[str, Any]) -> Layer:
        return cls(flags, lambda name: f"flag --{name}")

    def read(self, name: str, value: Any) -> Any:
        origin, place = self.origin_of(name), self.place_of(name)
        if name not in READERS:
            raise SettingsError(f'{origin}: there is no setting "{name}"', hint=nearest(name, READERS), place=place)
        return _value(READERS[name], value, f"{origin}: {name}", place)


def _value(read: Callable[[Any], Any], value: Any, what: str, place: Place | None = None) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise SettingsError(f"{what}: {error}", place=place) from None
