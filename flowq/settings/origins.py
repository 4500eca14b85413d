"""Where settings are written: flags, FLOWQ_* variables and pyproject.toml, read and merged by pydantic-settings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource, SettingsConfigDict

from flowq.delivery.policy import Durability
from flowq.durations import seconds
from flowq.errors import NotFound, Place, SettingsError, did_you_mean
from flowq.settings.project_file import FILE, ProjectFile, project_file, table_in
from flowq.settings.stages import StageSetting, stage_settings, stage_variable

NOT_SETTINGS = (
    "FLOWQ_PROFILE",
    "FLOWQ_DEBUG",
    "FLOWQ_REDIS_SERVER",
    "FLOWQ_METRICS",
    "FLOWQ_LOG_FORMAT",
    "FLOWQ_LOG_LEVEL",
    "FLOWQ_DASHBOARD_TOKEN",
)
# What Kubernetes sets in every container for a service named "flowq" or "flowq-redis".
_OF_A_SERVICE = re.compile(r"FLOWQ(_\w+)?_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP)(_\w+)?)?)")


def _entries(value: Any) -> Any:
    return [entry.strip() for entry in value.split(",")] if isinstance(value, str) else value


_Text = Annotated[str, Field(min_length=1)]
_Duration = Annotated[float, BeforeValidator(seconds)]


class Written(BaseSettings):
    """Each setting as it may be written. A description says which values can be used: errors never quote one."""

    model_config = SettingsConfigDict(
        extra="forbid",
        str_strip_whitespace=True,
        env_prefix="FLOWQ_",
        env_prefix_target="all",
        env_ignore_empty=True,
        enable_decoding=False,
    )

    redis: _Text | None = Field(None, description='a URL, such as "redis://localhost:6379/0", or "embedded"')
    servers: Annotated[int, BeforeValidator(str)] = Field(1, ge=1, le=64, description="a whole number, 1 to 64")
    pipelines: Annotated[tuple[_Text, ...], BeforeValidator(_entries)] = Field(
        ("pipelines",), min_length=1, description='a folder, or a list of folders and "module:attribute" entries'
    )
    namespace: str = Field("flowq", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="1 to 64 letters, digits, _ . or -")
    lease_seconds: _Duration = Field(15.0, gt=0, alias="lease", description='a duration above 0, such as 15 or "1m"')
    grace_seconds: _Duration = Field(30.0, alias="grace", description='a duration, such as 30 or "1m"')
    workers: Annotated[int, BeforeValidator(str)] = Field(1, ge=0, description="a whole number, 0 or more")
    durability: Durability = Field("local", description='"local" or "replicated"')
    claim_store: _Text | None = Field(
        None, description="a folder or a URL such as s3://BUCKET/PREFIX, the same for all workers"
    )

    # of the table dashboard
    dashboard_listen: _Text = Field(":8080", description='an address, such as ":8080" or "0.0.0.0:8080"')
    dashboard_allow_hosts: Annotated[tuple[_Text, ...], BeforeValidator(_entries)] = Field(
        (), description='the name of a host, such as "flowq.example.org", or a list of names'
    )
    dashboard_allow_actions: bool = Field(False, description="true or false")
    dashboard_show_bodies: bool | None = Field(None, description="true or false")
    dashboard_show: Annotated[tuple[_Text, ...], BeforeValidator(_entries)] = Field(
        (), description='a field of messages, such as "url" or "order.id", or a list of fields'
    )
    dashboard_log_url: str = Field("", pattern=r"^(https?://\S+)?$", description="an https:// address")
    dashboard_history_seconds: _Duration = Field(
        3600.0, ge=0, alias="dashboard_history", description='a duration, such as 600 or "1h"'
    )

    def __init__(self, *layers: _Table | _Environment) -> None:
        super().__init__(_build_sources=(layers, {}))


NAMES = {field.alias or name: name for name, field in Written.model_fields.items()}
_RENAMED = {"claim_folder": "claim_store"}
"""Earlier names of settings, which still work."""


class _Table(InitSettingsSource):
    """Settings that are already values: the flags, or a table of pyproject.toml."""

    def __init__(
        self,
        values: Mapping[str, Any],
        origin: str,
        file: ProjectFile | None = None,
        stages: Sequence[StageSetting] = (),
    ) -> None:
        super().__init__(Written, dict(values))
        self._origin, self._file, self.stages = origin, file, stages

    def origin(self, name: str) -> str:
        return self._origin.format(name)

    def place(self, name: str) -> Place | None:
        """The line of a key, searched for in the text: tomllib does not report it."""
        if self._file is None:
            return None
        text = self._file.text
        start = max(text.find("[tool.flowq.dashboard]" if _of_dashboard(name) else "[tool.flowq"), 0)
        name = _of_dashboard(name) or name
        found = re.compile(rf'^\s*["\']?{re.escape(name)}["\']?\s*=', re.MULTILINE).search(text, start)
        return Place(self._file.shown, text.count("\n", 0, found.end()) + 1) if found else None


class _Environment(EnvSettingsSource):
    """FLOWQ_* variables. REDIS_URL, which others set as well, and earlier names count where today's is not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        # Only upper-case names: pydantic-settings ignores the case, and would read flowq_workers as well.
        own = {
            name: text
            for name, text in environ.items()
            if text and name == name.upper() and not _OF_A_SERVICE.fullmatch(name)
        }
        _refuse_near_misses(own)
        self.stages = [
            stage_variable(*each) for each in own.items() if each[0].startswith("FLOWQ_") and "__" in each[0]
        ]
        others = {"redis": ("FLOWQ_REDIS_URL", "REDIS_URL")}
        others |= {name: (f"FLOWQ_{name.upper()}", f"FLOWQ_{old.upper()}") for old, name in _RENAMED.items()}
        self._variables = {name: first if first in own else second for name, (first, second) in others.items()}
        self._own = own | {f"FLOWQ_{name.upper()}": own.get(used, "") for name, used in self._variables.items()}
        super().__init__(Written)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): text or None for name, text in self._own.items()}

    def origin(self, name: str) -> str:
        return f"env {self._variables.get(name, f'FLOWQ_{name.upper()}')}"

    def place(self, name: str) -> None:
        return None


def merged(
    folder: Path, environ: Mapping[str, str], flags: Mapping[str, Any], profile: str | None, as_flag: str
) -> tuple[dict[str, Any], Mapping[str, str], tuple[StageSetting, ...], Path | None]:
    """The values, the origin of each, what is set for stages, and the file. Raises SettingsError and NotFound."""
    file = project_file(folder)
    base, profiles = _layers(file)
    if profile is not None and profile not in profiles:
        known = f"profiles: {', '.join(profiles)}" if profiles else f"add [tool.flowq.profiles.{profile}] to {FILE}"
        raise NotFound(f'no profile "{profile}" in {FILE}', hint=did_you_mean(profile, profiles, known))
    given = {name: value for name, value in flags.items() if value is not None}
    chosen = [profiles[profile]] if profile is not None else []
    layers: list[_Table | _Environment] = [_Table(given, as_flag), _Environment(environ), *chosen, base]
    for layer in (*layers, *profiles.values()):
        _check(layer)
    values = Written(*layers)
    written = [(layer, layer()) for layer in layers]
    origin = {name: next((layer.origin(name) for layer, own in written if name in own), "built-in") for name in NAMES}
    of_stages = tuple(setting for layer in reversed(layers) for setting in layer.stages)
    return dict(values), origin, of_stages, file.path if file else None


def _check(layer: _Table | _Environment) -> None:
    """Each layer alone: a mistake that another layer hides, or in another profile, is a mistake too."""
    try:
        Written(layer)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        if name in NAMES:
            text, hint = f"{written_name(name)} must be {Written.model_fields[NAMES[name]].description}", ""
        else:
            text, known = f'there is no setting "{written_name(name)}"', [written_name(each) for each in NAMES]
            hint = did_you_mean(written_name(name).lower(), known, f"settings: {', '.join(known)}")
            if name == "dashboard_token":
                hint = "a token is a secret: set FLOWQ_DASHBOARD_TOKEN instead"
        raise SettingsError(f"{layer.origin(name)}: {text}", hint=hint, place=layer.place(name)) from None


def written_name(name: str) -> str:
    """How a setting is called in [tool.flowq].

    >>> written_name("dashboard_listen"), written_name("claim_store")
    ('dashboard.listen', 'claim_store')
    """
    return f"dashboard.{of_dashboard}" if (of_dashboard := _of_dashboard(name)) else name


def _of_dashboard(name: str) -> str:
    return name.partition("dashboard_")[2] if name.startswith("dashboard_") else ""


def _refuse_near_misses(names: Iterable[str]) -> None:
    """A variable that resembles ours is a mistake; one that does not may belong to another program."""
    settings = [name for name in (*NAMES, *_RENAMED) if name != "redis"]
    known = ["FLOWQ_REDIS_URL", *NOT_SETTINGS, *(f"FLOWQ_{name.upper()}" for name in settings)]
    for name in names:
        if name.startswith("FLOWQ_") and "__" not in name and name not in known:
            # without the prefix: with it, every name resembles every other
            hint = did_you_mean(name.removeprefix("FLOWQ_"), [each.removeprefix("FLOWQ_") for each in known])
            if hint:
                hint = hint.replace('"', "FLOWQ_", 1).replace('"', "")
                raise SettingsError(f"env {name}: there is no such setting", hint=hint)


def _layers(file: ProjectFile | None) -> tuple[_Table, Mapping[str, _Table]]:
    """[tool.flowq] and its profiles."""
    table = dict(table_in(file.tables["tool"]["flowq"], "tool.flowq")) if file else {}
    profiles = table_in(table.pop("profiles", {}), "tool.flowq.profiles")
    named = {name: _layer(each, f"tool.flowq.profiles.{name}", file) for name, each in profiles.items()}
    return _layer(table, "tool.flowq", file), named


def _layer(table: Any, name: str, file: ProjectFile | None) -> _Table:
    """`pipelines` is a place, or a table of pipelines in which `path` is the place: TOML cannot have both."""
    values = {_RENAMED.get(key, key): value for key, value in table_in(table, name).items()}
    values |= {
        f"dashboard_{key}": value for key, value in table_in(values.pop("dashboard", {}), f"{name}.dashboard").items()
    }
    stages: list[StageSetting] = []
    if isinstance(values.get("pipelines"), dict):
        pipelines = dict(values.pop("pipelines"))
        if not isinstance(pipelines.get("path", {}), dict):
            values["pipelines"] = pipelines.pop("path")
        for pipeline, options in pipelines.items():
            stages += _stages(pipeline, options, f"{name}.pipelines.{pipeline}")
    return _Table(values, f"{FILE} [{name}]".replace("{", "{{").replace("}", "}}"), file, stages)


def _stages(pipeline: str, options: Any, name: str) -> Iterator[StageSetting]:
    for option, stages in table_in(options, name).items():
        if option != "stages":
            yield StageSetting.read(pipeline, "", option, stages, f"{FILE} [{name}]")
            continue
        for stage, settings in table_in(stages, f"{name}.stages").items():
            table = f"{name}.stages.{stage}"
            yield from stage_settings(pipeline, stage, table_in(settings, table), f"{FILE} [{table}]")
