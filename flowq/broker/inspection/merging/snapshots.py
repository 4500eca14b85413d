"""The snapshots of several shards as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flowq.broker.client.rounds import Rounds, together
from flowq.broker.inspection.merging.channels import channels_reading
from flowq.broker.inspection.merging.error_kinds import merged_by_kind
from flowq.broker.records import OTHER, EdgeState, FailureCount, Snapshot
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import Runs
from flowq.broker.shards.every_shard import SilentShard, ask_every_shard, ask_for_a_view
from flowq.broker.shards.waves import InTransit, in_transit
from flowq.delivery.stored import count_in, texts_in

_LOST = "lost:"
_MOST_KINDS = 10  # of failures of a stage, as in one shard


async def snapshot_of_all_shards(broker: Broker, edges: Sequence[str], stages: Sequence[str]) -> Snapshot:
    """The whole state, of one instant in each shard. Raises BrokerUnavailable, with its name, if a shard is silent."""
    if len(broker.shards) == 1:
        return await Runs(broker).snapshot(edges, stages)

    def reading(shard: Broker) -> Rounds[list[Any]]:
        return together(channels_reading(shard.keys), Runs(shard).snapshot_reading(edges, stages))

    found = (await ask_every_shard(broker, lambda shard: shard.read(reading(shard)))).whole
    transit = in_transit(channels for channels, _ in found)
    return merged_snapshot({n: seen for n, (_, seen) in enumerate(found)}, sum(transit.values()))


async def numbers_of_letters(
    broker: Broker, stages: Sequence[str], silent: dict[int, SilentShard] | None = None
) -> Mapping[str, int]:
    """How many dead letters stages have, in all shards. `silent` is as in `ask_for_a_view`."""
    found = await ask_for_a_view(broker, lambda shard: Runs(shard).partial_snapshot(stages=stages), silent)
    return _sums(each.dead_letters for each in found.values())


async def states_of_edges(broker: Broker, edges: Sequence[str]) -> Mapping[str, EdgeState]:
    """What edges hold, in all shards. Raises BrokerUnavailable if one does not answer."""
    found = await ask_every_shard(broker, lambda shard: Runs(shard).partial_snapshot(edges=edges))
    return _merged_states(each.edges for each in found.whole)


def merged_snapshot(by_shard: Mapping[int, Snapshot], in_transit: int = 0, *, is_whole: bool = True) -> Snapshot:
    """The sums of several shards. The run, its sources and pauses are those of shard 0, if it is among them.

    A process that serves several shards is one worker.
    """
    seen = [by_shard[shard] for shard in sorted(by_shard)]
    first = seen[0]
    return Snapshot(
        counters=_sums(each.counters for each in seen),
        run=first.run,
        workers=merged_facts(facts for each in seen for facts in each.workers),
        now_ms=max(each.now_ms for each in seen),
        edges=_merged_states(each.edges for each in seen),
        dead_letters=_sums(each.dead_letters for each in seen),
        paused=first.paused,
        failures=_merged_failures(each.failures for each in seen),
        orphans=_merged_states(each.orphans for each in seen),
        orphan_letters=_sums(each.orphan_letters for each in seen),
        in_transit=in_transit,
        is_whole=is_whole,
    )


def lost_messages(by_shard: Mapping[int, Snapshot]) -> InTransit:
    """Messages that a shard has forgotten although it had confirmed them, by where they came from and by itself."""
    return {
        (count_in(name.removeprefix(_LOST)), shard): n
        for shard, snapshot in by_shard.items()
        for name, n in snapshot.counters.items()
        if name.startswith(_LOST) and n > 0
    }


def process_of(facts: Mapping[str, Any]) -> Hashable:
    """What is the same for all that one process registers. What does not say is a process of its own."""
    if "pid" not in facts:
        return str(facts["worker"])
    return facts.get("host"), facts.get("where"), facts["pid"], facts.get("born")


def merged_facts(registered: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """The facts of each process once, under the first name it has registered, with the stages and names of all."""
    found: dict[Hashable, dict[str, Any]] = {}
    for facts in registered:
        known = found.setdefault(process_of(facts), dict(facts))
        if known["worker"] != facts["worker"]:
            known["formerly"] = [*texts_in(known.get("formerly")), facts["worker"], *texts_in(facts.get("formerly"))]
        known["stages"] = list(dict.fromkeys([*texts_in(known.get("stages")), *texts_in(facts.get("stages"))]))
    return tuple(found.values())


def _sums(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total = Counter[str]()
    for each in counts:
        total.update(each)
    return {**total}


def _merged_states(states: Iterable[Mapping[str, EdgeState]]) -> dict[str, EdgeState]:
    found: dict[str, EdgeState] = {}
    for each in states:
        for edge, state in each.items():
            known = found.get(edge, EdgeState(0, 0, 0))
            # Not the sum of the lengths: where an entry was deleted while it ran, the others of that shard still wait.
            length = known.length + state.waiting + state.running
            found[edge] = EdgeState(length, known.running + state.running, known.delayed + state.delayed)
    return found


def _merged_failures(failures: Iterable[Mapping[str, Sequence[FailureCount]]]) -> dict[str, Sequence[FailureCount]]:
    return {stage: _most_frequent(counts) for stage, counts in merged_by_kind(failures, _both).items()}


def _both(one: FailureCount, other: FailureCount) -> FailureCount:
    return replace(max(one, other, key=lambda each: each.due_ms), count=one.count + other.count)


def _most_frequent(counts: Sequence[FailureCount]) -> Sequence[FailureCount]:
    named = sorted((each for each in counts if each.kind != OTHER), key=lambda each: -each.count)
    rest = [*named[_MOST_KINDS:], *(each for each in counts if each.kind == OTHER)]
    if rest:
        last = max(rest, key=lambda each: each.due_ms)
        named[_MOST_KINDS:] = [replace(last, kind=OTHER, count=sum(each.count for each in rest))]
    return sorted(named, key=lambda each: -each.count)
