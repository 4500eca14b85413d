"""Runs sources: what they give is published in bulk, and waits where an edge is full."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from flowq.broker.calls import insist
from flowq.broker.redis_streams import Broker
from flowq.delivery.codec import explain
from flowq.delivery.settlement import Output
from flowq.errors import FlowqError, UsageError
from flowq.graph.emission import Emission
from flowq.graph.plan import Plan, StagePlan

log = logging.getLogger("flowq.runtime")

_MOST_PER_CALL = 1000
_LONGEST_GATHER_SECONDS = 0.05
_FULL_PAUSE_SECONDS = 0.1


class SourceFailed(FlowqError):
    """A source raised an exception, which is the cause. What it had given before is kept."""

    code = "FQ302"


def source_arguments(stage: StagePlan, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a source from what the user gave, converted to the annotated types.

    Raises UsageError for one that is missing or does not fit. Arguments of other sources are passed over.
    """
    hints = get_type_hints(stage.handler.call, include_extras=True)
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(stage.handler.call).parameters.items():
        if name in stage.handler.resources or name == stage.handler.context_parameter:
            continue
        if name in given:
            try:
                arguments[name] = TypeAdapter(hints.get(name, str)).validate_python(given[name])
            except ValidationError as error:
                why = explain(error).removeprefix("message: ")
                raise UsageError(f"-a {name}={given[name]} does not fit: {why}", place=stage.place) from None
        elif parameter.default is inspect.Parameter.empty:
            raise UsageError(
                f'source "{stage.name}" needs the argument "{name}"',
                hint=f"add  -a {name}=...",
                place=stage.place,
            )
    return arguments


def reject_unknown_arguments(plan: Plan, given: Mapping[str, Any]) -> None:
    """Raise UsageError for an argument that no source takes."""
    taken = {name for stage in plan.sources for name in inspect.signature(stage.handler.call).parameters}
    for name in given:
        if name not in taken:
            hint = "they take: " + ", ".join(sorted(taken)) if taken else "they take none"
            raise UsageError(f'no source of "{plan.name}" takes an argument "{name}"', hint=hint)


class SourceRunner:
    """Runs one source from beginning to end, and notes in Redis that it has finished.

    A source that is broken off starts from its beginning in the next run: what it gives may come twice.
    """

    def __init__(
        self,
        stage: StagePlan,
        plan: Plan,
        broker: Broker,
        next_id: Callable[[], bytes],
        *,
        limit: int | None = None,
    ) -> None:
        self._stage = stage
        self._plan = plan
        self._broker = broker
        self._next_id = next_id
        self._limit = limit
        self._emission = Emission(stage, plan, next_id)
        self._gathered: defaultdict[str, list[Output]] = defaultdict(list)
        self._publishing = asyncio.Lock()

    async def run(self, arguments: Mapping[str, Any], resources: Mapping[str, Any], signature: str) -> None:
        """Publish everything the source gives, unless an earlier worker of the same run already has."""
        name = self._stage.name
        if await insist(lambda: self._broker.is_source_finished(name, signature), what=f"starting {name}"):
            return
        flusher = asyncio.create_task(self._flush_now_and_then())
        try:
            await self._publish_all(arguments, resources)
        except FlowqError:
            raise
        except (Exception, SystemExit) as error:  # the user's code
            raise SourceFailed(
                f'source "{name}" failed: {error!r}',
                place=self._stage.place,
                hint="run it again when that is mended: it starts from its beginning, and what it gave is kept",
            ) from error
        finally:
            flusher.cancel()
        await insist(lambda: self._broker.source_finished(name, signature), what=f"finishing {name}")

    async def _publish_all(self, arguments: Mapping[str, Any], resources: Mapping[str, Any]) -> None:
        given = self._stage.handler.call(**arguments, **resources)
        values = given if hasattr(given, "__aiter__") else _from_thread(iter(given))
        n = 0
        async for value in values:
            if self._limit is not None and n >= self._limit:
                break
            n += 1
            await self._add(value)
        await self._flush()

    async def _add(self, value: Any) -> None:
        for output in self._emission.entering(value):
            gathered = self._gathered[output.edge]
            gathered.append(output)
            if len(gathered) >= _MOST_PER_CALL:
                await self._flush()

    async def _flush_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_LONGEST_GATHER_SECONDS)
            await self._flush()

    async def _flush(self) -> None:
        async with self._publishing:
            gathered, self._gathered = self._gathered, defaultdict(list)
            for edge, outputs in gathered.items():
                # A call is refused or taken as a whole: small ones keep a small edge near its size.
                most = max(1, min(_MOST_PER_CALL, self._plan.edge_by_name[edge].maxsize // 10))
                for first in range(0, len(outputs), most):
                    await self._publish(edge, outputs[first : first + most])

    async def _publish(self, edge: str, outputs: Sequence[Output]) -> None:
        plan = self._plan.edge_by_name[edge]
        deduplicated_by = plan.target if self._plan.stage(plan.target).dedup is not None else None
        token = self._next_id().decode()

        async def attempt() -> bool:
            published = await self._broker.publish(
                edge,
                outputs,
                deduplicated_by=deduplicated_by,
                token=token,
                maxsize=plan.maxsize,
                source=self._stage.name,
            )
            return published.full_at is None

        while not await insist(attempt, what=f"publishing from {self._stage.name}"):  # noqa: ASYNC110  (others empty it)
            await asyncio.sleep(_FULL_PAUSE_SECONDS)


async def _from_thread(values: Iterator[Any]) -> AsyncIterator[Any]:
    """The values of an iterator that may block, each soon after a thread has taken it."""
    taken: deque[Any] = deque()

    def take_some() -> bool:
        """Take values for a moment; whether there may be more."""
        until = time.monotonic() + _LONGEST_GATHER_SECONDS
        n = 0
        for value in itertools.islice(values, _MOST_PER_CALL):
            taken.append(value)
            n += 1
            if time.monotonic() > until:
                return True
        return n == _MOST_PER_CALL

    loop = asyncio.get_running_loop()
    more = True
    while more:
        taking = loop.run_in_executor(None, take_some)  # no task: SystemExit in a task would end the loop
        while taken or not taking.done():
            if not taken:  # the next value may be hours away, but those before it must not wait for it
                await asyncio.wait([taking], timeout=_LONGEST_GATHER_SECONDS)
            while taken:
                yield taken.popleft()
        more = taking.result()
