"""Settings of single stages: read from anywhere, they override the options in the code of a pipeline."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flowq.errors import PipelineError, Problem, SettingsError, did_you_mean

if TYPE_CHECKING:
    from flowq.graph.compilation.plan import Plan
    from flowq.graph.pipeline import Pipeline

SHARDS = "shards"
"""The one option of a pipeline that can be set."""
Chosen = Mapping[str, Mapping[str, "StageSetting"]]
"""Stage -> option -> the setting that applies."""


@dataclass(frozen=True, slots=True)
class StageSetting:
    """One option of one stage; or of a pipeline, then `stage` is empty.

    Names in variables are in capitals, so they match without regard to case.
    """

    pipeline: str
    stage: str
    option: str
    value: Any
    origin: str

    @classmethod
    def read(cls, pipeline: str, stage: str, option: str, value: Any, origin: str) -> StageSetting:
        """Raises SettingsError for an option that does not exist, or a value that cannot be used."""
        if not stage:
            return cls(pipeline, stage, option, _of_pipeline(option, value, origin), origin)
        from flowq.graph.compilation.tuning import UnknownOption, tunable  # most projects set nothing for stages

        try:
            return cls(pipeline, stage, option, tunable(option, value), origin)
        except UnknownOption as error:
            raise SettingsError(f'{origin}: a stage has no setting "{option}"', hint=str(error)) from None
        except (TypeError, ValueError) as error:
            raise SettingsError(f"{origin}: {option}: {error}") from None

    @property
    def is_of_pipeline(self) -> bool:
        """Whether it is about a pipeline, not about one of its stages."""
        return not self.stage

    def is_about(self, pipeline: str, stage: str | None = None) -> bool:
        written, asked = (self.pipeline, self.stage), (pipeline, self.stage if stage is None else stage)
        if self.origin.startswith("env "):
            return tuple(map(str.upper, written)) == tuple(map(str.upper, asked))
        return written == asked


def _of_pipeline(option: str, value: Any, origin: str) -> int:
    from flowq.graph.declaration.option_values import number_of_shards

    if option != SHARDS:
        raise SettingsError(f'{origin}: there is no setting "{option}"', hint=f"{SHARDS}, or stages.NAME")
    try:
        return number_of_shards(int(value) if isinstance(value, str) and value.isdecimal() else value)
    except ValueError as error:
        raise SettingsError(f"{origin}: {option}: {error}") from None


def stage_settings(pipeline: str, stage: str, options: Mapping[str, Any], origin: str) -> Iterable[StageSetting]:
    """What a table sets for one stage."""
    from flowq.graph.compilation.tuning import flattened

    return (StageSetting.read(pipeline, stage, option, value, origin) for option, value in flattened(options))


def stage_variable(name: str, text: str) -> StageSetting:
    """FLOWQ_PIPELINE__STAGE__OPTION, or FLOWQ_PIPELINE__STAGE__RETRY__ATTEMPTS. A stage may have "__" in its name.

    Or FLOWQ_PIPELINE__SHARDS.
    """
    pipeline, *words = name.removeprefix("FLOWQ_").split("__")
    if pipeline and words == [SHARDS.upper()]:
        return StageSetting.read(pipeline, "", SHARDS, text, f"env {name}")
    n_words = 2 if len(words) > 2 and words[-2] in ("RETRY", "RATE") else 1
    stage, option = "__".join(words[:-n_words]), ".".join(words[-n_words:]).lower()
    if not pipeline or not stage or not option:
        hint = "write FLOWQ_PIPELINE__STAGE__OPTION, such as FLOWQ_SCRAPE__FETCH__CONCURRENCY"
        raise SettingsError(f"env {name}: there is no such setting", hint=hint)
    return StageSetting.read(pipeline, stage, option, text, f"env {name}")


def chosen(settings: Iterable[StageSetting], pipeline: str, plan: Plan) -> Chosen:
    """The settings that apply to the stages of a pipeline: later ones win. Raises SettingsError for unknown stages."""
    names = [stage.name for stage in plan.consumers]
    found: dict[str, dict[str, StageSetting]] = {}
    for setting in settings:
        if setting.is_of_pipeline or not setting.is_about(pipeline):
            continue
        stage = next((name for name in names if setting.is_about(pipeline, name)), None)
        if stage is None:
            source = next((each.name for each in plan.sources if setting.is_about(pipeline, each.name)), None)
            is_source = f'"{source}" is a source, and has no options'
            text = is_source if source else f'"{pipeline}" has no stage "{setting.stage}"'
            hint = did_you_mean(setting.stage.lower(), names, f"its stages: {', '.join(names)}")
            raise SettingsError(f"{setting.origin}: {text}", hint=hint)
        found.setdefault(stage, {})[setting.option] = setting
    return found


def shards_of(settings: Iterable[StageSetting], pipeline: str) -> StageSetting | None:
    """What is set for the number of shards of a pipeline: the last one wins."""
    found = [each for each in settings if each.is_of_pipeline and each.is_about(pipeline)]
    return found[-1] if found else None


def tuned(settings: Iterable[StageSetting], name: str, pipeline: Pipeline) -> Pipeline:
    """The pipeline with its settings. Raises as `chosen` does, and PipelineError where one contradicts the code."""
    settings = tuple(settings)
    found, shards = chosen(settings, name, pipeline.plan), shards_of(settings, name)
    if not found and shards is None:
        return pipeline
    options = {stage: {key: each.value for key, each in of.items()} for stage, of in found.items()}
    try:
        return pipeline.tuned(options, shards=None if shards is None else shards.value)
    except PipelineError as error:
        raise PipelineError([_with_origins(problem, found) for problem in error.problems]) from None


def _with_origins(problem: Problem, found: Chosen) -> Problem:
    """The code alone was correct, so a problem lists what is set for its stage."""
    stage = re.split(r"\W", problem.text, maxsplit=1)[0]
    lines = [f"{stage}.{each.option} = {each.value}    {each.origin}" for each in found.get(stage, {}).values()]
    return replace(problem, details=(*problem.details, *lines))
