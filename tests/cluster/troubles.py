"""What goes wrong in a cluster and with the workers of a crawl: each trouble is one strike."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from flowq.broker.keys import Keys
from tests.cluster.crawl_verdict import PIPELINE
from tests.cluster.lab import NAMESPACE, Lab, Servers, empty_out, fill, slot_of
from tests.faults.deployments import Node
from tests.integration.project import Project

LAG_SECONDS = 2.5
_BETWEEN_KEYS_SECONDS = 0.05


@dataclass
class Scene:
    """What troubles act on. `n` is how often each of them strikes."""

    home: Lab | Servers
    project: Project
    n_shards: int
    say: Callable[[str], None]
    n: dict[str, int]
    seed: int = 1
    done: dict[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        self.roll = random.Random(self.seed)

    @property
    def lab(self) -> Lab:
        assert isinstance(self.home, Lab), "plain servers have no replicas and no slots"
        return self.home

    def count(self, trouble: str, n: int = 1) -> int:
        self.done[trouble] = self.done.get(trouble, 0) + n
        return self.done[trouble]

    def has_enough(self, trouble: str) -> bool:
        return self.done.get(trouble, 0) >= self.n[trouble]

    def keys(self, shard: int) -> Keys:
        return Keys(NAMESPACE, PIPELINE).in_shard(shard)

    def some_primary(self) -> Node:
        """A primary that holds at least one shard."""
        shard = self.roll.randrange(self.n_shards)
        return self.home.primary_of(self.keys(shard))

    async def let_it_crawl(self, least_seconds: float, most_seconds: float) -> None:
        """Let some time pass between faults, or during one: it must meet the crawl in any state."""
        await asyncio.sleep(self.roll.uniform(least_seconds, most_seconds))  # by chance; no claim depends on it

    async def whole(self) -> None:
        await asyncio.to_thread(self.home.wait_until_whole)


async def kills(scene: Scene) -> None:
    """kill -9 of a worker, with the forwarders in it."""
    await scene.let_it_crawl(0.5, 3.5)  # a worker needs a moment to start, and then does something
    if workers := sorted(scene.project.workers()):
        pid = scene.roll.choice(workers)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            scene.say(f"kill -9 of worker {pid} ({scene.count('kills')})")


async def cuts(scene: Scene) -> None:
    """All connections to a node are cut at once."""
    await scene.let_it_crawl(0.05, 0.5)
    proxy = scene.roll.choice(scene.lab.proxies)
    if n := proxy.n_connections:
        proxy.reset_connections()
        scene.say(f"{n} connections cut ({scene.count('cuts', n)})")


async def replies(scene: Scene) -> None:
    """Redis obeys, and no client learns of it: replies of scripts and of trims are lost."""
    await scene.let_it_crawl(0.02, 0.1)
    proxy = scene.roll.choice([proxy for proxy in scene.lab.proxies if proxy.n_connections] or scene.lab.proxies)
    before = proxy.dropped
    proxy.drop_reply(scene.roll.choice(("EVALSHA", "EVALSHA", "XTRIM", "WAIT", "XREADGROUP")))
    await scene.let_it_crawl(0.05, 0.05)
    if n := proxy.dropped - before:
        scene.count("replies", n)


async def failover(scene: Scene) -> None:
    """A primary dies whose replica has been unable to follow it: what it did meanwhile is forgotten."""
    await scene.let_it_crawl(0.5, 2.0)
    primary = scene.some_primary()
    replica = scene.lab.replica_of(primary)
    replica.freeze()
    await scene.let_it_crawl(LAG_SECONDS, LAG_SECONDS)
    lag = primary.replication["master_repl_offset"] - _confirmed(primary)
    primary.kill()
    replica.thaw()
    await asyncio.to_thread(scene.lab.wait_for_promotion, primary, replica)
    scene.say(f"failover from {primary.address}: {lag:,} bytes forgotten ({scene.count('failover')})")
    primary.start()
    await scene.whole()


def _confirmed(primary: Node) -> int:
    """The bytes that the replica of a primary has confirmed."""
    confirmed: int = primary.replication["slave0"]["offset"]
    return confirmed


async def blackout(scene: Scene) -> None:
    """A primary and its replica die together, and come back with what they have written down."""
    await scene.let_it_crawl(0.5, 2.0)
    primary = scene.some_primary()
    pair = scene.home.pair_of(primary)
    for node in pair:  # the kernel has what they have written: kill -9 does not take it back
        node.kill()
    await scene.let_it_crawl(4.0, 10.0)
    for node in pair:
        node.start()
    await scene.whole()
    scene.say(f"{primary.address} and its replicas killed and back ({scene.count('blackout')})")


async def full(scene: Scene) -> None:
    """A primary has no memory left for a while."""
    await scene.let_it_crawl(0.5, 2.0)
    primary = scene.some_primary()
    fill(primary)
    await scene.let_it_crawl(2.0, 5.0)
    empty_out(primary)
    scene.say(f"{primary.address} was full ({scene.count('full')})")


async def slots(scene: Scene) -> None:
    """The slot of a shard moves to another primary, key by key."""
    await scene.let_it_crawl(0.2, 1.0)
    shard = scene.roll.randrange(scene.n_shards)
    source = scene.lab.primary_of(scene.keys(shard))
    target = scene.roll.choice([node for node in scene.lab.primaries() if node is not source])
    slot = slot_of(scene.keys(shard))
    pause = partial(time.sleep, _BETWEEN_KEYS_SECONDS)  # the slot is half moved for a while
    n_keys = await asyncio.to_thread(scene.lab.move_key_by_key, slot, target, pause=pause)
    scene.say(f"shard {shard} moved to {target.address}, {n_keys} keys one by one ({scene.count('slots')})")


Trouble = Callable[[Scene], Awaitable[None]]
TOGETHER: dict[str, Trouble] = {"kills": kills, "cuts": cuts, "replies": replies}
"""These strike at any time, also each other."""
IN_TURN: dict[str, Trouble] = {"failover": failover, "blackout": blackout, "full": full, "slots": slots}
"""Each of these leaves a cluster whole for the next."""
TROUBLES = TOGETHER | IN_TURN
NEED_PROXIES = {"cuts", "replies"}


async def strike(scene: Scene) -> None:
    """Let all troubles strike as often as they should."""

    async def again_and_again(names: list[str]) -> None:
        while left := [name for name in names if not scene.has_enough(name)]:
            await TROUBLES[scene.roll.choice(left)](scene)

    in_turn = [name for name in scene.n if name in IN_TURN]
    await asyncio.gather(again_and_again(in_turn), *(again_and_again([name]) for name in scene.n if name in TOGETHER))
