"""Settings of a project: built-in, then [tool.flowq] in pyproject.toml, then FLOWQ_* variables, then flags."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast, get_args

from flowq.delivery.durations import seconds
from flowq.delivery.policy import Durability
from flowq.errors import NotFound, Place, UsageError

FILE = "pyproject.toml"


class SettingsError(UsageError):
    """A setting that does not exist, or a value that cannot be used."""

    code = "FQ202"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a project has set, and where each value came from.

    - `redis`: URL of the server; None for the one that flowq runs itself. May hold a password: not in the repr.
    - `pipelines`: folders that hold pipelines, and "module:attribute" entries.
    - `namespace`: first part of all Redis keys, so that two projects can share one server.
    - `lease_seconds`: how long after its last sign of life a worker counts as dead.
    - `grace_seconds`: how long running messages may take to finish when a worker is stopped.
    - `workers`: number of worker processes.
    - `durability`: when a message that enters a pipeline counts as stored: "local" or "replicated".
    - `origin`: setting -> "built-in", "pyproject.toml [tool.flowq]", "env FLOWQ_REDIS_URL", "flag --redis".

    >>> settings = Settings.load(Path(), {"FLOWQ_LEASE": "1m"}, {"workers": 4})
    >>> settings.lease_seconds, settings.origin["lease"], settings.origin["workers"]
    (60.0, 'env FLOWQ_LEASE', 'flag --workers')
    """

    redis: str | None = field(default=None, repr=False)
    pipelines: tuple[str, ...] = ("pipelines",)
    namespace: str = "flowq"
    lease_seconds: float = 15.0
    grace_seconds: float = 30.0
    workers: int = 1
    durability: Durability = "local"
    origin: Mapping[str, str] = field(default_factory=dict[str, str])
    stages: tuple[StageSetting, ...] = ()

    @classmethod
    def load(
        cls,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
        flags: Mapping[str, Any] | None = None,
        *,
        profile: str | None = None,
    ) -> Settings:
        """Read `cwd`/pyproject.toml, if there is one, and lay variables and flags over it.

        `cwd` and `environ` are those of this process if not given. `flags` are named like the settings; None
        means that a flag was not given. `profile` is one of [tool.flowq.profiles], else FLOWQ_PROFILE says.
        Raises SettingsError for the first setting that is wrong, NotFound for an unknown profile.
        """
        cwd = Path.cwd() if cwd is None else cwd
        environ = os.environ if environ is None else environ
        flags = {name: value for name, value in (flags or {}).items() if value is not None}
        profile = profile or environ.get("FLOWQ_PROFILE") or None
        layers = [*_file_layers(cwd / FILE, profile), _environment(environ), _Layer.of_flags(flags)]
        found: dict[str, Any] = {}
        origin = dict.fromkeys(_READ, "built-in")
        for layer in layers:
            for name, value in layer.values.items():
                found[name] = layer.read(name, value)
                origin[name] = layer.origin_of(name)
        return cls(
            **{_FIELDS.get(name, name): value for name, value in found.items()},
            origin=MappingProxyType(origin),
            stages=tuple(setting for layer in layers for setting in layer.stages),
        )

    def check_pipelines(self, known: Iterable[str]) -> None:
        """Raise SettingsError where something is set for a pipeline that is not known."""
        names = list(known)
        for setting in self.stages:
            if not any(map(setting.is_about, names)):
                hint = _nearest(setting.pipeline, names, f"pipelines: {', '.join(names)}")
                raise SettingsError(f'{setting.origin}: there is no pipeline "{setting.pipeline}"', hint=hint)

    def concurrency(self, pipeline: str, stages: Iterable[str]) -> dict[str, int]:
        """The concurrency that is set for the stages of a pipeline; raises as `of_stages` does."""
        return {name: setting.concurrency for name, setting in self.of_stages(pipeline, stages).items()}

    def of_stages(self, pipeline: str, stages: Iterable[str]) -> dict[str, StageSetting]:
        """What is set for the stages of a pipeline; what a stage itself says stays where nothing is.

        Raises SettingsError where something is set for a stage that the pipeline does not have.
        """
        names = list(stages)
        found: dict[str, StageSetting] = {}
        for setting in self.stages:
            if not setting.is_about(pipeline):
                continue
            matching = [name for name in names if setting.is_about(pipeline, name)]
            if not matching:
                hint = _nearest(setting.stage, names, f"its stages: {', '.join(names)}")
                raise SettingsError(f'{setting.origin}: "{pipeline}" has no such stage', hint=hint)
            found[matching[0]] = setting
        return found


@dataclass(frozen=True, slots=True)
class StageSetting:
    """The concurrency of one stage. Variables are written in capitals, so those match without regard to case."""

    pipeline: str
    stage: str
    concurrency: int
    origin: str

    def is_about(self, pipeline: str, stage: str | None = None) -> bool:
        written, asked = (self.pipeline, self.stage), (pipeline, self.stage if stage is None else stage)
        if self.origin.startswith("env "):
            return tuple(map(str.upper, written)) == tuple(map(str.upper, asked))
        return written == asked


# One setting: from what is written to what is used. They raise ValueError, and never quote a URL.


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


def _durability(value: Any) -> Durability:
    if value not in get_args(Durability):
        raise ValueError('"local" or "replicated" is needed')
    return cast("Durability", value)


_READ: Mapping[str, Callable[[Any], Any]] = {
    "redis": _url,
    "pipelines": _places,
    "namespace": _key_prefix,
    "lease": _duration_above_zero,
    "grace": _duration,
    "workers": _count,
    "durability": _durability,
}
_FIELDS = {"lease": "lease_seconds", "grace": "grace_seconds"}
_VARIABLES = {name: f"FLOWQ_{name.upper()}" for name in _READ} | {"redis": "FLOWQ_REDIS_URL"}


@dataclass(frozen=True)
class _Layer:
    """The settings of one place, as written there."""

    values: Mapping[str, Any]
    origin_of: Callable[[str], str]
    place_of: Callable[[str], Place | None] = lambda name: None
    stages: tuple[StageSetting, ...] = ()

    @classmethod
    def of_flags(cls, flags: Mapping[str, Any]) -> _Layer:
        return cls(flags, lambda name: f"flag --{name}")

    def read(self, name: str, value: Any) -> Any:
        origin, place = self.origin_of(name), self.place_of(name)
        if name not in _READ:
            raise SettingsError(f'{origin}: there is no setting "{name}"', hint=_nearest(name, _READ), place=place)
        return _value(_READ[name], value, f"{origin}: {name}", place)


def _value(read: Callable[[Any], Any], value: Any, what: str, place: Place | None = None) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise SettingsError(f"{what}: {error}", place=place) from None


# pyproject.toml


def _file_layers(file: Path, profile: str | None) -> list[_Layer]:
    """[tool.flowq], then the chosen profile. The other profiles are read as well, for the mistakes in them."""
    try:
        text = file.read_text(encoding="utf-8")
        tables: Any = tomllib.loads(text)
    except FileNotFoundError:
        text, tables = "", {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        at_line = re.search(r"at line (\d+)", str(error))
        place = Place(FILE, int(at_line[1])) if at_line else None
        raise SettingsError(f"cannot read {FILE}: {error}", place=place) from None
    table = dict(_table(_table(tables.get("tool", {}), "tool").get("flowq", {}), "tool.flowq"))
    profiles = _table(table.pop("profiles", {}), "tool.flowq.profiles")
    base = _file_layer(table, "tool.flowq", text)
    by_name = {name: _file_layer(_table(p, name), f"tool.flowq.profiles.{name}", text) for name, p in profiles.items()}
    if profile is None:
        return [base]
    if profile not in by_name:
        known = f"profiles: {', '.join(by_name)}" if by_name else f"add [tool.flowq.profiles.{profile}] to {FILE}"
        raise NotFound(f'no profile "{profile}" in {FILE}', hint=_nearest(profile, by_name, known))
    return [base, by_name[profile]]


def _file_layer(table: Mapping[str, Any], name: str, text: str) -> _Layer:
    """`pipelines` is a place, or a table of pipelines in which `path` is the place: TOML cannot have both."""
    values = dict(table)
    origin = f"{FILE} [{name}]"
    stages: list[StageSetting] = []
    if isinstance(values.get("pipelines"), dict):
        pipelines = dict(values.pop("pipelines"))
        if not isinstance(pipelines.get("path", {}), dict):
            values["pipelines"] = pipelines.pop("path")
        for pipeline, options in pipelines.items():
            stages += _stages_of(pipeline, _table(options, f"{name}.pipelines.{pipeline}"), f"{name}.pipelines")
    layer = _Layer(values, lambda _: origin, lambda key: _line_of(key, text), tuple(stages))
    for key, value in values.items():
        layer.read(key, value)
    return layer


def _stages_of(pipeline: str, options: Mapping[str, Any], name: str) -> Iterable[StageSetting]:
    for option, stages in options.items():
        if option != "stages":
            raise SettingsError(f'{FILE} [{name}.{pipeline}]: there is no setting "{option}"', hint="stages.NAME")
        for stage, settings in _table(stages, f"{name}.{pipeline}.stages").items():
            origin = f"{FILE} [{name}.{pipeline}.stages.{stage}]"
            for key, value in _table(settings, stage).items():
                if key != "concurrency":
                    hint = _nearest(key, ["concurrency"])
                    raise SettingsError(f'{origin}: a stage has no setting "{key}"', hint=hint)
                yield StageSetting(pipeline, stage, _stage_concurrency(value, origin), origin)


def _stage_concurrency(value: Any, origin: str) -> int:
    concurrency: int = _value(lambda given: _count(given, least=1), value, f"{origin}: concurrency")
    return concurrency


def _table(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"{FILE}: {name} must be a table", hint=f"[{name}]")
    return cast("dict[str, Any]", value)


def _line_of(key: str, text: str) -> Place | None:
    """Where a key first stands after the table began: tomllib does not tell."""
    start = max(text.find("[tool.flowq"), 0)
    found = re.compile(rf'^\s*["\']?{re.escape(key)}["\']?\s*=', re.MULTILINE).search(text, start)
    return Place(FILE, text.count("\n", 0, found.end()) + 1) if found else None


# The environment

_STAGE_VARIABLE = re.compile(r"FLOWQ_(\w+?)__(\w+)__([A-Z]+)")
_NOT_SETTINGS = {"FLOWQ_PROFILE", "FLOWQ_DEBUG", "FLOWQ_REDIS_SERVER", "FLOWQ_METRICS", "FLOWQ_LOG_FORMAT"}
# What Kubernetes sets in every container for a service named "flowq" or "flowq-redis".
_OF_A_SERVICE = re.compile(r"FLOWQ(_\w+)?_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP)(_\w+)?)?)")


def _environment(environ: Mapping[str, str]) -> _Layer:
    set_here = {name: text for name, text in environ.items() if text}
    taken = {setting: variable for setting, variable in _VARIABLES.items() if variable in set_here}
    if "REDIS_URL" in set_here:
        taken.setdefault("redis", "REDIS_URL")
    stages = [_stage_variable(name, text) for name, text in set_here.items() if _STAGE_VARIABLE.fullmatch(name)]
    _refuse_near_misses(set_here)
    values: dict[str, Any] = {name: set_here[variable] for name, variable in taken.items()}
    if "pipelines" in values:
        values["pipelines"] = [entry.strip() for entry in values["pipelines"].split(",")]
    return _Layer(values, lambda name: f"env {taken[name]}", stages=tuple(stages))


def _stage_variable(name: str, text: str) -> StageSetting:
    written = _STAGE_VARIABLE.fullmatch(name)
    assert written is not None
    if written[3] != "CONCURRENCY":
        hint = f"FLOWQ_{written[1]}__{written[2]}__CONCURRENCY"
        raise SettingsError(f'env {name}: a stage has no setting "{written[3].lower()}"', hint=hint)
    return StageSetting(written[1], written[2], _stage_concurrency(text, f"env {name}"), f"env {name}")


def _refuse_near_misses(names: Iterable[str]) -> None:
    """A variable that resembles ours is a mistake; one that does not may belong to somebody else."""
    known = _NOT_SETTINGS | set(_VARIABLES.values())
    for name in names:
        if name in known or "__" in name or not name.startswith("FLOWQ_") or _OF_A_SERVICE.fullmatch(name):
            continue
        near = get_close_matches(
            name.removeprefix("FLOWQ_"), [variable.removeprefix("FLOWQ_") for variable in known], 1
        )
        if near:
            raise SettingsError(f"env {name}: there is no such setting", hint=f"did you mean FLOWQ_{near[0]}?")


def _nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    known = list(known)
    near = get_close_matches(name.lower(), known, 1)
    return f'did you mean "{near[0]}"?' if near else otherwise or f"settings: {', '.join(known)}"
