"""All settings of a project, laid over each other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from flowq.delivery.policy import Durability
from flowq.settings.environment import environment_layer
from flowq.settings.mistakes import SettingsError, nearest
from flowq.settings.pyproject import FILE, file_layers
from flowq.settings.stages import Chosen, StageSetting, chosen, tuned
from flowq.settings.values import FIELDS, READERS, Layer

if TYPE_CHECKING:
    from flowq.graph.compilation.plan import Plan
    from flowq.graph.pipeline import Pipeline


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
    - `claim_store`: folder or bucket of large bodies, shared by all workers; None: beside flowq's own server.
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
    claim_store: str | None = None
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
        layers = [*file_layers(cwd / FILE, profile), environment_layer(environ), Layer.of_flags(flags)]
        found: dict[str, Any] = {}
        origin = dict.fromkeys(READERS, "built-in")
        for layer in layers:
            for name, value in layer.values.items():
                found[name] = layer.read(name, value)
                origin[name] = layer.origin_of(name)
        return cls(
            **{FIELDS.get(name, name): value for name, value in found.items()},
            origin=MappingProxyType(origin),
            stages=tuple(setting for layer in layers for setting in layer.stages),
        )

    def check_pipelines(self, known: Iterable[str]) -> None:
        """Raise SettingsError where something is set for a pipeline that is not known."""
        names = list(known)
        for setting in self.stages:
            if not any(map(setting.is_about, names)):
                hint = nearest(setting.pipeline, names, f"pipelines: {', '.join(names)}")
                raise SettingsError(f'{setting.origin}: there is no pipeline "{setting.pipeline}"', hint=hint)

    def with_stages(self, more: Iterable[StageSetting]) -> Settings:
        """The same with options of stages on top of those that are set, as by flags."""
        return replace(self, stages=(*self.stages, *more))

    def of_stages(self, name: str, plan: Plan) -> Chosen:
        """What is set for the stages of the pipeline that is known by that name.

        Raises SettingsError where something is set for a stage that the pipeline does not have.
        """
        return chosen(self.stages, name, plan)

    def tuned(self, name: str, pipeline: Pipeline) -> Pipeline:
        """The pipeline that is known by that name, with what is set for its stages.

        Raises as `of_stages` does, and PipelineError where a setting does not go with the code.
        """
        return tuned(self.stages, name, pipeline)
