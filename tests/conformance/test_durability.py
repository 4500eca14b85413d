"""`durability="replicated"`: a push that returns has reached a replica, and is stored once."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

import flowq
from flowq.broker.open import open_broker
from flowq.broker.publishing import Publishing
from flowq.errors import BrokerUnavailable, UsageError
from flowq.settings import Settings
from tests.conformance.worker import IN, output
from tests.eventually import eventually
from tests.faults.deployments import Node, primary_with_replica
from tests.redis_server import KINDS


class Item(BaseModel):
    n: int


@flowq.source
def items() -> Iterator[Item]:
    yield from (Item(n=n) for n in range(10))


@flowq.stage
def parse(item: Item) -> None: ...


LAB = flowq.Pipeline("lab", items >> parse)
INLET = "flowq:{lab}:edge:>parse"
EDGE = "flowq:{lab}:edge:items>parse"
RUN = "flowq:{lab}:run"


@pytest.fixture(params=KINDS)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Node, Node]]:
    """A primary, and the replica that it waits for."""
    with primary_with_replica(request.param) as pair:
        yield pair
        pair[1].thaw()  # one that is frozen cannot be stopped in good order


async def test_a_push_that_has_returned_is_on_the_replica(pair: tuple[Node, Node]) -> None:
    primary, replica = pair
    async with flowq.Publisher(LAB, redis=primary.url, durability="replicated") as publisher:
        for n in range(1, 51):
            await publisher.push(parse, Item(n=n))
            assert replica.client.xlen(INLET) == n


def test_so_is_one_of_a_program_without_asyncio(pair: tuple[Node, Node]) -> None:
    primary, replica = pair
    with flowq.SyncPublisher(LAB, redis=primary.url, durability="replicated") as publisher:
        publisher.push_many(parse, [Item(n=n) for n in range(2500)])

        assert replica.client.xlen(INLET) == 2500


async def test_a_push_waits_for_the_replica_and_is_stored_once_however_often_sent(pair: tuple[Node, Node]) -> None:
    primary, replica = pair
    async with flowq.Publisher(LAB, redis=primary.url, durability="replicated") as publisher:
        replica.freeze()
        pushing = asyncio.create_task(publisher.push(parse, Item(n=1)))
        sent_again = "cmdstat_zincrby"  # what a token that is known already costs
        await eventually(lambda: sent_again in primary.client.info("commandstats"))
        assert not pushing.done()

        replica.thaw()
        await pushing

    assert (primary.client.xlen(INLET), replica.client.xlen(INLET)) == (1, 1)


async def test_without_a_replica_that_confirms_a_push_is_refused_and_says_why(pair: tuple[Node, Node]) -> None:
    primary, replica = pair
    replica.freeze()
    async with open_broker("lab", Settings.of_program(redis=primary.url, durability="replicated")) as broker:
        with pytest.raises(BrokerUnavailable, match=r"no replica .* has confirmed within 1 s") as refused:
            await Publishing(broker).publish(IN, [output(IN, b"1")])
    assert "flowq doctor" in refused.value.hint


async def test_a_push_known_only_to_the_primary_is_not_confirmed_over_a_new_connection(pair: tuple[Node, Node]) -> None:
    primary, replica = pair
    replica.freeze()
    async with open_broker("lab", Settings.of_program(redis=primary.url)) as broker:
        await Publishing(broker).publish(IN, [output(IN, b"1")], token="once")

    async with open_broker("lab", Settings.of_program(redis=primary.url, durability="replicated")) as broker:
        with pytest.raises(BrokerUnavailable):
            await Publishing(broker).publish(IN, [output(IN, b"1")], token="once")
        assert primary.client.xlen(INLET) == 1


async def test_a_source_has_not_finished_before_a_replica_has_what_it_gave(pair: tuple[Node, Node]) -> None:
    primary, replica = pair
    replica.freeze()
    running = asyncio.create_task(flowq.run(LAB, redis=primary.url, durability="replicated"))
    await eventually(lambda: primary.client.hget("flowq:{lab}:stats", "ok:parse") == b"10")
    state = primary.client.hget(RUN, "source:items")
    assert not inspect.isawaitable(state)
    assert state is not None
    assert state.startswith(b"open")

    replica.thaw()
    summary = await running

    assert summary.stages["parse"].ok == 10


async def test_the_default_does_not_wait_for_replicas(pair: tuple[Node, Node]) -> None:
    primary, replica = pair
    replica.freeze()
    async with flowq.Publisher(LAB, redis=primary.url) as publisher:
        await publisher.push(parse, Item(n=1))

    assert primary.client.xlen(INLET) == 1


@pytest.mark.parametrize("redis", ["embedded", "memory"])
async def test_a_redis_that_can_have_no_replica_is_refused_before_it_is_started(
    redis: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="needs a Redis with a replica"):
        await flowq.Publisher(LAB, redis=redis, durability="replicated").__aenter__()
    assert os.listdir() == []  # noqa: PTH208  (the folder of the project)


async def test_a_durability_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match='durability must be "local" or "replicated"'):
        await flowq.Publisher(LAB, redis="memory", durability="paper").__aenter__()  # type: ignore[arg-type]
