"""Settings of single stages: read wherever they are written, and laid over what the code of a pipeline says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flowq.errors import PipelineError, Problem
from flowq.settings.mistakes import SettingsError, nearest

if TYPE_CHECKING:
    from flowq.graph.compilation.plan import Plan
    from flowq.graph.pipeline import Pipeline

Chosen = Mapping[str, Mapping[str, "StageSetting"]]
"""Stage -> option -> the setting that holds."""


@dataclass(frozen=True, slots=True)
class StageSetting:
    """One option of one stage. Variables are written in capitals, so those match without regard to case."""

    pipeline: str
    stage: str
    option: str
    value: Any
    origin: str

    @classmethod
    def read(cls, pipeline: str, stage: str, option: str, value: Any, origin: str) -> StageSetting:
        """Raises SettingsError for an option that does not exist, or a value that cannot be used."""
        from flowq.graph.compilation.tuning import UnknownOption, tunable  # most projects set nothing for stages

        try:
            return cls(pipeline, stage, option, tunable(option, value), origin)
        except UnknownOption as error:
            raise SettingsError(f'{origin}: a stage has no setting "{option}"', hint=str(error)) from None
        except (TypeError, ValueError) as error:
            raise SettingsError(f"{origin}: {option}: {error}") from None

    def is_about(self, pipeline: str, stage: str | None = None) -> bool:
        written, asked = (self.pipeline, self.stage), (pipeline, self.stage if stage is None else stage)
        if self.origin.startswith("env "):
            return tuple(map(str.upper, written)) == tuple(map(str.upper, asked))
        return written == asked


def stage_settings(pipeline: str, stage: str, options: Mapping[str, Any], origin: str) -> Iterable[StageSetting]:
    """What a table says about one stage."""
    from flowq.graph.compilation.tuning import flattened

    return (StageSetting.read(pipeline, stage, option, value, origin) for option, value in flattened(options))


def chosen(settings: Iterable[StageSetting], pipeline: str, plan: Plan) -> Chosen:
    """What is set for the stages of a pipeline, the last of each. Raises SettingsError for one that there is not."""
    names = [stage.name for stage in plan.consumers]
    found: dict[str, dict[str, StageSetting]] = {}
    for setting in settings:
        if not setting.is_about(pipeline):
            continue
        stage = next((name for name in names if setting.is_about(pipeline, name)), None)
        if stage is None:
            source = next((each.name for each in plan.sources if setting.is_about(pipeline, each.name)), None)
            what = (
                f'"{source}" is a source, and has no options'
                if source
                else f'"{pipeline}" has no stage "{setting.stage}"'
            )
            hint = nearest(setting.stage, names, f"its stages: {', '.join(names)}")
            raise SettingsError(f"{setting.origin}: {what}", hint=hint)
        found.setdefault(stage, {})[setting.option] = setting
    return found


def tuned(settings: Iterable[StageSetting], name: str, pipeline: Pipeline) -> Pipeline:
    """The pipeline that is known by that name, with what is set for its stages.

    Raises SettingsError as `chosen` does, and PipelineError where settings do not go with the code.
    """
    found = chosen(settings, name, pipeline.plan)
    if not found:
        return pipeline
    try:
        return pipeline.tuned({stage: {key: each.value for key, each in of.items()} for stage, of in found.items()})
    except PipelineError as error:
        raise PipelineError([_with_origins(problem, found) for problem in error.problems]) from None


def _with_origins(problem: Problem, found: Chosen) -> Problem:
    """The code alone was right, so a problem says what is set for the stage that it is about."""
    stage = re.split(r"\W", problem.text, maxsplit=1)[0]
    lines = [f"{stage}.{each.option} = {each.value}    {each.origin}" for each in found.get(stage, {}).values()]
    return replace(problem, details=(*problem.details, *lines))
