"""The settings of a project, as the rest of flowq sees them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowq.errors import NotConfigured, SettingsError, did_you_mean
from flowq.settings.page_settings import PageSettings
from flowq.settings.project_file import current_folder
from flowq.settings.stages import Chosen, StageSetting, chosen, shards_of, tuned

if TYPE_CHECKING:
    from flowq.delivery.policy import Durability
    from flowq.graph.compilation.plan import Plan
    from flowq.graph.pipeline import Pipeline

EMBEDDED = "embedded"
MEMORY = "memory"
DATA_FOLDER = ".flowq"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a project has set, and where each value came from.

    - `root`: the folder of the project; relative paths of all settings belong to it. `file`: its pyproject.toml.
    - `redis`: URL of the server; "embedded" for the one that flowq runs itself, as the command line does where nothing
      is set (None), or "embedded:FOLDER" for another data folder than .flowq. May hold a password: not in the repr.
    - `servers`: how many servers flowq runs itself, to try out on one machine what several nodes do: the shards of a
      pipeline lie on them in turn.
    - `pipelines`: folders that hold pipelines, and "module:attribute" entries.
    - `namespace`: first part of all Redis keys, so that two projects can share one server.
    - `lease_seconds`: how long after its last sign of life a worker counts as dead.
    - `grace_seconds`: how long running messages may take to finish when a worker is stopped.
    - `workers`: number of worker processes.
    - `durability`: when a message that enters a pipeline counts as stored: "local" or "replicated".
    - `claim_store`: folder or bucket of large bodies, shared by all workers; None: beside flowq's own server.
    - `dashboard`: what is set for the web page.
    - `origin`: setting -> "built-in", "pyproject.toml [tool.flowq]", "env FLOWQ_REDIS_URL", "flag --redis".

    >>> settings = Settings.load(Path(), {"FLOWQ_LEASE": "1m"}, {"workers": 4})
    >>> settings.lease_seconds, settings.origin["lease"], settings.origin["workers"]
    (60.0, 'env FLOWQ_LEASE', 'flag --workers')
    """

    root: Path
    file: Path | None
    redis: str | None = field(repr=False)
    servers: int
    pipelines: tuple[str, ...]
    namespace: str
    lease_seconds: float
    grace_seconds: float
    workers: int
    durability: Durability
    claim_store: str | None
    dashboard: PageSettings
    origin: Mapping[str, str]
    stages: tuple[StageSetting, ...]

    @classmethod
    def load(
        cls,
        folder: Path | None = None,
        environ: Mapping[str, str] | None = None,
        flags: Mapping[str, Any] | None = None,
        *,
        profile: str | None = None,
        as_flag: str = "flag --{}",
    ) -> Settings:
        """Read the pyproject.toml of the project that `folder` is in, and lay variables and flags over it.

        It is the nearest one upwards that has [tool.flowq], and its folder is the root of the project; without one,
        `folder` is. `folder` and `environ` default to those of this process. `flags` are named like the settings; None
        means that a flag was not given, and `as_flag` is how errors name one. `profile` is one of
        [tool.flowq.profiles], by default the one in FLOWQ_PROFILE.
        Raises SettingsError for the first setting that is wrong, NotFound for an unknown profile.
        """
        from flowq.settings.origins import merged  # pydantic-settings is slow to import, and `flowq --help` needs none

        environ = os.environ if environ is None else environ
        profile = profile or environ.get("FLOWQ_PROFILE") or None
        folder = current_folder() if folder is None else folder.absolute()
        values, origin, stages, file = merged(folder, environ, flags or {}, profile, as_flag)
        root = file.parent if file else folder
        store = values["claim_store"]
        if store is not None and "://" not in store:
            values["claim_store"] = str(root / store)
        of_dashboard = [name for name in values if name.startswith("dashboard_")]
        dashboard = PageSettings(**{name.removeprefix("dashboard_"): values.pop(name) for name in of_dashboard})
        return cls(**values, dashboard=dashboard, root=root, file=file, origin=origin, stages=stages)

    @classmethod
    def of_program(
        cls,
        *,
        redis: str | None = None,
        namespace: str | None = None,
        durability: Durability | None = None,
        claim_store: str | Path | None = None,
        lease: float | str | None = None,
        grace: float | str | None = None,
    ) -> Settings:
        """The settings of a program: its arguments, then variables, then the project that its current folder is in.

        Raises NotConfigured where none of them names a Redis, and what `load` raises.
        """
        arguments = {"redis": redis, "namespace": namespace, "durability": durability, "lease": lease, "grace": grace}
        store = None if claim_store is None else str(claim_store)
        settings = cls.load(flags={**arguments, "claim_store": store}, as_flag="argument {}=")
        if settings.redis is None:
            found = f"no redis in {settings.file}" if settings.file else f"no [tool.flowq] upwards from {settings.root}"
            raise NotConfigured(
                "no Redis is configured for this program",
                detail=f"no argument redis=, neither FLOWQ_REDIS_URL nor REDIS_URL, {found}",
                hint='set one of them to a URL, or to "embedded": flowq then runs a server for this project',
            )
        return settings

    @property
    def is_embedded(self) -> bool:
        """Whether flowq runs the server itself, in `data_folder`."""
        return self.redis is None or self.redis.partition(":")[0] == EMBEDDED

    @property
    def is_in_memory(self) -> bool:
        """Whether the server lives in this process, where no other process can reach it."""
        return self.redis == MEMORY

    @property
    def data_folder(self) -> Path:
        """What flowq keeps for this project: the data of its own server, and large bodies."""
        chosen = (self.redis or "").partition(":")[2] if self.is_embedded else ""
        return self.root / (chosen or DATA_FOLDER)

    def check_pipelines(self, known: Iterable[str]) -> None:
        """Raise SettingsError where something is set for an unknown pipeline."""
        names = list(known)
        for setting in self.stages:
            if not any(map(setting.is_about, names)):
                hint = did_you_mean(setting.pipeline.lower(), names, f"pipelines: {', '.join(names)}")
                raise SettingsError(f'{setting.origin}: there is no pipeline "{setting.pipeline}"', hint=hint)

    def with_stages(self, more: Iterable[StageSetting]) -> Settings:
        """The same with further options of stages, from flags for instance, which win over those that are set."""
        return replace(self, stages=(*self.stages, *more))

    def of_shards(self, name: str) -> StageSetting | None:
        """What is set for the number of shards of the pipeline `name`."""
        return shards_of(self.stages, name)

    def of_stages(self, name: str, plan: Plan) -> Chosen:
        """What is set for the stages of the pipeline `name`. Raises SettingsError for a stage that it does not have."""
        return chosen(self.stages, name, plan)

    def tuned(self, name: str, pipeline: Pipeline) -> Pipeline:
        """The pipeline `name` with what is set for its stages.

        Raises as `of_stages` does, and PipelineError where a setting contradicts the code.
        """
        return tuned(self.stages, name, pipeline)
