"""Settings in pyproject.toml: the table [tool.flowq] and its profiles."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from flowq.errors import NotFound, Place
from flowq.settings.mistakes import SettingsError, nearest
from flowq.settings.stages import StageSetting, stage_settings
from flowq.settings.values import RENAMED, Layer

FILE = "pyproject.toml"
_BOTH = 'where [tool.flowq.pipelines.NAME] follows, the folder is  pipelines.path = "..."'


def file_layers(file: Path, profile: str | None) -> list[Layer]:
    """[tool.flowq], then the chosen profile. The other profiles are read as well, for the mistakes in them."""
    text, tables = "", cast("Any", {})
    try:
        text = file.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        at_line = re.search(r"at line (\d+)", str(error))
        place = Place(FILE, int(at_line[1])) if at_line else None
        hint = _BOTH if "overwrite" in str(error) and "[tool.flowq.pipelines" in text else ""
        raise SettingsError(f"cannot read {FILE}: {error}", hint=hint, place=place) from None
    table = dict(_table(_table(tables.get("tool", {}), "tool").get("flowq", {}), "tool.flowq"))
    profiles = _table(table.pop("profiles", {}), "tool.flowq.profiles")
    base = _file_layer(table, "tool.flowq", text)
    by_name = {name: _file_layer(_table(p, name), f"tool.flowq.profiles.{name}", text) for name, p in profiles.items()}
    if profile is None:
        return [base]
    if profile not in by_name:
        known = f"profiles: {', '.join(by_name)}" if by_name else f"add [tool.flowq.profiles.{profile}] to {FILE}"
        raise NotFound(f'no profile "{profile}" in {FILE}', hint=nearest(profile, by_name, known))
    return [base, by_name[profile]]


def _file_layer(table: Mapping[str, Any], name: str, text: str) -> Layer:
    """`pipelines` is a place, or a table of pipelines in which `path` is the place: TOML cannot have both."""
    values = {RENAMED.get(key, key): value for key, value in table.items()}
    origin = f"{FILE} [{name}]"
    stages: list[StageSetting] = []
    if isinstance(values.get("pipelines"), dict):
        pipelines = dict(values.pop("pipelines"))
        if not isinstance(pipelines.get("path", {}), dict):
            values["pipelines"] = pipelines.pop("path")
        for pipeline, options in pipelines.items():
            stages += _stages_of(pipeline, _table(options, f"{name}.pipelines.{pipeline}"), f"{name}.pipelines")
    layer = Layer(values, lambda _: origin, lambda key: _line_of(key, text), tuple(stages))
    for key, value in values.items():
        layer.read(key, value)
    return layer


def _stages_of(pipeline: str, options: Mapping[str, Any], name: str) -> Iterable[StageSetting]:
    for option, stages in options.items():
        if option != "stages":
            raise SettingsError(f'{FILE} [{name}.{pipeline}]: there is no setting "{option}"', hint="stages.NAME")
        for stage, settings in _table(stages, f"{name}.{pipeline}.stages").items():
            origin = f"{FILE} [{name}.{pipeline}.stages.{stage}]"
            yield from stage_settings(pipeline, stage, _table(settings, f"{name}.{pipeline}.stages.{stage}"), origin)


def _table(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"{FILE}: {name} must be a table", hint=f"[{name}]")
    return cast("dict[str, Any]", value)


def _line_of(key: str, text: str) -> Place | None:
    """Where a key first stands after the table began: tomllib does not tell."""
    start = max(text.find("[tool.flowq"), 0)
    found = re.compile(rf'^\s*["\']?{re.escape(key)}["\']?\s*=', re.MULTILINE).search(text, start)
    return Place(FILE, text.count("\n", 0, found.end()) + 1) if found else None
