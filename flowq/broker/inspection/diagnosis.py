"""Says what is wrong with a Redis, what to do about it, and what would be lost when something fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowq.broker.inspection.health import Forbidden, Health, acl_hint
from flowq.delivery.chunks import MOST_BYTES_PER_CALL
from flowq.delivery.policy import Durability
from flowq.durations import duration_text
from flowq.errors import BrokerRefused, ClaimStoreUnavailable, Problem, Problems
from flowq.large_bodies.store import BodyStore

OLDEST_VERSION = (6, 2)
_MOST_CLOCK_SKEW_SECONDS = 2.0
_SLOW_SECONDS = 0.005
_FULL = 0.9
_LARGE_BYTES = 2 * MOST_BYTES_PER_CALL
_SIZE_LIMITS = {
    "client-output-buffer-limit": ("FQ424", "Redis closes connections that read more at once than", '"normal 0 0 0"'),
    "proto-max-bulk-len": ("FQ425", "Redis closes connections that send a message larger than", "512mb"),
    "client-query-buffer-limit": ("FQ426", "Redis closes connections that send more at once than", "1gb"),
}


def refuse_old(health: Health, address: str) -> None:
    """Raise BrokerRefused for a server that lacks what flowq needs."""
    if health.version and health.version < OLDEST_VERSION:
        raise BrokerRefused(
            f"{address} is {health.product}; flowq needs {'.'.join(map(str, OLDEST_VERSION))} or newer",
            hint='upgrade it, or use "embedded" as the URL: flowq then runs its own',
        )


def start_up_findings(health: Health, durability: Durability = "local") -> Sequence[Problem]:
    """Warnings at the start of a run."""
    found = Problems()
    if health.eviction not in (None, "noeviction"):
        found.warn(
            "FQ410",
            f"Redis may evict messages when its memory is full (maxmemory-policy {health.eviction})",
            hint="redis-cli CONFIG SET maxmemory-policy noeviction",
        )
    if health.append_only is False and health.snapshots == "":
        found.warn(
            "FQ411",
            "Redis keeps nothing on disk: when it stops, all messages are gone",
            hint="redis-cli CONFIG SET appendonly yes, and the same in its configuration file",
        )
    if abs(ahead_seconds := health.clock_ahead_seconds) > _MOST_CLOCK_SKEW_SECONDS:
        way = "ahead of" if ahead_seconds > 0 else "behind"
        found.warn(
            "FQ412",
            f"the clock of Redis is {duration_text(abs(ahead_seconds))} {way} the one here",
            hint="run an NTP service on both machines: delays go by the clock of Redis, dates in logs by this one",
        )
    if durability == "replicated" and not health.replicas:
        found.warn(
            "FQ413",
            'durability is "replicated", but Redis has no replica: nothing that is pushed will be confirmed',
            hint='connect one (REPLICAOF), or set durability = "local"',
        )
    return found.found


async def store_findings(store: BodyStore) -> Sequence[Problem]:
    """Whether large bodies can be written."""
    found = Problems()
    try:
        await store.try_to_write()
    except ClaimStoreUnavailable as error:
        text = f"{error.message}: {error.detail}"
        found.warn("FQ421", text, hint=f"{error.hint}; until then messages with large bodies wait")
    return found.found


def findings(
    health: Health, durability: Durability, *, latency_seconds: float, forbidden: Forbidden, keys: str
) -> Sequence[Problem]:
    """All problems, each with a remedy. `forbidden` applies to `keys`, a pattern."""
    found = Problems([*start_up_findings(health, durability)])
    if not health.is_primary:
        found.warn("FQ414", "this Redis is a replica: it accepts no writes", hint="use the URL of its primary")
    if forbidden.keys:
        found.warn("FQ415", f"this user of Redis may not use the keys {keys}", hint=acl_hint(forbidden, keys))
    elif forbidden:
        text = f"this user of Redis may not call {', '.join(forbidden.commands)}"
        found.warn("FQ415", text, hint=acl_hint(forbidden, keys))
    if health.replicas and health.min_replicas == 0 and durability == "local":
        found.warn(
            "FQ416",
            "a primary that is cut off from its replicas still accepts messages, which a failover loses",
            hint='CONFIG SET min-replicas-to-write 1, and min-replicas-max-lag 2; or durability = "replicated"',
        )
    if health.append_only and health.fsync == "no":
        found.warn(
            "FQ417",
            "Redis leaves it to the system when its log goes to disk (appendfsync no)",
            hint="redis-cli CONFIG SET appendfsync everysec",
        )
    if health.write_failures:
        what = ", ".join(health.write_failures)
        found.warn("FQ418", f"Redis could not write to its disk ({what})", hint="see its log: is the disk full?")
    if health.memory_limit_bytes and (used := health.memory_bytes / health.memory_limit_bytes) > _FULL:
        found.warn(
            "FQ419",
            f"{used:.0%} of the memory that Redis may use is in use",
            hint="raise maxmemory, run more workers, or lower maxsize= of stages",
        )
    if latency_seconds > _SLOW_SECONDS:
        found.warn(
            "FQ420",
            f"Redis takes {duration_text(latency_seconds)} to answer",
            hint="run workers near it; if they are, it is busy or swapping: redis-cli SLOWLOG GET",
        )
    for name, limit in health.size_limits.items():
        if limit < _LARGE_BYTES:
            code, what, remedy = _SIZE_LIMITS[name]
            found.warn(code, f"{what} {limit:,} bytes ({name})", hint=f"redis-cli CONFIG SET {name} {remedy}")
    return found.found


def loss_windows(health: Health, durability: Durability) -> Mapping[str, str]:
    """What may be lost of what was confirmed, by what happens to Redis."""
    process, power = _losses_of_one(health)
    return {"kill of the process": process, "power loss": power, "failover": _loss_at_failover(health, durability)}


def _losses_of_one(health: Health) -> tuple[str, str]:
    if health.append_only is None:
        return "unknown", "unknown"
    if health.append_only:
        # The log is written before the answer goes out; only the operating system can still lose it.
        seconds = {"always": "0", "everysec": "up to ~2 s", "no": "up to ~30 s"}
        return "0", seconds.get(health.fsync or "", "unknown")
    if health.snapshots is None:
        return "unknown", "unknown"
    since = "all since the last snapshot" if health.snapshots else "everything"
    return since, since


def _loss_at_failover(health: Health, durability: Durability) -> str:
    if not health.replicas:
        return "no replica that could take over" if durability == "local" else "nothing is confirmed without a replica"
    if durability == "replicated":
        return "0 of what is pushed, as long as the replica that confirmed takes over"
    if health.min_replicas is None:
        return "what the replica did not have yet, and perhaps what a primary that was cut off still accepted"
    if health.min_replicas:
        return f"what the replica did not have yet: up to ~{(health.min_replicas_lag_seconds or 0) + 2} s"
    return "what the replica did not have yet, and all that a primary which was cut off still accepted"
