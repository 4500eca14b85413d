"""The fast path of a push makes the promises of publish.lua, and leaves Redis as that would."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowq.broker import scripts
from flowq.broker.client.connection import Dialer, Link, UrlDialer
from flowq.broker.client.memory import MemoryDialer
from flowq.broker.keys import Keys
from flowq.broker.publishing import Parcel, Publishing
from flowq.broker.records import Published
from flowq.broker.redis_streams import Broker
from flowq.delivery.policy import DedupMemory
from flowq.delivery.settlement import Output
from flowq.errors import FlowqError
from tests.conformance.conftest import Command
from tests.conformance.recorder import Recorder, keyspace
from tests.conformance.worker import IN, Worker, output
from tests.conftest import Servers
from tests.redis_server import KINDS, Kind

LARGEST = 2**64 - 1


class Publish:
    """Publishes to one edge, by the path that flowq chooses or by publish.lua."""

    def __init__(self, broker: Broker, path: str) -> None:
        self._publishing, self._path = Publishing(broker), path

    async def __call__(
        self, messages: Sequence[Output], *, token: str, call_id: str = "", maxsize: int = 0
    ) -> Published:
        if self._path == "fast":
            return await self._publishing.publish(IN, messages, token=token, call_id=call_id, maxsize=maxsize)
        parcels = [Parcel(IN, messages, maxsize=maxsize)]
        return await self._publishing.publish_together(parcels, token=token, call_id=call_id)


@pytest.fixture(params=["fast", "slow"])
def publish(request: pytest.FixtureRequest, worker: Worker) -> Publish:
    return Publish(worker.broker, request.param)


async def test_a_used_token_publishes_nothing_and_answers_the_same(
    publish: Publish, worker: Worker, keys: Keys, redis: Command
) -> None:
    messages = [output(IN, b"0"), output(IN, b"1")]

    first = await publish(messages, token="once")
    again = await publish(messages, token="once")

    assert first == again == Published(2, 0)
    assert await redis(b"XLEN", keys.edge(IN)) == 2
    assert (await worker.balance()).entered == 2


async def test_a_call_knows_its_own_token_from_that_of_an_earlier_call(publish: Publish, worker: Worker) -> None:
    message = [output(IN, b"0")]

    found = [(await publish(message, token="t", call_id=call)).is_repeated for call in ("a", "a", "b", "b", "a")]

    assert found == [False, False, True, True, False]
    assert (await worker.balance()).entered == 1


async def test_a_full_edge_refuses_the_whole_call_and_forgets_it(
    publish: Publish, worker: Worker, keys: Keys, redis: Command
) -> None:
    await publish([output(IN, b"x")] * 2, token="first")
    await Publishing(worker.broker).publish(IN, [output(IN, b"later")], delay_ms=60_000)
    before = await keyspace(redis, keys)

    refused = await publish([output(IN, b"y")] * 2, token="later", call_id="call", maxsize=3)

    assert (refused.appended, refused.full_at) == (0, 3)
    assert await keyspace(redis, keys) == before
    assert (await publish([output(IN, b"y")] * 2, token="later", call_id="call", maxsize=4)).appended == 2


async def test_a_used_token_is_answered_where_the_edge_is_full_by_now(publish: Publish) -> None:
    message = [output(IN, b"x")]
    first = await publish(message, token="once", maxsize=1)

    assert await publish(message, token="once", maxsize=1) == first


async def test_a_token_of_another_kind_of_call_is_answered_as_that_call_was(publish: Publish, worker: Worker) -> None:
    twice = [output(IN, b"x", dedup="x")] * 2
    first = await Publishing(worker.broker).publish(IN, twice, token="t", dedup=DedupMemory())

    assert await publish(twice, token="t") == first == Published(1, 1)


@pytest.mark.parametrize("wrong", ["stats", "published", "edge", "delayed"])
async def test_a_key_of_the_wrong_type_refuses_the_call_and_nothing_changes(
    wrong: str, publish: Publish, keys: Keys, redis: Command
) -> None:
    key = {"stats": keys.stats, "published": keys.published, "edge": keys.edge(IN), "delayed": keys.delayed(IN)}[wrong]
    await redis(b"DEL", key)
    await redis(b"SETBIT", key, 1, 1)
    before = await keyspace(redis, keys)

    with pytest.raises(FlowqError, match="FLOWQ_WRONGTYPE"):
        await publish([output(IN, b"x")], token="t", call_id="c")

    assert await keyspace(redis, keys) == before


@pytest.mark.parametrize("value", [b"none", b"%d" % (2**63 - 1)])
async def test_a_counter_that_is_none_restarts(
    value: bytes, publish: Publish, worker: Worker, keys: Keys, redis: Command
) -> None:
    await redis(b"HSET", keys.stats, f"in:{IN}", value)

    await publish([output(IN, b"x")] * 2, token="t")

    assert (await worker.balance()).entered == 2


async def test_old_tokens_are_removed(publish: Publish, keys: Keys, redis: Command) -> None:
    await redis(b"ZADD", keys.published, 1, b"old", b"+inf", b"new")

    await publish([output(IN, b"x")], token="t")

    assert set(await redis(b"ZRANGE", keys.published, 0, -1)) == {b"new", b"t"}


@pytest.mark.parametrize("room", range(6))
async def test_all_of_a_call_is_stored_once_however_near_the_largest_id_is(
    room: int, real_dialer: Dialer, keys: Keys
) -> None:
    broker, link = Broker(real_dialer, keys), Link(real_dialer)
    try:
        edge, delayed, last_id = keys.edge(IN), keys.delayed(IN), f"{LARGEST}-{LARGEST - room}"
        await link.call(b"XADD", edge, last_id, b"b", b"from the end", timeout_seconds=60)
        messages = [output(IN, b"%d" % i) for i in range(4)]

        published = await Publishing(broker).publish(IN, messages, token="t")

        assert published == await Publishing(broker).publish(IN, messages, token="t") == Published(4, 0)
        commands = (b"XLEN", edge), (b"ZCARD", delayed), (b"HGET", keys.stats, f"in:{IN}")
        n_waiting, n_delayed, n_counted = await broker.ask(commands)
        assert (n_waiting + n_delayed, int(n_counted)) == (1 + 4, 4)
    finally:
        await link.close()
        await broker.close()


async def test_most_calls_are_one_call_of_the_fast_script(dialer: Dialer, keys: Keys) -> None:
    recorder = Recorder(dialer)
    broker = Broker(recorder, keys)
    try:
        await Publishing(broker).publish(IN, [output(IN, b"x")], token="so that the script is known")
        recorder.calls.clear()

        await Publishing(broker).publish(IN, [output(IN, b"x")], token="a", maxsize=9)
        await Publishing(broker).publish(IN, [output(IN, b"x")] * 3, token="b", call_id="c")
        await Publishing(broker).publish(IN, [output(IN, b"x")], token="d", maxsize=2)
    finally:
        await broker.close()
    assert [call.command[1] for call in recorder.calls] == [scripts.PUBLISH_PLAIN.digest] * 3


# Whatever comes before


Spoiled = Literal["counter", "large counter", "stats", "published", "edge", "delayed"]


@dataclass(frozen=True)
class Push:
    """Messages pushed in one call. `caller`: '' for one without an id. `kind`: only a plain one takes the fast path."""

    n: int
    token: str
    caller: str
    maxsize: int
    kind: Literal["plain", "delayed", "deduplicated"]

    @property
    def call_id(self) -> str:
        return self.caller and f"call:{self.token}:{self.caller}"


@dataclass(frozen=True)
class Spoil:
    """Another program writes to a key."""

    what: Spoiled


PUSHES = st.builds(
    Push,
    st.integers(1, 3),
    st.sampled_from("abcdef"),
    st.sampled_from(["", "x", "y"]),
    st.sampled_from([0, 0, 3, 5]),
    st.sampled_from(["plain", "plain", "plain", "delayed", "deduplicated"]),
)
SPOILS = st.builds(Spoil, st.sampled_from(["counter", "large counter", "stats", "published", "edge", "delayed"]))
STEPS = st.lists(st.one_of(PUSHES, PUSHES, PUSHES, SPOILS), max_size=12)


class Twin:
    """A pipeline to which everything is published on one path."""

    def __init__(self, dialer: Dialer, path: str) -> None:
        self.keys = Keys(f"t{uuid4().hex[:12]}", "lab")
        self._broker, self._link = Broker(dialer, self.keys), Link(dialer)
        self._publish = Publish(self._broker, path)

    async def redis(self, *command: Any) -> Any:
        return await self._link.call(*command, timeout_seconds=60)

    async def spoil(self, what: Spoiled) -> None:
        keys = self.keys
        if what in ("counter", "large counter"):
            if await self.redis(b"TYPE", keys.stats) != b"string":
                value = b"none" if what == "counter" else b"%d" % (2**63 - 1)
                await self.redis(b"HSET", keys.stats, f"in:{IN}", value)
            return
        named = {"stats": keys.stats, "published": keys.published, "edge": keys.edge(IN), "delayed": keys.delayed(IN)}
        await self.redis(b"SET", named[what], b"of another program")

    async def push(self, push: Push, messages: Sequence[Output]) -> object:
        """The answer, or the words of the error."""
        try:
            if push.kind == "plain":
                return await self._publish(messages, token=push.token, call_id=push.call_id, maxsize=push.maxsize)
            return await Publishing(self._broker).publish(
                IN,
                messages,
                token=push.token,
                call_id=push.call_id,
                maxsize=push.maxsize,
                delay_ms=60_000 if push.kind == "delayed" else 0,
                dedup=DedupMemory() if push.kind == "deduplicated" else None,
            )
        except FlowqError as error:
            return str(error).replace(self.keys.namespace, "NAMESPACE")

    async def contents(self) -> Mapping[str, Any]:
        """Every key with its value, without ids and times."""
        found: dict[str, Any] = {}
        for key, value in (await keyspace(self.redis, self.keys)).items():
            name = key.decode().replace(self.keys.namespace, "NAMESPACE")
            spoiled = isinstance(value, bytes)
            if key == self.keys.published.encode() and not spoiled:
                found[name] = {token: float(score) % 1 for token, score in value.items()}
            elif key == self.keys.delayed(IN).encode() and not spoiled:
                found[name] = set(value)
            elif key == self.keys.edge(IN).encode() and not spoiled:
                found[name] = [fields for _, fields in value[0]]
            else:
                found[name] = value
        return found

    async def close(self) -> None:
        await self._link.close()
        await self._broker.close()


async def play(steps: Sequence[Push | Spoil], dialer: Dialer) -> None:
    twins = [Twin(dialer, "fast"), Twin(dialer, "slow")]
    try:
        for step in steps:
            if isinstance(step, Spoil):
                for twin in twins:
                    await twin.spoil(step.what)
                continue
            messages = [output(IN, b"%d" % i, dedup="same") for i in range(step.n)]
            fast, slow = [await twin.push(step, messages) for twin in twins]
            assert fast == slow
        fast, slow = [await twin.contents() for twin in twins]
        assert fast == slow
    finally:
        for twin in twins:
            await twin.close()


@pytest.mark.parametrize("kind", ["memory", *KINDS])
def test_both_paths_answer_the_same_and_leave_the_same_in_redis(
    kind: Kind | Literal["memory"], redis_server: Servers
) -> None:
    dialer = MemoryDialer() if kind == "memory" else UrlDialer(redis_server(kind).url)

    @settings(max_examples=40)
    @given(STEPS)
    def check(steps: list[Push | Spoil]) -> None:
        asyncio.run(play(steps, dialer))

    check()
