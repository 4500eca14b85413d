"""The rate limiter of a stage, in Redis: reserved starts, slots, holds and queues of its keys."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from itertools import chain
from typing import Any, NamedTuple

from flowq.broker import scripts
from flowq.broker.records import pairs
from flowq.broker.redis_streams import Broker
from flowq.delivery.message import Delivery
from flowq.delivery.policy import Rate
from flowq.delivery.stored import count_in, text_in

LONGEST_PACE_SECONDS = 60.0
PACE_KEPT_SECONDS = 3600.0  # after the last start of its key
LONGEST_HOLD_SECONDS = 3600.0  # when doubled; a hold that asks for more gets it
_MOST_DEQUEUED = 500
_MOST_LOOKED_AT = 1000


class Reservation(NamedTuple):
    """When a delivery may start: after `wait_seconds`, a short time that its worker waits itself.

    `is_postponed`: it is delayed in Redis for that time, and must reserve again then. `must_queue`: it queues in Redis
    until it is woken. `is_probe`: it starts alone after a hold, to test whether its key works again.
    """

    wait_seconds: float = 0.0
    must_queue: bool = False
    is_probe: bool = False
    is_postponed: bool = False


class Verdict(Enum):
    """What the end of a delivery says about its key, as the script reads it."""

    SUCCEEDED = b"o"
    HELD = b"h"
    FAILED = b"f"
    REJECTED = b"r"  # not the fault of the key
    NOT_RUN = b"n"


class Hold(NamedTuple):
    """What Redis notes of a held key. `prober`: the worker and message that test whether the key works again."""

    repeats: int
    prober: str
    reason: str


class Started(NamedTuple):
    """A message that has a slot of its key, or probes it. `message`: its edge and entry id, as `slot_of` returns."""

    key: str
    worker: str
    message: str


class Finished(NamedTuple):
    """The end of a message that had a reservation."""

    key: str
    worker: str
    message: str
    took_seconds: float
    verdict: Verdict


class Limiter:
    """The pacing keys of one stage. Its methods raise what those of a broker raise.

    A call repeated with the same token takes effect once, if it is the latest of its kind from this limiter.
    """

    def __init__(self, broker: Broker, stage: str, edges: Sequence[str], rate: Rate) -> None:
        self._broker = broker
        self._stage = stage
        self._edges = edges
        self._limits = (int(rate.adaptive), *_limits(rate))
        self._own = {key: (key, *_limits(own)) for key, own in rate.keys.items()}
        keys = broker.keys
        self._names = [
            keys.rate(stage), keys.starts(stage), keys.held_until(stage), keys.hold_info(stage), keys.slots(stage),
            keys.pace(stage), keys.workers,
        ]  # fmt: skip
        self._cursor = b"0"
        self.reserved_at = 0.0  # when Redis made the latest reservations, in seconds of its clock
        self._name = broker.new_token()
        self.new_token = broker.new_token

    async def reserve(
        self,
        messages: Sequence[tuple[str, Delivery]],
        *,
        worker: str,
        soon_seconds: float,
        lead_seconds: float = 0.0,
        again: bool = False,
        missed: Mapping[tuple[str, bytes], float] | None = None,
        token: str = "",
    ) -> list[Reservation]:
        """Reserve a start for each message, given with its key. One that may start occupies its slot from now on.

        Messages that ask for the first time start within `soon_seconds` or not at all. `again`: all of them had
        reservations and missed them; `missed` has these starts by edge and entry id, in seconds of Redis' clock, so
        that they can be returned. `lead_seconds`: no start is earlier than this from now, because the reply takes that
        long.
        """
        flat: list[Any] = []
        for key, delivery in messages:
            at = (missed or {}).get((delivery.edge, delivery.entry_id))
            reserves_again = round(at * 1_000_000) if at else int(again or delivery.header.granted)
            flat += (key, reserves_again, slot_of(delivery.edge, delivery.entry_id))
        *decisions, reserved_at = await self._broker.script(
            scripts.RESERVE, self._names,
            *self._limits_of(key for key, _ in messages), worker, round(soon_seconds * 1_000_000),
            round(lead_seconds * 1_000_000), *flat, token=token, caller=f"{self._name}:reserve",
        )  # fmt: skip
        self.reserved_at = reserved_at / 1_000_000
        return [
            Reservation(wait_us / 1e6, must_queue=what == b"q", is_probe=what == b"t", is_postponed=what == b"b")
            for what, wait_us in zip(decisions[::2], decisions[1::2], strict=True)
        ]

    async def hold(self, key: str, seconds: float, reason: str, *, token: str = "") -> float:
        """Hold a key from now on, and return for how many seconds."""
        keys = self._broker.keys
        left_ms: int = await self._broker.script(
            scripts.HOLD,
            [keys.held_until(self._stage), keys.hold_info(self._stage)],
            key, round(seconds * 1000), round(LONGEST_HOLD_SECONDS * 1000), reason, token=token,
        )  # fmt: skip
        return left_ms / 1000

    async def pace(self, key: str, seconds: float) -> bool:
        """Keep the starts of a key this far apart, if the rate does not keep them further; whether Redis noted it."""
        value = round(seconds * 1_000_000)
        [reply] = await self._broker.ask([(b"HSET", self._broker.keys.pace(self._stage), f"\n{key}", value)])
        return not isinstance(reply, Exception)

    async def finish(self, finished: Sequence[Finished], *, token: str = "") -> list[str]:
        """Record what has finished; those of its keys for which messages queue."""
        flat: list[Any] = []
        for *started, took_seconds, verdict in finished:
            flat += (*started, round(took_seconds * 1_000_000), verdict.value)
        queued = await self._broker.script(
            scripts.FINISH, [*self._names, self._broker.keys.queue(self._stage)],
            *self._limits_of(item.key for item in finished), round(LONGEST_PACE_SECONDS * 1_000_000), *flat,
            token=token, caller=f"{self._name}:finish",
        )  # fmt: skip
        return [text_in(key) for key in queued]

    async def started_by(self, workers: Collection[str]) -> list[Started]:
        """The messages that, as Redis has it, these workers are running: those with a slot, and those that probe."""
        keys = self._broker.keys
        slots, holds = await self._broker.ask(
            [(b"ZRANGE", keys.slots(self._stage), 0, -1), (b"HGETALL", keys.hold_info(self._stage))]
        )
        # A key of another type belongs to another program.
        found = [] if isinstance(slots, Exception) else [text_in(slot).rsplit("\n", 2) for slot in slots]
        for key, hold in () if isinstance(holds, Exception) else pairs(holds):
            found.append([text_in(key), *parse_hold(hold).prober.split("|", 1)])
        return [Started(*each) for each in found if len(each) == 3 and each[1] in workers]

    async def dequeue(self, keys: Iterable[str], *, sweep: bool = False, token: str = "") -> list[str]:
        """Wake messages that queue for these keys, as many as may start. Returns the keys with more to wake at once.

        `sweep` looks at every key for which messages queue.
        """
        broker, edges, keys = self._broker, self._edges, list(keys)
        names = [*self._names, broker.keys.queue(self._stage), *chain.from_iterable(map(broker.keys.of_edge, edges))]
        more = await broker.script(
            scripts.DEQUEUE, names,
            *self._limits_of(self._own if sweep else keys), int(sweep), _MOST_DEQUEUED, len(edges), *edges, *keys,
            token=token, caller=f"{self._name}:dequeue",
        )  # fmt: skip
        return [text_in(key) for key in more]

    async def expire_idle_keys(self, *, token: str = "") -> bool:
        """Expire idle keys among the next thousand; whether most of those looked at were idle."""
        self._cursor, looked_at, expired = await self._broker.script(
            scripts.EXPIRE_IDLE_KEYS, self._names,
            *self._limits_of(self._own), round(PACE_KEPT_SECONDS * 1_000_000), self._cursor, _MOST_LOOKED_AT,
            token=token, caller=f"{self._name}:forget",
        )  # fmt: skip
        return bool(2 * expired > looked_at)

    def _limits_of(self, keys: Iterable[str]) -> Sequence[Any]:
        """The limits of the stage, and of those of the keys that have their own, as `next_limiter` reads them."""
        own = [self._own[key] for key in dict.fromkeys(keys) if key in self._own] if self._own else ()
        return (*self._limits, len(own), *chain.from_iterable(own))


def _limits(rate: Rate) -> tuple[int, int, int]:
    """Interval in microseconds, burst, concurrency (0: no limit)."""
    return round(rate.interval_seconds * 1_000_000), rate.burst, rate.concurrency or 0


def parse_hold(raw: bytes) -> Hold:
    """What is noted of a held key; nothing where it cannot be read."""
    _, repeats, prober, reason = (*text_in(raw).split(" ", 3), "", "", "", "")[:4]
    return Hold(max(0, count_in(repeats)), prober, reason)


def slot_of(edge: str, entry_id: bytes) -> str:
    """The name of a message among slots and probes."""
    return f"{edge}|{entry_id.decode()}"
