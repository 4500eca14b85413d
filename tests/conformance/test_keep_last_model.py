"""`Dedup(keep="last")` against a model that knows no Redis: any order of arrivals, reads and settlements."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import Literal
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowq.broker.client.connection import Dialer, UrlDialer
from flowq.broker.client.memory import MemoryDialer
from flowq.broker.edges import Edges
from flowq.broker.inspection.browse import Browser, State
from flowq.broker.keys import Keys
from flowq.broker.publishing import Publishing
from flowq.delivery.message import Delivery
from flowq.delivery.policy import DedupMemory
from tests.conformance.worker import OUT, Settle, Worker, buried, done, filtered, output, released, retried
from tests.conftest import Servers
from tests.eventually import eventually
from tests.redis_server import KINDS, Kind

INLET = ">store"
BOTH = (INLET, OUT)
Ending = Literal["done", "filtered", "buried", "released", "retried", "again"]


@dataclass(frozen=True)
class Arrive:
    """Messages with these values are added in one call."""

    values: tuple[str, ...]
    edge: str
    delayed: bool


@dataclass(frozen=True)
class Read:
    most: int


@dataclass(frozen=True)
class End:
    """One of the running messages is settled."""

    which: int
    how: Ending


Step = Arrive | Read | End


@dataclass
class Expected:
    """A message as the model knows it. `is_where_it_was_added`: it waits, and no worker has had it."""

    name: str
    edge: str
    state: State | None
    is_where_it_was_added: bool


@dataclass
class Model:
    """The rule in a few lines: the later one wins while the first waits where it was added, or is delayed."""

    latest: dict[str, Expected] = field(default_factory=dict[str, Expected])
    messages: dict[str, Expected] = field(default_factory=dict[str, Expected])
    entered: Counter[str] = field(default_factory=Counter[str])
    duplicates: Counter[str] = field(default_factory=Counter[str])

    def arrive(self, name: str, key: str, edge: str, *, delayed: bool) -> None:
        first = self.latest.get(key)
        if first is not None:
            if not (first.state is State.DELAYED or (first.state is State.WAITING and first.is_where_it_was_added)):
                self.duplicates[edge] += 1
                return
            first.state = None
            self.entered[first.edge] -= 1
            self.duplicates[first.edge] += 1
        message = Expected(name, edge, State.DELAYED if delayed else State.WAITING, is_where_it_was_added=not delayed)
        self.latest[key] = self.messages[name] = message
        self.entered[edge] += 1

    def end(self, name: str, how: Ending) -> None:
        states = {"released": State.WAITING, "retried": State.DELAYED, "again": State.WAITING}
        message = self.messages[name]
        message.state, message.is_where_it_was_added = states.get(how), False

    def states(self) -> dict[str, State]:
        return {message.name: message.state for message in self.messages.values() if message.state is not None}


ENDINGS: dict[Ending, Settle] = {
    "done": done, "filtered": filtered, "buried": buried, "released": released, "retried": retried,
    "again": lambda delivery: retried(delivery, 1),
}  # fmt: skip
STEPS = st.lists(
    st.one_of(
        st.builds(
            Arrive,
            st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(tuple),
            st.sampled_from(BOTH),
            st.booleans(),
        ),
        st.builds(Read, st.integers(1, 3)),
        st.builds(End, st.integers(0, 9), st.sampled_from(sorted(ENDINGS))),
    ),
    max_size=14,
)


async def play(steps: list[Step], dialer: Dialer, memory: DedupMemory) -> None:
    worker = await Worker.sign_on(dialer, Keys(f"t{uuid4().hex[:12]}", "lab"), "one", edges=BOTH)
    model, running, names = Model(), list[Delivery](), map(str, count())
    try:
        for step in steps:
            match step:
                case Arrive(values, edge, delayed):
                    delay_ms = 60_000 if delayed else 0
                    named = [(next(names), value) for value in values]
                    messages = [output(edge, name.encode(), dedup=value) for name, value in named]
                    await Publishing(worker.broker).publish(edge, messages, dedup=memory, delay_ms=delay_ms)
                    for name, value in named:
                        model.arrive(name, value, edge, delayed=delayed)
                case Read(most):
                    for delivery in await worker.read(most):
                        running.append(delivery)
                        message = model.messages[delivery.body.decode()]
                        assert (message.state, message.edge) == (State.WAITING, delivery.edge)
                        message.state = State.RUNNING
                case End(which, how):
                    if running:
                        delivery = running.pop(which % len(running))
                        await end(worker, delivery, how)
                        model.end(delivery.body.decode(), how)
            await check(worker, model)
    finally:
        await worker.close()


async def end(worker: Worker, delivery: Delivery, how: Ending) -> None:
    await worker.settle(ENDINGS[how](delivery), stage="store")
    if how == "again":
        n_delayed = (await worker.snapshot()).edges[delivery.edge].delayed

        async def is_due() -> bool:
            await Edges(worker.broker).promote(BOTH, limit=10)
            return (await worker.snapshot()).edges[delivery.edge].delayed < n_delayed

        await eventually(is_due)


async def check(worker: Worker, model: Model) -> None:
    await worker.balance()
    _, sights = await Browser(worker.broker).peek(BOTH, most=1000)
    assert {sight.delivery.body.decode(): sight.state for sight in sights} == model.states()
    counters = (await worker.snapshot()).counters
    for edge in BOTH:
        assert counters.get(f"in:{edge}", 0) == model.entered[edge]
        assert counters.get(f"duplicates:{edge}", 0) == model.duplicates[edge]


@pytest.mark.parametrize("kind", [None, *KINDS], ids=lambda kind: kind or "memory")
@given(steps=STEPS, ttl_ms=st.sampled_from([None, 3_600_000]))
@settings(max_examples=40)
def test_any_history_is_what_the_model_says(
    steps: list[Step], ttl_ms: int | None, kind: Kind | None, redis_server: Servers
) -> None:
    dialer = MemoryDialer() if kind is None else UrlDialer(redis_server(kind).url)
    asyncio.run(play(steps, dialer, DedupMemory(ttl_ms, BOTH)))
