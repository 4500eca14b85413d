"""A shard that does not answer: what goes on in the others meanwhile."""

from __future__ import annotations

import asyncio

from flowq import Pipeline, stage
from flowq.broker.client.connection import UrlDialer
from flowq.broker.keys import Keys
from flowq.broker.open import dialer_for
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import close_shards, with_shards
from flowq.broker.workers import Workers
from flowq.runtime.death_records import Death
from flowq.runtime.process.death_recorder import DeathRecorder
from flowq.runtime.process.runner import Runner
from flowq.runtime.run import RunOptions
from tests.conformance.worker import Item, Worker
from tests.conftest import Servers
from tests.eventually import eventually
from tests.faults.proxy import Proxy


async def test_suspects_are_run_while_another_shard_is_silent(redis_server: Servers, unique_namespace: str) -> None:
    server = redis_server("bundled")
    ran = list[int]()

    @stage
    async def parse(item: Item) -> None:
        ran.append(item.n)

    plan, keys = Pipeline("lab", parse, shards=2).plan, Keys(unique_namespace, "lab")

    async with Proxy(server.url) as first, Proxy(server.url) as second:
        victim = await Worker.sign_on(UrlDialer(first.url), keys, "victim")
        await victim.given_one(b'{"n":7}')
        await Workers(victim.broker).record_death("victim", "crash: died of SIGSEGV")

        async def is_forgotten() -> bool:
            return await Workers(victim.broker).death_records() == {}

        second.refuse()
        url = f"redis+servers://127.0.0.1:{first.port},127.0.0.1:{second.port}/0"
        broker = with_shards(Broker(dialer_for(url, "lab"), keys), 2)
        quarantine = Runner(plan, broker, RunOptions(), supervised=True, quarantined=True)
        await quarantine.start()

        await eventually(is_forgotten)

        assert ran == [7]
        assert not quarantine.ended.done(), "what is in the other shard is not known"
        second.accept()
        await asyncio.wait_for(quarantine.ended, 60)
        await quarantine.stop()
        await close_shards(broker)
        await victim.close()


async def test_a_death_is_recorded_at_once_where_a_shard_answers_and_elsewhere_as_soon_as_it_does(
    redis_server: Servers, unique_namespace: str
) -> None:
    server, keys = redis_server("bundled"), Keys(unique_namespace, "lab")
    facts = {"supervisor": "ours", "pid": 4711, "born": "100"}
    learned = list[str]()

    async with Proxy(server.url) as first, Proxy(server.url) as second:
        url = f"redis+servers://127.0.0.1:{first.port},127.0.0.1:{second.port}/0"
        broker = with_shards(Broker(dialer_for(url, "lab"), keys), 2)
        for shard in broker.shards:
            await Workers(shard).register(f"worker in {shard.shard}", facts, lease_ms=60_000, heartbeat="1")
        recorder = DeathRecorder(broker, on_recorded=lambda: learned.append("a shard"), on_end=lambda _: None)
        second.refuse()

        assert await recorder.record(Death("ours", 4711, "100", "died of SIGKILL", was_asked=False))
        assert not await recorder.record(Death("ours", 4712, "200", "died of SIGKILL", was_asked=False))
        assert await Workers(broker).death_records() == {"worker in 0": "crash: died of SIGKILL"}
        assert learned == ["a shard"]

        second.accept()
        await eventually(lambda: len(learned) == 2)
        assert await Workers(broker.shards[1]).death_records() == {"worker in 1": "crash: died of SIGKILL"}
        await recorder.close(within_seconds=60)
        await close_shards(broker)
