"""Says what is wrong with the servers that hold the shards of a pipeline, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from flowq.broker.inspection.diagnosis import start_up_findings
from flowq.broker.inspection.merging.primaries import Primaries, Primary
from flowq.broker.inspection.merging.shards_seen import hottest
from flowq.broker.shards.every_shard import shards_text
from flowq.durations import duration_text
from flowq.errors import Problem, Problems

_MOST_CLOCKS_APART_SECONDS = 1.0
_LONGEST_REPLICA_TIMEOUT_SECONDS = 10


def primaries_findings(seen: Primaries, *, is_on_trial: bool = False) -> Sequence[Problem]:
    """All problems, each with a remedy. Those of the first server alone are in `findings`.

    `is_on_trial`: they are flowq's own servers on one machine, where a replica would protect nothing.
    """
    found = Problems()
    for why, shards in groupby(sorted(seen.silent, key=lambda n: (seen.silent[n], n)), key=seen.silent.__getitem__):
        hint = "start its Redis again, or see which slots have no node (redis-cli --cluster check HOST:PORT); "
        hint += "the other shards go on until they have messages for it"
        found.add("FQ430", f"{shards_text([*shards])} cannot be reached: {why}", hint=hint)
    for primary in seen.found:
        if not is_on_trial:
            _replicas(primary, found)
        for problem in start_up_findings(primary.health) if primary is not seen.found[0] else ():
            found.warn(problem.code, f"{primary.address}: {problem.text}", hint=problem.hint)
    _clocks(seen.found, found)
    if any(primary.needs_all_slots for primary in seen.found):
        found.warn(
            "FQ434",
            "the whole Cluster stops while one of its slots is not served (cluster-require-full-coverage yes)",
            hint="on each node: redis-cli CONFIG SET cluster-require-full-coverage no",
        )
    _balance(seen.ok, found)
    if lost := sum(seen.lost.values()):
        where = shards_text([*seen.lost])
        found.warn(
            "FQ436",
            f"{lost:,} message{'s' * (lost != 1)} to {where} lost: Redis had confirmed and then forgot them",
            hint="was it restarted without its data? if you still have their input, push it again",
        )
    return found.found


def _replicas(primary: Primary, found: Problems) -> None:
    shards = shards_text(primary.shards)
    if not primary.health.replicas:
        found.warn(
            "FQ431",
            f"{primary.address} has no replica: while it is away, {shards} cannot work",
            hint="connect one (REPLICAOF, or CLUSTER REPLICATE); flowq uses it as soon as it is there",
        )
        return
    if primary.confirms is False:
        found.warn(
            "FQ432",
            f"no replica of {primary.address} confirms what is written",
            hint=f"is it hung, or cut off? until Redis drops it, nothing goes from {shards} to other shards",
        )
    if (seconds := primary.replica_timeout_seconds or 0) > _LONGEST_REPLICA_TIMEOUT_SECONDS:
        found.warn(
            "FQ433",
            f"{primary.address} waits {seconds} s for a replica that hangs (repl-timeout), and so do other shards",
            hint=f"on each node: redis-cli CONFIG SET repl-timeout {_LONGEST_REPLICA_TIMEOUT_SECONDS}",
        )


def _clocks(primaries: Sequence[Primary], found: Problems) -> None:
    if not primaries:
        return
    in_order = sorted(primaries, key=lambda primary: primary.health.clock_ahead_seconds)
    slow, fast = in_order[0], in_order[-1]
    apart = fast.health.clock_ahead_seconds - slow.health.clock_ahead_seconds
    if apart > _MOST_CLOCKS_APART_SECONDS:
        text = f"the clock of {fast.address} is {duration_text(apart)} ahead of that of {slow.address}"
        found.warn("FQ435", text, hint="run an NTP service on both: a failover may be shorter than that")


def _balance(ok: Mapping[int, int], found: Problems) -> None:
    if (shard := hottest(ok)) is not None:
        times = ok[shard] * len(ok) / sum(ok.values())
        found.warn(
            "FQ437",
            f"shard {shard} has handled {times:.1f} times as many messages as the average shard",
            hint='one key has most of the messages: another place=, or place="spread" where no key matters',
        )
