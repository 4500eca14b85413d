"""What a stage has seen, packed: against a set in Python, around splits, and against what others do to it."""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowq.broker.client.connection import Dialer, UrlDialer
from flowq.broker.client.memory import MemoryDialer
from flowq.broker.clock import Clock
from flowq.broker.keys import Keys
from flowq.broker.migration.moving import Moving
from flowq.broker.publishing import Publishing
from flowq.broker.records import Published
from flowq.broker.runs import Runs
from flowq.delivery.message import Header
from flowq.delivery.policy import APPROXIMATE_HASH_BYTES, HASH_BYTES, DedupMemory
from flowq.delivery.settlement import Output
from flowq.errors import BrokerRefused
from tests.conformance.conftest import Command, server_ms
from tests.conformance.worker import IN, PLAN, STAGES, Worker
from tests.conftest import Servers
from tests.redis_server import KINDS, Kind

EXACT, ABOUT = DedupMemory(), DedupMemory(hash_bytes=APPROXIMATE_HASH_BYTES)
A_DAY = DedupMemory(86_400_000)
MEMORIES = [EXACT, ABOUT, A_DAY]
DAMAGES = [b"", b"x", b"\xff" * 7, b"\x00" * 8, b"\xff" * 23, b"12345678901234567890123"]
FAR_FUTURE = b"\xff" * 6 + bytes([50]) + b"v" * 10 + b"\xff\xff"  # a bucket whose value expires in a billion years


def run_of(first: int, n: int) -> list[int]:
    return list(range(first, first + n))


def hash_of(value: object) -> bytes:
    return blake2b(str(value).encode(), digest_size=16).digest()


def entry(hashed: bytes) -> Output:
    return Output(IN, Header.entering(uuid4().hex).encode(), b"1", hashed)


async def push(worker: Worker, hashes: list[bytes], memory: DedupMemory) -> Published:
    return await Publishing(worker.broker).publish(IN, [entry(each) for each in hashes], dedup=memory)


def key_of(keys: Keys, memory: DedupMemory) -> str:
    return keys.seen("parse") if memory.ttl_ms is None else keys.seen_until("parse")


async def facts(redis: Command, keys: Keys, memory: DedupMemory = EXACT) -> list[int]:
    """Bytes of a value, buckets, values, whether something is unpacked."""
    return [int(word) for word in (await redis(b"HGET", key_of(keys, memory), b"about")).split()[:4]]


async def begin(worker: Worker) -> None:
    await Runs(worker.broker).begin("r", sources=(), signature="", edges=(), stages=STAGES, remembering=STAGES)
    await Runs(worker.broker).take_over_seen(STAGES)


# Against a set


async def play(calls: list[list[int | None]], dialer: Dialer, memory: DedupMemory) -> None:
    worker = await Worker.sign_on(dialer, Keys(f"t{uuid4().hex[:12]}", "lab"), "one")
    expected: set[int | None] = set()
    try:
        for values in calls:
            n_new = len(set(values) - expected - {None}) + values.count(None)  # what has no key is always new
            answer = await push(worker, [b"" if value is None else hash_of(value) for value in values], memory)
            assert answer == Published(n_new, len(values) - n_new)
            expected |= set(values)
    finally:
        await worker.close()


@pytest.mark.parametrize("kind", [None, *KINDS], ids=lambda kind: kind or "memory")
@given(
    calls=st.lists(
        st.lists(st.none() | st.integers(0, 60), max_size=12)
        | st.builds(run_of, st.integers(0, 900), st.integers(1, 90)),
        max_size=14,
    ),
    memory=st.sampled_from(MEMORIES),
)
@settings(max_examples=25)
def test_any_history_is_that_of_a_set(
    calls: list[list[int | None]], memory: DedupMemory, kind: Kind | None, redis_server: Servers
) -> None:
    dialer = MemoryDialer() if kind is None else UrlDialer(redis_server(kind).url)
    asyncio.run(play(calls, dialer, memory))


@pytest.mark.parametrize("memory", MEMORIES, ids=["exact", "approximate", "for a day"])
async def test_over_many_splits_nothing_is_forgotten_or_mistaken(
    memory: DedupMemory, worker: Worker, keys: Keys, redis: Command
) -> None:
    n, step = 7_000, 500
    for first in range(0, n, step):
        hashes = [hash_of(value) for value in range(first, first + step)]
        assert await push(worker, hashes, memory) == Published(step, 0)
        assert await push(worker, hashes[::7], memory) == Published(0, len(hashes[::7]))
    assert await push(worker, [hash_of(value) for value in range(n)], memory) == Published(0, n)
    n_bytes, n_buckets, n_values, _ = await facts(redis, keys, memory)
    assert (n_bytes, n_values) == (memory.hash_bytes, n)
    assert n_buckets > 256  # one byte less is stored from here on


async def test_values_that_differ_in_the_bits_of_their_bucket_alone_or_in_all_others_are_different(
    worker: Worker,
) -> None:
    await push(worker, [hash_of(value) for value in range(8000)], EXACT)
    same_rest = [b"r" * 8 + bytes([high, low]) + b"x" * 6 for high in (0, 1, 128, 255) for low in (0, 1, 128, 255)]
    same_bucket = [bytes([n]) + b"r" * 7 + b"bb" + b"x" * 6 for n in range(256)]
    one_bit = [(int.from_bytes(b"q" * 10, "big") ^ 1 << bit).to_bytes(10, "big") + b"x" * 6 for bit in range(80)]
    for hashes in (same_rest, same_bucket, one_bit):
        assert await push(worker, hashes, EXACT) == Published(len(hashes), 0)
        assert await push(worker, hashes, EXACT) == Published(0, len(hashes))


# What it takes


async def test_values_take_few_bytes_and_no_bucket_is_long(worker: Worker, keys: Keys, redis: Command) -> None:
    n = 6000
    for first in range(0, n, 1000):
        await push(worker, [hash_of(value) for value in range(first, first + 1000)], EXACT)
    fields = await redis(b"HGETALL", keys.seen("parse"))
    texts = dict(zip(fields[::2], fields[1::2], strict=True))
    texts.pop(b"about")
    assert sum(map(len, texts.values())) <= HASH_BYTES * n
    assert len(texts) < n / 16
    assert max(map(len, texts.values())) < 100 * HASH_BYTES


# What other versions do


async def sign_on_earlier(redis: Command, keys: Keys) -> None:
    await redis(b"HSET", keys.workers, b"earlier", b'{"worker":"earlier","stages":["parse"]}')


async def test_while_a_worker_of_an_earlier_version_is_registered_both_use_its_set(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    await sign_on_earlier(redis, keys)
    await begin(worker)
    assert await push(worker, [hash_of("new")], EXACT) == Published(1, 0)
    assert await redis(b"SADD", keys.seen("parse"), hash_of("new"), hash_of("old")) == 1
    assert await push(worker, [hash_of("old")], EXACT) == Published(0, 1)
    assert await push(worker, [hash_of("for a day")], A_DAY) == Published(1, 0)
    assert await redis(b"ZSCORE", keys.seen_until("parse"), hash_of("for a day")) is not None


@pytest.mark.parametrize("memory", [EXACT, A_DAY], ids=["set", "sorted set"])
async def test_what_an_earlier_version_has_seen_is_known_at_each_step_of_being_packed(
    memory: DedupMemory, worker: Worker, keys: Keys, redis: Command
) -> None:
    n, key = 950, key_of(keys, memory)
    hashes, now_ms = [hash_of(value) for value in range(n)], await server_ms(redis)
    for each in hashes:
        stored = (b"SADD", key, each) if memory.ttl_ms is None else (b"ZADD", key, now_ms + 3_600_000, each)
        await redis(*stored)
    if memory.ttl_ms is not None:
        await redis(b"ZADD", key, now_ms - 1, hash_of("expired"))
        assert await push(worker, [hash_of("expired")], memory) == Published(1, 0)
    await begin(worker)
    for first in range(0, n, 100):
        assert await push(worker, hashes[first : first + 100], memory) == Published(0, min(100, n - first))
        assert await push(worker, hashes[:50], memory) == Published(0, 50)
        assert await push(worker, [hash_of(f"new {first}")], memory) == Published(1, 0)
    assert await redis(b"EXISTS", keys.unpacked("parse"), keys.unpacked_until("parse")) == 0
    assert await push(worker, hashes, memory) == Published(0, n)
    assert (await facts(redis, keys, memory))[2:] == [n + 10 + (memory.ttl_ms is not None), 0]


async def test_what_is_left_of_a_run_that_an_earlier_version_has_ended_is_not_taken_for_seen(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    await redis(b"SADD", keys.unpacked("parse"), hash_of("of a run before"))
    await redis(b"SADD", keys.seen("parse"), hash_of("a"))
    await begin(worker)
    assert await push(worker, [hash_of("a"), hash_of("of a run before")], EXACT) == Published(1, 1)


async def test_an_earlier_version_is_refused_by_the_type_of_the_key_once_it_is_packed(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    await push(worker, [hash_of("a")], EXACT)
    with pytest.raises(BrokerRefused, match="WRONGTYPE"):
        await redis(b"SADD", keys.seen("parse"), hash_of("a"))


# What other programs do


@pytest.mark.parametrize("about", [b"", b"x", b"10 0 5 0", b"10 1", b"99 1 0 0", b"10 99999999999999 1 0", b"\xff"])
async def test_a_hash_that_another_program_has_changed_is_refused_by_its_name_and_nothing_is_lost(
    about: bytes, worker: Worker, keys: Keys, redis: Command
) -> None:
    await push(worker, [hash_of("a")], EXACT)
    right = await redis(b"HGET", keys.seen("parse"), b"about")
    await redis(b"HSET", keys.seen("parse"), b"about", about)
    with pytest.raises(BrokerRefused, match=keys.seen("parse").replace("{", r"\{")):
        await push(worker, [hash_of("b")], EXACT)
    assert (await worker.snapshot()).edges[IN].waiting == 1

    await redis(b"HSET", keys.seen("parse"), b"about", right)
    assert await push(worker, [hash_of("a"), hash_of("b")], EXACT) == Published(1, 1)


@pytest.mark.parametrize("memory", [EXACT, A_DAY], ids=["", "with a ttl"])
@pytest.mark.parametrize("damage", [*DAMAGES, FAR_FUTURE])
async def test_a_bucket_that_another_program_has_written_costs_no_message_and_is_used_again(
    damage: bytes, memory: DedupMemory, worker: Worker, keys: Keys, redis: Command
) -> None:
    await push(worker, [hash_of(value) for value in range(5)], memory)
    await redis(b"HSET", key_of(keys, memory), b"0", damage)

    values = [hash_of(value) for value in range(5, 60)]
    assert await push(worker, values, memory) == Published(55, 0)
    assert await push(worker, values, memory) == Published(0, 55)


async def test_of_a_bucket_that_was_cut_the_whole_values_remain(worker: Worker, keys: Keys, redis: Command) -> None:
    await push(worker, [hash_of(value) for value in range(5)], EXACT)
    text = await redis(b"HGET", keys.seen("parse"), b"0")
    await redis(b"HSET", keys.seen("parse"), b"0", text[:-3])

    assert await push(worker, [hash_of(value) for value in range(4)], EXACT) == Published(0, 4)
    assert await push(worker, [hash_of(4)], EXACT) == Published(1, 0)
    assert await push(worker, [hash_of(value) for value in range(5)], EXACT) == Published(0, 5)


# Time


async def test_a_value_is_remembered_for_its_ttl_and_at_most_a_16_000th_longer(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    memory = DedupMemory(100_000)
    hashes = [hash_of(value) for value in range(200)]
    await push(worker, hashes, memory)
    key, passed_ms = keys.seen_until("parse"), 0

    async def pass_by(ms: int) -> None:  # as if the clock had been set forward
        nonlocal passed_ms
        words = (await redis(b"HGET", key, b"about")).split()
        words[4] = b"%d" % (int(words[4]) + ms)
        await redis(b"HSET", key, b"about", b" ".join(words))
        passed_ms += ms

    for ms in (10_000, 60_000, 9_000):
        await pass_by(ms)
        assert await push(worker, hashes, memory) == Published(0, 200)
        await push(worker, [hash_of(f"later {passed_ms}")], memory)
    await pass_by(100_000 + 100_000 // 16_000 - passed_ms)
    assert await push(worker, hashes, memory) == Published(200, 0)
    assert await push(worker, [hash_of("later 70000")], memory) == Published(0, 1)


async def test_a_clock_that_is_set_back_leaves_a_value_as_long_as_it_had(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    await push(worker, [hash_of("a")], A_DAY)
    await redis(b"HSET", keys.clock, b"latest_ms", await server_ms(redis) + 3_600_000)
    await Clock(worker.broker).follow(PLAN)
    about = (await redis(b"HGET", keys.seen_until("parse"), b"about")).split()
    set_back_ms, until_ms = int(about[4]), int(about[5])

    assert 3_500_000 < set_back_ms <= 3_600_000
    assert until_ms - set_back_ms < await server_ms(redis) + 86_400_000 * 1.02 - 3_500_000
    assert await push(worker, [hash_of("a")], A_DAY) == Published(0, 1)


# Renamed stages


@pytest.mark.parametrize("memory", MEMORIES, ids=["exact", "approximate", "for a day"])
@pytest.mark.parametrize("begun", [0, 700], ids=["new", "begun"])
async def test_a_stage_knows_what_the_one_that_it_replaces_has_seen(
    begun: int, memory: DedupMemory, worker: Worker, keys: Keys, redis: Command
) -> None:
    async def push_new(hashes: list[bytes]) -> Published:
        return await Publishing(worker.broker).publish(">tidy", [entry(each) for each in hashes], dedup=memory)

    hashes = [hash_of(value) for value in range(1500)]
    await push(worker, hashes, memory)
    if begun:
        await push_new([hash_of(value) for value in range(1400, 1400 + begun)])
    for _ in range(2):
        await Moving(worker.broker).stage("parse", "tidy", {IN: ">tidy"})

    assert await redis(b"EXISTS", key_of(keys, memory)) == 0
    assert await push_new(hashes) == Published(0, 1500)
    n_new = 100 if not begun else 0
    assert await push_new([hash_of(value) for value in range(1500, 1600)]) == Published(n_new, 100 - n_new)


@pytest.mark.parametrize(("old", "new"), [("set", "hash"), ("hash", "set"), ("set", "set")])
async def test_a_stage_knows_it_whatever_version_has_stored_it(
    old: str, new: str, worker: Worker, keys: Keys, redis: Command
) -> None:
    def stored(kind: str, edge: str, stage: str, *values: str) -> Any:
        if kind == "set":
            return redis(b"SADD", keys.seen(stage), *map(hash_of, values))
        return Publishing(worker.broker).publish(edge, [entry(hash_of(value)) for value in values], dedup=EXACT)

    await stored(old, IN, "parse", "a", "both")
    await stored(new, ">tidy", "tidy", "b", "both")
    for _ in range(2):
        await Moving(worker.broker).stage("parse", "tidy", {IN: ">tidy"})

    known = [entry(hash_of(value)) for value in ("a", "b", "both")]
    assert await Publishing(worker.broker).publish(">tidy", known, dedup=EXACT) == Published(0, 3)
    assert await redis(b"EXISTS", keys.seen("parse"), keys.unpacked("parse")) == 0
