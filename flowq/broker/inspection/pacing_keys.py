"""Pacing keys on hold, and messages that queue for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from flowq.broker.client.connection import Command
from flowq.broker.client.rounds import Rounds
from flowq.broker.flow_control.limiter import parse_hold
from flowq.broker.records import pairs
from flowq.broker.redis_streams import Broker
from flowq.delivery.stored import moment_in, text_in


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A pacing key on hold: no message of it starts for a while, because a handler asked for that.

    `seconds_left` is 0 once the hold is over and one message probes the key. `repeats` counts how often the hold was
    renewed; `waiting` is the number of messages that queue for the key. `key` is "" where a stage has only one.
    """

    stage: str
    key: str
    reason: str
    seconds_left: float
    repeats: int
    waiting: int

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return asdict(self)


class KeyInspection:
    """The pacing keys of stages. Its methods raise what those of a broker raise."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def held(self, stages: Sequence[str]) -> list[HeldKey]:
        """The keys on hold, by stage, those held longest first."""
        return await self._broker.read(self.held_reading(stages)) if stages else []

    def held_reading(self, stages: Sequence[str]) -> Rounds[list[HeldKey]]:
        """The same, in one round, or two if a key is on hold."""
        names = self._broker.keys
        commands: list[Command] = [(b"TIME",)]
        for stage in stages:
            commands.append((b"HGETALL", names.hold_info(stage)))
            commands.append((b"ZRANGE", names.held_until(stage), 0, -1, b"WITHSCORES"))
        (seconds, microseconds), *replies = yield commands
        now = int(seconds) + int(microseconds) / 1e6
        held: list[HeldKey] = []
        counting: list[Command] = []
        for stage, holds, ends in zip(stages, replies[::2], replies[1::2], strict=True):
            why = dict(_pairs(holds))
            for key, end in reversed(_pairs(ends)):
                left, hold = moment_in(end) / 1000 - now, parse_hold(why.get(key, b""))
                held.append(
                    HeldKey(stage, text_in(key), hold.reason, max(0.0, round(left, 3)), hold.repeats, waiting=0)
                )
                counting.append((b"ZLEXCOUNT", names.queue(stage), b"[%b\n" % key, b"(%b\x0b" % key))
        counts = (yield counting) if counting else ()
        return [replace(each, waiting=_count(n)) for each, n in zip(held, counts, strict=True)]

    def queued_reading(self, stages: Sequence[str]) -> Rounds[Mapping[str, int]]:
        """How many messages of each stage wait for others of their key, in one round."""
        replies = yield [(b"ZCARD", self._broker.keys.queue(stage)) for stage in stages]
        return dict(zip(stages, map(_count, replies), strict=True))


def _pairs(reply: Any) -> list[tuple[Any, Any]]:
    return [] if isinstance(reply, Exception) else pairs(reply)  # a key of another type: by another program


def _count(reply: object) -> int:
    return reply if isinstance(reply, int) else 0
