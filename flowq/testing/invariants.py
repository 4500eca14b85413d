"""What holds for every pipeline once it is drained and stopped: nothing lost, nothing doubled, nothing left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from flowq.broker.keys import GROUP
from flowq.broker.records import counters_in
from flowq.broker.redis_streams import Broker
from flowq.broker.workers import Workers
from flowq.delivery.policy import AckMode
from flowq.graph.compilation.plan import Plan
from flowq.inspector import Inspector
from flowq.testing.journal import Journal
from flowq.testing.observed_state import Balance
from flowq.testing.verdicts import InvariantBroken

_OF_CHANNELS = {"lost": "are lost on the way", "again": "came twice"}


async def check_invariants(plan: Plan, broker: Broker, journal: Journal | None) -> None:
    """Raise InvariantBroken with everything that does not hold. Workers have stopped, and nothing is outstanding.

    `journal`: None if Redis has forgotten part of what is in it. What that part was is lost, or handled again.
    """
    balance = Balance(await Inspector(plan, broker).balance())
    found = [
        *_unbalanced(balance),
        *(_lost(plan, balance, journal) if journal else ()),
        *(_doubled(journal) if journal else ()),
        *[each for shard in broker.shards for each in await _left_behind(plan, shard)],
        *(await _wrong_between(broker.shards) if len(broker.shards) > 1 else ()),
    ]
    if found:
        raise InvariantBroken(
            f"{len(found)} invariant{'s' * (len(found) > 1)} broken: {found[0]}",
            detail="\n  ".join(found[1:]),
            hint="that is an error in flowq, unless the test has changed Redis itself: please report it with the seed",
        )


def _unbalanced(balance: Balance) -> Sequence[str]:
    return [
        f"the balance of {name} does not add up: {stage}"
        for name, stage in balance.items()
        if not stage.adds_up or stage.outstanding
    ]


def _lost(plan: Plan, balance: Balance, journal: Journal) -> list[str]:
    """Compare the journal of outputs and settlements with the counters in Redis."""
    settled = Counter(plan.edge_by_name[edge].target for _, edge, _ in journal.finished)
    found: list[str] = []
    for stage in plan.consumers:
        counted, is_early = balance[stage.name], stage.ack is not AckMode.AFTER
        n = counted.ok + counted.filtered
        n_at_most = n + counted.dead if is_early else n  # what fails after its settlement is counted as dead instead
        if not n <= settled[stage.name] <= n_at_most:
            found.append(f"{stage.name}: {settled[stage.name]:,} messages were settled, Redis has counted {n:,}")
        if is_early:  # what it sends after a settlement may be lost when its worker dies
            continue
        if (sent := journal.sent[stage.name]) != counted.out:
            found.append(
                f"{stage.name}: its handler has returned {sent:,} messages, Redis has received {counted.out:,}"
            )
    return found


def _doubled(journal: Journal) -> list[str]:
    return [
        f"message {message_id} on {edge} was settled {n} times"
        for (edge, message_id), n in Counter(journal.finished_ids()).items()
        if n > max(1, journal.pushed[edge, message_id])
    ]


async def _left_behind(plan: Plan, broker: Broker) -> list[str]:
    edges = [edge.name for edge in plan.edges]
    workers, found = Workers(broker), list[str]()
    registered = await workers.registered()
    found += [f"worker {name} is still registered" for name in registered]
    found += [f"the lease of {name} is left" for name, beat in (await workers.leases(list(registered))).items() if beat]
    for edge, consumers in (await workers.consumers_of(edges)).items():
        found += [f"{edge}: consumer {name} is left" for name in consumers]
    for edge in edges:
        pending = await broker.answer(b"XPENDING", broker.keys.edge(edge), GROUP)
        if pending and pending[0]:
            found.append(f"{edge}: {pending[0]} deliveries are pending")
        for kind, key in (("delayed", broker.keys.delayed(edge)), ("bodies", broker.keys.delayed_bodies(edge))):
            count = await broker.answer(b"ZCARD" if kind == "delayed" else b"HLEN", key)
            found += [f"{edge}: {count} {kind} are left"] * bool(count)
    return found + [f"a record of the death of {name} is left" for name in await workers.death_records()]


async def _wrong_between(shards: Sequence[Broker]) -> list[str]:
    """What is left in outboxes, and what a shard has forgotten though it was certain, or has given away twice."""
    found = list[str]()
    for broker in shards:
        for to in shards:
            n = await broker.answer(b"XLEN", broker.keys.outbox_of(str(to.shard)))
            found += [f"shard {broker.shard}: {n} entries are left in the outbox for shard {to.shard}"] * bool(n)
        for name, n in counters_in(await broker.answer(b"HGETALL", broker.keys.stats)).items():
            kind, _, source = name.partition(":")
            if n and kind in _OF_CHANNELS:
                found.append(f"shard {broker.shard}: {n} messages of shard {source} {_OF_CHANNELS[kind]}")
    return found
