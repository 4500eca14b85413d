"""What a supervisor tells a worker process to run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from flowq.delivery.policy import Durability
from flowq.graph.compilation.tuning import Tuning
from flowq.runtime.run import RunOptions


@dataclass(frozen=True, slots=True)
class Instructions:
    """What a supervisor sends to a worker. Goes through a pipe, never the command line: a URL may hold a password."""

    root: str
    project: str
    module: str
    attribute: str
    pipeline: str
    redis: str
    namespace: str
    run_id: str
    stages: Sequence[str]
    sources: Sequence[str]
    tuning: Tuning
    arguments: dict[str, Any]
    lease_seconds: float
    grace_seconds: float
    shards: int = 1
    only_shards: Sequence[int] = ()  # empty: those that are assigned
    durability: Durability = "local"
    claim_store: str | None = None
    own_data: str | None = None  # the data folder of the server that flowq runs itself
    n_own_servers: int = 1  # in that folder
    quarantined: bool = False
    only_sources: bool = False
    stdin_fd: int | None = None  # the standard input of the supervisor, for a source that reads it
    log_format: str = "text"
    log_levels: Mapping[str, str] = field(default_factory=dict[str, str])
    traces: bool = False
    drains: bool = True
    columns: int | None = None  # of the terminal to which the supervisor passes on what this worker prints

    def encode(self) -> bytes:
        """One line of JSON."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps(values, default=dict).encode()  # not orjson: names of folders may not be UTF-8

    @property
    def options(self) -> RunOptions:
        return RunOptions(
            self.stages, self.arguments, self.lease_seconds, self.grace_seconds, self.drains, self.only_shards
        )
