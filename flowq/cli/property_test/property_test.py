"""The property test of a pipeline: under every schedule and fault, each message is handled, and nothing is left."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

from flowq.cli.property_test.fakes import OwnPart
from flowq.cli.property_test.feeding import Feed
from flowq.graph.pipeline import Pipeline
from flowq.testing import Harness, Report, explore

LONG_ENOUGH_SECONDS = 10.0
"""For how long seeds are tried if their number is not given."""


@dataclass(slots=True)
class StageTally:
    """What one stage has done in all seeds: calls of its handler, dead letters, and the first error of these."""

    calls: int = 0
    dead: int = 0
    error: str = ""


@dataclass(slots=True)
class Tally:
    """What has happened in all seeds."""

    stages: dict[str, StageTally]
    fed: int = 0


@dataclass(slots=True)
class PropertyTest:
    """One exploration: `feed` goes into `pipeline`, `size` messages per stage and seed, `workers` run it.

    `redis`: the URL of a server; otherwise a fake one.
    """

    pipeline: Pipeline
    feed: Feed
    own: OwnPart
    size: int
    workers: int
    redis: str | None
    tally: Tally = field(init=False)

    def __post_init__(self) -> None:
        self.tally = Tally({stage.name: StageTally() for stage in self.pipeline.plan.consumers})

    async def run(self, *, seeds: int | None, start_seed: int, on_progress: Callable[[Report], None]) -> Report:
        """Try `seeds` of them, or as many as ten seconds allow. Raises Found for the first that fails."""
        report = Report(self.pipeline.name)
        while report.seeds < seeds if seeds is not None else report.seconds < LONG_ENOUGH_SECONDS:
            tried = await explore(
                self.pipeline,
                self._build,
                seeds=1,
                start_seed=start_seed + report.seeds,
                size=self.size,
                workers=self.workers,
                resources=self.own.fakes,
                redis=self.redis,
            )
            report.seeds += tried.seeds
            report.fired += tried.fired
            report.seconds += tried.seconds
            on_progress(report)
        return report

    async def _build(self, h: Harness, size: int) -> None:
        for source, arguments in self.feed.sources.items():
            await h.run(source, **arguments)
            self.tally.fed += h.balance()[source].ok
        for stage in self.feed.messages:
            messages = self.feed.of_seed(stage, h.seed, size)
            await h.feed(stage, *messages)
            self.tally.fed += len(messages)
        await h.drain()
        self._count(h)
        if self.own.check is not None and inspect.isawaitable(checking := self.own.check(h)):
            await checking

    def _count(self, h: Harness) -> None:
        for stage, tally in self.tally.stages.items():
            tally.calls += len(h.calls(stage))
        for letter in h.dead():
            tally = self.tally.stages[letter.stage]
            tally.dead += 1
            tally.error = tally.error or letter.error or letter.reason
