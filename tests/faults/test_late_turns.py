"""Turns of a paced stage whose reply is lost, and is sent again long after they have passed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from flowq.broker.client.connection import UrlDialer
from flowq.broker.flow_control.limiter import Limiter, Reservation
from flowq.broker.keys import Keys
from flowq.broker.workers import Workers
from flowq.delivery.policy import Rate
from flowq.delivery.settlement import Postponed
from flowq.runtime.identity import Identity
from flowq.runtime.stage.pacing import Pacer
from tests.conformance.worker import IN, PLAN, Worker
from tests.eventually import eventually
from tests.faults.proxy import Proxy
from tests.redis_server import KINDS, RedisServer

RATE = Rate(1000, concurrency=2)
PARSE = PLAN.stage_by_name["parse"]
OVER_SECONDS = 0.3  # a turn is good for a tenth


class Rig:
    """A worker behind a network that fails, one beside it, and what the first is told when its answer arrives late."""

    def __init__(self, proxy: Proxy, worker: Worker, other: Worker) -> None:
        self.proxy, self.worker, self.other = proxy, worker, other
        self.identity = Identity(worker=worker.name)
        self.pacer = Pacer(PARSE, PLAN, RATE, worker.broker, self.identity)

    async def asks(self) -> asyncio.Task[list[Reservation | Postponed]]:
        """It asks for the turn of one message; Redis grants it, but the reply is withheld until `is_heard`."""
        await self.worker.publish(b'{"n":0}', b'{"n":1}')
        first, delivery = await self.worker.read()
        await self.pacer.turns([first])  # Redis knows the script from now on
        self.proxy.drop_reply("EVALSHA", containing=b"starts:parse")
        asking = asyncio.create_task(self.pacer.turns([delivery]))
        await eventually(lambda: self.proxy.dropped == 1)
        self.proxy.refuse()
        self._given_by = time.monotonic()
        return asking

    async def is_heard(self) -> None:
        await eventually(lambda: time.monotonic() > self._given_by + OVER_SECONDS)
        self.proxy.accept()


@pytest.fixture(params=KINDS)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    with RedisServer(request.param) as server:
        async with Proxy(server.url) as proxy:
            keys = Keys("turns", "lab")
            worker = await Worker.sign_on(UrlDialer(proxy.url), keys, "first")
            other = await Worker.sign_on(UrlDialer(server.url), keys, "second")
            yield Rig(proxy, worker, other)
            await worker.close()
            await other.close()


async def test_a_turn_that_has_passed_when_its_reply_arrives_is_requested_again(rig: Rig) -> None:
    asked_before = time.time()
    asking = await rig.asks()
    await rig.is_heard()

    (turn,) = await asking

    assert isinstance(turn, Reservation)
    [start] = await rig.other.broker.ask([(b"HGET", rig.other.broker.keys.starts("parse"), "")])
    assert float(start) / 1e6 > asked_before + OVER_SECONDS, "the one of then is not taken now"


async def test_a_key_that_was_held_meanwhile_is_left_alone(rig: Rig) -> None:
    asking = await rig.asks()
    await Limiter(rig.other.broker, "parse", [IN], RATE).hold("", 60, "HTTP 429")
    await rig.is_heard()

    assert await asking == [Postponed(key="")]


async def test_a_worker_that_has_another_name_by_then_has_a_slot_under_that(rig: Rig) -> None:
    asking = await rig.asks()
    await Workers(rig.other.broker).retire(rig.worker.name, [IN])
    new = rig.identity.renew()
    await Workers(rig.other.broker).register(new, {}, lease_ms=60_000, heartbeat="1")
    await rig.is_heard()

    (turn,) = await asking

    assert isinstance(turn, Reservation)
    [slots] = await rig.other.broker.ask([(b"ZRANGE", rig.other.broker.keys.slots("parse"), 0, -1)])
    assert new.encode() in {slot.split(b"\n")[1] for slot in slots}
