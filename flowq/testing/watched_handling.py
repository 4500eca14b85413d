"""Handlers of a simulated worker: as in production, but each call is noted, and faults may strike around it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from flowq.delivery.message import Delivery, Row
from flowq.delivery.settlement import Outcome, Output
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.compilation.routing import OutputRouter
from flowq.graph.declaration.context import Emitted
from flowq.runtime.handlers.handling import Handling
from flowq.runtime.handlers.observation import Observer
from flowq.testing.journal import Journal


class HandlerFaults(Protocol):
    """What may go wrong around a handler."""

    async def before_handler(self, stage: str) -> None:
        """Called, and awaited, when a handler is about to start."""
        ...

    def after_handler(self, stage: str) -> None:
        """The same when it has returned or raised, and nothing of that is settled."""
        ...


class Watching(Observer):
    """Watches the handlers of one worker."""

    def __init__(self, worker: str, journal: Journal, faults: HandlerFaults) -> None:
        self._worker = worker
        self._journal = journal
        self._faults = faults

    def new_handling(self, *parts: Any, **options: Any) -> Handling:
        """As in `Observer`."""
        return WatchedHandling(self._worker, self._journal, self._faults, *parts, **options)

    @contextmanager
    def handling(self, stage: StagePlan, delivery: Delivery, n_messages: int) -> Generator[Callable[[Outcome], None]]:
        """As in `Observer`, for a stage with `process=True` on a real clock: then only the outcome is known."""
        self._journal.received(self._worker, delivery)
        self._journal.called(stage, self._worker, delivery, None)
        yield lambda outcome: self._journal.ended(self._worker, delivery, outcome)

    def stamped(self, outputs: Sequence[Output], delivery: Delivery) -> Sequence[Output]:
        """As in `Observer`: nothing is added."""
        return outputs


class WatchedHandling(Handling):
    """`Handling` whose calls, values and outcomes are noted."""

    def __init__(
        self,
        worker: str,
        journal: Journal,
        faults: HandlerFaults,
        stage: StagePlan,
        plan: Plan,
        router: OutputRouter,
        **options: Any,
    ) -> None:
        super().__init__(stage, plan, _NotingRouter(router, partial(journal.returned, worker, router.here)), **options)
        self._worker = worker
        self._journal = journal
        self._faults = faults
        self._shard = router.here
        self._call, self._awaits = partial(self._call_among_faults, self._call, self._awaits), True

    async def _call_among_faults(self, call: Callable[..., Any], awaits: bool, *given: Any) -> Any:
        await self._faults.before_handler(self.stage.name)
        try:
            result = call(*given)
            return await result if awaits else result
        finally:
            self._faults.after_handler(self.stage.name)

    def handle(self, row: Row) -> Any:
        """As in `Handling`."""
        self._journal.received(self._worker, row, shard=self._shard)
        return super().handle(row)

    def decode(self, row: Row) -> Any:
        """As in `Handling`."""
        if self.stage.batch:  # otherwise `handle` has noted it
            self._journal.received(self._worker, row, shard=self._shard)
        return super().decode(row)

    async def handle_message(self, message: Any, row: Row) -> Outcome:
        """As in `Handling`."""
        self._journal.called(self.stage, self._worker, row, message, shard=self._shard)
        try:
            outcome = await super().handle_message(message, row)
        except BaseException:
            self._journal.ended(self._worker, row, None, shard=self._shard)
            raise
        self._journal.ended(self._worker, row, outcome, shard=self._shard)
        return outcome


class _NotingRouter(OutputRouter):
    """An output router that tells which value became which outputs."""

    def __init__(self, router: OutputRouter, note: Callable[[Row, Any, Sequence[Output]], None]) -> None:
        self.__dict__.update(router.__dict__)
        self._watched = router  # it may be of a class of its own
        self._note = note

    def outputs(self, values: Iterable[Any], row: Row) -> list[Output]:
        """As in `OutputRouter`."""
        outputs: list[Output] = []
        for value in values:
            if value is not None:
                sent = self._watched.outputs((value,), row)
                self._note(row, value, sent)
                outputs += sent
        return outputs

    def emitted(self, emitted: Sequence[Emitted], row: Row) -> list[Output]:
        """As in `OutputRouter`."""
        outputs: list[Output] = []
        for item in emitted:
            sent = self._watched.emitted([item], row)
            self._note(row, item.message, sent)
            outputs += sent
        return outputs
