"""Which fault is due at which point, and which have happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from flowq.testing.faults import (
    Crash,
    Disconnect,
    Duplicate,
    Failover,
    Fault,
    LostReply,
    PoisonBody,
    Refuse,
    Reorder,
    Restart,
    Slow,
    Stall,
)
from flowq.testing.simulation.calls import RedisCall


class Injector:
    """The faults of a simulation. Each counts the times that its point is reached, and happens once.

    Faults with equal points count separately: `Crash(s, before="read")` twice is due twice at the first read.
    """

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.faults: tuple[Fault, ...] = ()
        self.fired: list[Fault] = []
        self._pending: dict[int, Fault] = {}
        self._counts: list[int] = []
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """One more fault, which counts from now on."""
        self._pending[len(self.faults)] = fault
        self._counts.append(0)
        self.faults += (fault,)

    @property
    def unfired(self) -> Sequence[Fault]:
        """Faults whose point has not been reached often enough."""
        return tuple(self._pending.values())

    @property
    def may_fail_over(self) -> bool:
        """Whether a Failover is among them, so that writes have to be remembered."""
        return any(isinstance(fault, Failover) for fault in self.faults)

    def before_call(self, call: RedisCall) -> Sequence[Fault]:
        """What is due when a worker sends a call."""
        return self._due(lambda fault: _begins_with(fault, call)) if self._pending else ()

    def after_call(self, call: RedisCall, n_messages: int) -> Sequence[Fault]:
        """What is due when Redis has run a call; `n_messages` are in the reply, if it was a read."""
        if not self._pending or (call.name == "read" and not n_messages):
            return ()
        return self._due(lambda fault: _follows(fault, call))

    def poisons(self, call: RedisCall, n_messages: int) -> Sequence[int]:
        """Which of the messages that a read has returned get a body that cannot be decoded, counted from 0."""
        found: list[int] = []
        for number, fault in list(self._pending.items()) if n_messages else ():
            if isinstance(fault, PoisonBody) and fault.stage == call.stage:
                position = fault.nth - 1 - self._counts[number]
                self._counts[number] += n_messages
                if position < n_messages:
                    found.append(position)
                    self.fired.append(self._pending.pop(number))
        return found

    def before_handler(self, stage: str) -> Sequence[Fault]:
        """Crash or Slow faults that are due when the function of a stage is about to be called."""
        if not self._pending:
            return ()
        return self._due(
            lambda fault: (
                isinstance(fault, Crash | Slow)
                and fault.stage == stage
                and (isinstance(fault, Slow) or fault.before == "handler")
            )
        )

    def after_handler(self, stage: str) -> Sequence[Fault]:
        """Crash faults that are due when the function of a stage has returned or raised."""
        if not self._pending:
            return ()
        return self._due(lambda fault: isinstance(fault, Crash) and fault.stage == stage and fault.after == "handler")

    def _due(self, is_reached: Callable[[Fault], bool]) -> Sequence[Fault]:
        due: list[Fault] = []
        for number, fault in list(self._pending.items()):
            if is_reached(fault):
                self._counts[number] += 1
                if self._counts[number] == fault.nth:
                    due.append(self._pending.pop(number))
        self.fired += due
        return due


def _begins_with(fault: Fault, call: RedisCall) -> bool:
    match fault:
        case Crash():
            return fault.before == call.name and fault.stage == call.stage
        case Refuse(error="OOM"):
            return call.name in ("publish", "apply")
        case Reorder() | Disconnect() | Stall() | Refuse() | Failover() | Restart():
            return call.moves_messages
        case LostReply() | Duplicate() | PoisonBody() | Slow():
            return False


def _follows(fault: Fault, call: RedisCall) -> bool:
    match fault:
        case Crash():
            return fault.after == call.name and fault.stage == call.stage
        case LostReply() | Duplicate():
            return fault.call in (call.name, call.script)
        case Reorder() | Disconnect() | Stall() | Refuse() | Failover() | Restart() | PoisonBody() | Slow():
            return False
