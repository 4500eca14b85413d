"""What happened to each message: the calls of its handlers, what they returned, and what was settled."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from flowq.delivery.edge import Edge
from flowq.delivery.message import Arrival, Delivery, Row
from flowq.delivery.settlement import Outcome, Output, Succeeded
from flowq.graph.compilation.plan import Plan, StagePlan
from flowq.graph.kinds import Kind
from flowq.testing.decoding import Decoding
from flowq.testing.simulation.settle_calls import Settlement

Value = Callable[[], Any]
"""A value as it was: each call returns it anew, whatever handlers and tests have done to it since."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a handler.

    `message` is what it was called with: a list for a stage with `batch=`, whose `message_id` and `attempt` are those
    of the first. `worker` is "w1" for the first worker; one that replaces a crashed worker has the next number. `at` is
    the time of the harness, in UTC.
    """

    stage: str
    message: Any
    message_id: str
    attempt: int
    worker: str
    at: datetime


@dataclass(slots=True)
class _Attempt:
    """One delivery in the hands of one worker. `values` are what its handler has returned and is not settled yet."""

    row: Row
    values: list[Value] = field(default_factory=list[Value])
    n_sent: int = 0  # as how many messages: one for each edge
    has_succeeded: bool = False
    has_failed: bool = False
    is_settled: bool = False
    is_noted: bool = False
    noted_values: list[Value] = field(default_factory=list[Value])
    n_noted: int = 0  # of n_sent


_At = tuple[int, str, bytes]  # shard, edge, entry id
_Key = tuple[str, int, str, bytes]  # worker, shard, edge, entry id


class Journal:
    """The events of one harness. Handlers on threads may write to it as well.

    `entered` are the messages that came from outside, by stage and message id. Of a batch, `handled` has what was
    returned together with the first of its messages. `finished` are
    the deliveries that succeeded, in order: shards, edges, entry ids. `sent` counts, by stage, the messages that
    settled attempts have sent. `pushed` counts how often the test has pushed a message to an inlet with an id that was
    new or forgotten. `longest_path` is the most stages through which a message has led to others. A new run starts
    `finished` and `sent` again.
    """

    def __init__(self, plan: Plan, decoding: Decoding, now: Callable[[], float]) -> None:
        self._plan = plan
        self._decoding = decoding
        self._now = now
        self._calls: list[tuple[Call, Value]] = []
        self._attempts: dict[_Key, list[_Attempt]] = {}  # several only after a failover: it comes while it is handled
        self._outputs: defaultdict[str, list[tuple[_At, Value]]] = defaultdict(list)
        self.entered: dict[tuple[str, str], Value] = {}
        self._handled: list[tuple[_At, tuple[str, Value, Sequence[Value]]]] = []
        self.finished: list[_At] = []
        self.sent: Counter[str] = Counter()
        self.pushed: Counter[tuple[str, str]] = Counter()
        self._ids: dict[_At, str] = {}
        self._tokens: Counter[str] = Counter()  # of settlements, which may arrive several times
        self.running: dict[_Key, Call] = {}
        self.longest_path = 0

    # What tests ask

    def calls(self, stage: str) -> list[Call]:
        """The calls of one stage, in order of their start."""
        return [replace(call, message=message()) for call, message in self._calls if call.stage == stage]

    def outputs(self, stage: str) -> list[Any]:
        """What one stage has returned in attempts that were settled, in order of settlement."""
        return [value() for _, value in self._outputs[stage]]

    @property
    def handled(self) -> list[tuple[str, Value, Sequence[Value]]]:
        """The stages of settled attempts, their messages, and what was returned, in order."""
        return [each for _, each in self._handled]

    def finished_ids(self) -> list[tuple[str, str]]:
        """The edge and the message id of each delivery that succeeded, as far as they are known, in order."""
        return [(entry[1], self._ids[entry]) for entry in self.finished if entry in self._ids]

    def start_run(self) -> None:
        """Begin to count anew, as Redis does with a new run."""
        self.finished.clear()
        self.sent.clear()

    # What workers note

    def received(self, worker: str, row: Row, *, shard: int = 0) -> None:
        """A worker is about to handle a delivery."""
        delivery = Delivery(*row)
        key = (worker, shard, delivery.edge, delivery.entry_id)
        before = self._attempts.get(key, [])
        is_settled = any(each.is_settled and not each.is_noted for each in before)  # before its handler is called
        attempt = _Attempt(row, is_settled=is_settled)
        self._attempts[key] = [*(each for each in before if not each.is_settled and not each.has_failed), attempt]
        header = delivery.header
        self._ids[key[1:]] = header.message_id
        if header.hops == 0:
            name = (Edge.parse(delivery.edge).target, header.message_id)
            self.entered.setdefault(name, partial(self._decoding.message, delivery))

    def called(self, stage: StagePlan, worker: str, row: Row, message: Any, *, shard: int = 0) -> None:
        """A handler is called with a message, or with the messages of a batch, of which `row` is the first."""
        delivery = Delivery(*row)
        header = delivery.header
        value = _kept(message) if stage.batch else partial(self._decoding.message, delivery)
        at = datetime.fromtimestamp(self._now(), UTC)
        call = Call(stage.name, None, header.message_id, header.attempt, worker, at)
        self._calls.append((call, value))
        self.running[worker, shard, delivery.edge, delivery.entry_id] = call
        self.longest_path = max(self.longest_path, header.hops)

    def returned(self, worker: str, shard: int, row: Row, value: Any, outputs: Sequence[Output]) -> None:
        """A handler has returned, yielded or emitted a value, which is sent as these outputs."""
        attempt = self._attempt(worker, shard, row)
        attempt.values.append(self._value(value, outputs))
        attempt.n_sent += len(outputs)

    def _value(self, value: Any, outputs: Sequence[Output]) -> Value:
        if outputs:
            return lambda: self._decoding.message(_delivery_of(outputs[0]))
        return _kept(value)  # no stage is called with it, so that it was not encoded

    def ended(self, worker: str, row: Row, outcome: Outcome | None, *, shard: int = 0) -> None:
        """A handler has ended; without an outcome if it was interrupted."""
        attempt = self._attempt(worker, shard, row)
        self.running.pop((worker, shard, row[0].edge, row[1]), None)
        if not isinstance(outcome, Succeeded):
            attempt.has_failed = True
            attempt.values.clear()
            attempt.n_sent = 0
            return
        attempt.has_succeeded = True
        if attempt.is_settled:
            self._note(attempt, (shard, row[0].edge, row[1]))

    def _attempt(self, worker: str, shard: int, row: Row) -> _Attempt:
        attempts = self._attempts.setdefault((worker, shard, row[0].edge, row[1]), [_Attempt(row)])
        return next((each for each in attempts if each.row is row), attempts[-1])

    # What the server notes

    def settled(self, worker: str, settlement: Settlement) -> None:
        """The server has settled deliveries of a worker."""
        self._tokens[settlement.token] += 1
        if settlement.token and self._tokens[settlement.token] > 1:
            return
        for entry in settlement.done:
            at = settlement.shard, settlement.edge, entry
            self.finished.append(at)
            attempts = self._attempts.get((worker, *at))
            if attempts is None:  # settled before its handler is called
                row: Row = (_delivery_of(Output(settlement.edge, b"", b"")).arrival, entry, b"", b"", None)
                self._attempts[worker, *at] = [_Attempt(row, is_settled=True)]
            else:
                attempt = next((each for each in attempts if each.has_succeeded), attempts[-1])
                attempt.is_settled = True
                self._note(attempt, at)

    def forgot(self, worker: str, settlement: Settlement) -> None:
        """The server has forgotten that it has settled these: its deliveries come again."""
        self._tokens[settlement.token] -= 1
        if settlement.token and self._tokens[settlement.token] > 0:  # it has arrived before, which is not forgotten
            return
        for entry in settlement.done:
            at = settlement.shard, settlement.edge, entry
            if at not in self.finished:
                continue
            self.finished.remove(at)
            for attempt in self._attempts.get((worker, *at), ()):
                if attempt.is_settled:
                    self._take_back(attempt, at)

    def _take_back(self, attempt: _Attempt, at: _At) -> None:
        stage = self._plan.edge_by_name[attempt.row[0].edge].target
        self.sent[stage] -= attempt.n_noted
        self._outputs[stage] = [each for each in self._outputs[stage] if each[0] != at]
        self._handled = [each for each in self._handled if each[0] != at]
        attempt.values[:0] = attempt.noted_values
        attempt.n_sent += attempt.n_noted
        attempt.noted_values.clear()
        attempt.n_noted = 0
        attempt.is_settled = attempt.is_noted = False

    def _note(self, attempt: _Attempt, at: _At) -> None:
        stage = self._plan.stage(self._plan.edge_by_name[attempt.row[0].edge].target)
        message = partial(self._decoding.message, Delivery(*attempt.row))
        if attempt.values or not attempt.is_noted:
            self._handled.append((at, (stage.name, message, tuple(attempt.values))))
        self.sent[stage.name] += attempt.n_sent
        if stage.kind is not Kind.SINK:
            self._outputs[stage.name] += [(at, value) for value in attempt.values]
        elif not attempt.is_noted:
            self._outputs[stage.name].append((at, message))
        attempt.is_noted = True
        attempt.noted_values += attempt.values
        attempt.n_noted += attempt.n_sent
        attempt.values.clear()
        attempt.n_sent = 0


def _kept(value: Any) -> Value:
    """A value as it is now. One that cannot be copied, such as a lock or an open file, is kept itself."""
    try:
        copied = deepcopy(value)
    except Exception:  # noqa: BLE001  (copying runs the code of its type)
        return lambda: value
    return partial(deepcopy, copied)


def _delivery_of(output: Output) -> Delivery:
    return Delivery(Arrival(output.edge, "", 0), b"0-1", output.header, output.body)
