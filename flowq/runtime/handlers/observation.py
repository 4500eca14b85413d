"""Observed handlers, for traces: chosen once, when a worker starts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from flowq.delivery.message import Delivery, Row
from flowq.delivery.settlement import Outcome, Output, Succeeded
from flowq.errors import DecodeError
from flowq.graph.compilation.plan import StagePlan
from flowq.runtime.handlers.handling import Commit, Handling
from flowq.runtime.handlers.process_pool import ProcessHandling


class Observer(ABC):
    """Sees every call of a handler."""

    def new_handling(self, *parts: Any, **options: Any) -> Handling:
        """A `Handling` of these parts that this observer watches."""
        return ObservedHandling(self, *parts, **options)

    @abstractmethod
    def handling(
        self, stage: StagePlan, delivery: Delivery, n_messages: int
    ) -> AbstractContextManager[Callable[[Outcome], None]]:
        """Surrounds a handler call. The function is called with its outcome, unless it was interrupted."""

    @abstractmethod
    def stamped(self, outputs: Sequence[Output], delivery: Delivery) -> Sequence[Output]:
        """The outputs of a delivery, with the observer's headers added."""


class ObservedHandling(Handling):
    """`Handling` with an observer."""

    def __init__(self, observer: Observer, *parts: Any, commit: Commit, **options: Any) -> None:
        async def observed_commit(delivery: Delivery, outputs: Sequence[Output]) -> None:
            await commit(delivery, observer.stamped(outputs, delivery))

        super().__init__(*parts, commit=observed_commit, **options)
        self._observer = observer

    async def handle_message(self, message: Any, row: Row) -> Outcome:
        """As in `Handling`."""
        delivery, n_messages = Delivery(*row), len(message) if self.stage.batch else 1
        with self._observer.handling(self.stage, delivery, n_messages) as ended:
            outcome = _stamped(await super().handle_message(message, delivery), self._observer, delivery)
            ended(outcome)
            return outcome

    async def undecoded(self, error: DecodeError, delivery: Delivery) -> Outcome:
        """As in `Handling`."""
        with self._observer.handling(self.stage, delivery, 1) as ended:
            outcome = await super().undecoded(error, delivery)
            ended(outcome)
            return outcome

    def returned(self, values: Sequence[Any], delivery: Delivery) -> Outcome:
        """As in `Handling`."""
        return _stamped(super().returned(values, delivery), self._observer, delivery)


class ObservedProcessHandling(ProcessHandling):
    """`ProcessHandling` with an observer, which stays in this process."""

    def __init__(self, observer: Observer, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self._observer = observer

    async def handle(self, row: Row) -> Outcome:
        """As in `ProcessHandling`."""
        delivery = Delivery(*row)
        with self._observer.handling(self.stage, delivery, 1) as ended:
            outcome = _stamped(await super().handle(delivery), self._observer, delivery)
            ended(outcome)
            return outcome


def _stamped(outcome: Outcome, observer: Observer, delivery: Delivery) -> Outcome:
    if isinstance(outcome, Succeeded) and outcome.outputs:
        return outcome._replace(outputs=observer.stamped(outcome.outputs, delivery))
    return outcome
