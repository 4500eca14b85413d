"""Settings in the environment: FLOWQ_* variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from flowq.settings.mistakes import SettingsError
from flowq.settings.stages import StageSetting
from flowq.settings.values import RENAMED, VARIABLES, Layer

_NOT_SETTINGS = {"FLOWQ_PROFILE", "FLOWQ_DEBUG", "FLOWQ_REDIS_SERVER", "FLOWQ_METRICS", "FLOWQ_LOG_FORMAT"}
_OTHER_NAMES = {"redis": "REDIS_URL"} | {name: f"FLOWQ_{old.upper()}" for old, name in RENAMED.items()}
# What Kubernetes sets in every container for a service named "flowq" or "flowq-redis".
_OF_A_SERVICE = re.compile(r"FLOWQ(_\w+)?_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP)(_\w+)?)?)")


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """What is set by variables. One that is empty is not set."""
    set_here = {name: text for name, text in environ.items() if text}
    taken = {setting: variable for setting, variable in VARIABLES.items() if variable in set_here}
    for setting, variable in _OTHER_NAMES.items():
        if variable in set_here:
            taken.setdefault(setting, variable)
    stages = [_stage_variable(name, text) for name, text in set_here.items() if _is_for_a_stage(name)]
    _refuse_near_misses(set_here)
    values: dict[str, Any] = {name: set_here[variable] for name, variable in taken.items()}
    if "pipelines" in values:
        values["pipelines"] = [entry.strip() for entry in values["pipelines"].split(",")]
    return Layer(values, lambda name: f"env {taken[name]}", stages=tuple(stages))


def _is_for_a_stage(name: str) -> bool:
    return name.startswith("FLOWQ_") and "__" in name and not _OF_A_SERVICE.fullmatch(name)


def _stage_variable(name: str, text: str) -> StageSetting:
    """FLOWQ_PIPELINE__STAGE__OPTION, or FLOWQ_PIPELINE__STAGE__RETRY__ATTEMPTS. A stage may have "__" in its name."""
    pipeline, *words = name.removeprefix("FLOWQ_").split("__")
    n_words = 2 if len(words) > 2 and words[-2] in ("RETRY", "RATE") else 1
    stage, option = "__".join(words[:-n_words]), ".".join(words[-n_words:]).lower()
    if not pipeline or not stage or not option:
        hint = "write FLOWQ_PIPELINE__STAGE__OPTION, such as FLOWQ_SCRAPE__FETCH__CONCURRENCY"
        raise SettingsError(f"env {name}: there is no such setting", hint=hint)
    return StageSetting.read(pipeline, stage, option, text, f"env {name}")


def _refuse_near_misses(names: Iterable[str]) -> None:
    """A variable that resembles ours is a mistake; one that does not may belong to somebody else."""
    known = _NOT_SETTINGS | {*VARIABLES.values(), *_OTHER_NAMES.values()}
    for name in names:
        if name in known or "__" in name or not name.startswith("FLOWQ_") or _OF_A_SERVICE.fullmatch(name):
            continue
        near = get_close_matches(
            name.removeprefix("FLOWQ_"), [variable.removeprefix("FLOWQ_") for variable in known], 1
        )
        if near:
            raise SettingsError(f"env {name}: there is no such setting", hint=f"did you mean FLOWQ_{near[0]}?")
