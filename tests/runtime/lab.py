"""Runs the pipelines of a test on a server of its choice, and inspects what they leave behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import flowq
from flowq.broker.client.connection import Dialer, Link, UrlDialer
from flowq.broker.client.memory import MemoryDialer
from flowq.broker.client.retrying import retry_until_available
from flowq.broker.keys import Keys
from flowq.broker.open import claim_store_for
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import StageBalance
from flowq.broker.workers import Workers
from flowq.dead_letters.letter import DeadLetterRecord
from flowq.inspector import Inspector
from flowq.runtime.process.in_process import until_drained
from flowq.runtime.process.runner import Runner
from flowq.runtime.run import Run, RunOptions, Summary
from flowq.runtime.waiting import first_to_end

LONGEST_RUN_SECONDS = 120.0


class Item(BaseModel):
    """The message of most tests."""

    n: int = 0


def items(n: int) -> list[Item]:
    """As many, numbered from 0."""
    return [Item(n=i) for i in range(n)]


class Other(BaseModel):
    """A second type, where a test needs one."""

    text: str = ""


class _LabPublisher(flowq.Publisher):
    """A publisher over the broker of a laboratory."""

    def __init__(self, pipeline: flowq.Pipeline, broker: Broker) -> None:
        super().__init__(pipeline, redis="memory")
        self._given = broker

    def _opening(self) -> AbstractAsyncContextManager[Broker]:
        return nullcontext(self._given)


@dataclass
class Lab:
    """A namespace of its own on one server. `url` may lead through a proxy."""

    dialer: Dialer
    namespace: str
    claims: str | Path | None = None  # the store of large bodies
    _brokers: list[Broker] = field(default_factory=list)

    @classmethod
    def at(cls, url: str, namespace: str) -> Lab:
        return cls(MemoryDialer() if url == "memory" else UrlDialer(url), namespace)

    def broker(self, pipeline: flowq.Pipeline) -> Broker:
        """A broker that is closed with the laboratory."""
        keys = Keys(self.namespace, pipeline.name)
        broker = Broker(self.dialer, keys, claims=claim_store_for(keys, self.claims))
        self._brokers.append(broker)
        return broker

    async def close(self) -> None:
        for broker in self._brokers:
            await broker.close()

    async def command(self, *command: Any) -> Any:
        """Send one command to the server itself."""
        link = Link(self.dialer)
        try:
            return await link.call(*command, timeout_seconds=60)
        finally:
            await link.close()

    # Running

    async def push(self, pipeline: flowq.Pipeline, stage: Any, *messages: Any, **options: Any) -> None:
        """Publish messages to the inlet of a stage, as a program would."""
        async with _LabPublisher(pipeline, self.broker(pipeline)) as publisher:
            await publisher.push_many(stage, messages, **options)

    @asynccontextmanager
    async def running(self, pipeline: flowq.Pipeline, **options: Any) -> AsyncIterator[Runner]:
        """All stages of a pipeline without its sources, running in this process until the block ends."""
        runner = Runner(pipeline.plan, self.broker(pipeline), RunOptions(**options))
        try:
            await runner.start()
            yield runner
        finally:
            await runner.stop()

    async def run(self, pipeline: flowq.Pipeline, *messages: Any, **options: Any) -> Summary:
        """Push messages to the first stage, run the pipeline until it is drained, and check what always holds then."""
        async with asyncio.timeout(LONGEST_RUN_SECONDS):
            if messages:
                await self.push(pipeline, pipeline.plan.consumers[0].name, *messages)
            broker, loop = self.broker(pipeline), asyncio.get_running_loop()
            run, began = Run(pipeline.plan, broker), loop.time()
            run_options = RunOptions(**options)
            runner = Runner(pipeline.plan, broker, run_options, sources=await run.begin(run_options))
            try:
                await runner.start()
                await first_to_end(runner.ended, until_drained(run, runner))
            finally:
                await runner.stop()
            summary = run.summary(
                await retry_until_available(run.world, run.snapshot, what="the test"), loop.time() - began
            )
        assert summary.drained
        for name, balance in summary.stages.items():
            assert balance.adds_up, (name, balance)
            assert balance.outstanding == 0, (name, balance)
        await retry_until_available(
            broker.world, lambda: self._check_nothing_is_left(pipeline, broker), what="the test"
        )
        return summary

    async def _check_nothing_is_left(self, pipeline: flowq.Pipeline, broker: Broker) -> None:
        edges = [edge.name for edge in pipeline.plan.edges]
        consumers = await Workers(broker).consumers_of(edges)
        assert not any(consumers.values()), consumers
        assert await Workers(broker).registered() == {}
        assert await Workers(broker).death_records() == {}

    # Looking

    async def balance(self, pipeline: flowq.Pipeline) -> Mapping[str, StageBalance]:
        return await Inspector(pipeline.plan, self.broker(pipeline)).balance()

    async def letters(self, pipeline: flowq.Pipeline, stage: Any) -> list[DeadLetterRecord]:
        return await Inspector(pipeline.plan, self.broker(pipeline)).dead_letters(stage.name, limit=10_000)

    async def letter(self, pipeline: flowq.Pipeline, stage: Any) -> DeadLetterRecord:
        (letter,) = await self.letters(pipeline, stage)
        return letter
