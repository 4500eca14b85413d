"""Pacing keys on hold, and messages that queue for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flowq.broker.client.retrying import CALL_TIMEOUT_SECONDS
from flowq.broker.records import pairs
from flowq.broker.redis_streams import Broker
from flowq.delivery.stored import count_in, moment_in, text_in


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
        if not stages:
            return []
        names = self._broker.keys
        commands: list[Sequence[Any]] = [(b"TIME",)]
        for stage in stages:
            commands.append((b"HGETALL", names.hold_info(stage)))
            commands.append((b"ZRANGE", names.held_until(stage), 0, -1, b"WITHSCORES"))
        link = self._broker.link()
        try:
            (seconds, microseconds), *replies = await link.call_all(commands, timeout_seconds=CALL_TIMEOUT_SECONDS)
            now = int(seconds) + int(microseconds) / 1e6
            found: list[HeldKey] = []
            for stage, holds, ends in zip(stages, replies[::2], replies[1::2], strict=True):
                why = dict(pairs(holds))
                for key, end in reversed(pairs(ends)):
                    waiting = await link.call(
                        b"ZLEXCOUNT", names.queue(stage), b"[%b\n" % key, b"(%b\x0b" % key,
                        timeout_seconds=CALL_TIMEOUT_SECONDS,
                    )  # fmt: skip
                    left, (repeats, reason) = moment_in(end) / 1000 - now, parse_hold(why.get(key, b""))
                    found.append(HeldKey(stage, text_in(key), reason, max(0.0, round(left, 3)), repeats, waiting))
            return found
        finally:
            await link.close()

    async def queued(self, stages: Sequence[str]) -> Mapping[str, int]:
        """How many messages of each stage wait for others of their key."""
        link = self._broker.link()
        try:
            commands = [(b"ZCARD", self._broker.keys.queue(stage)) for stage in stages]
            replies = await link.call_all(commands, timeout_seconds=CALL_TIMEOUT_SECONDS) if commands else []
        finally:
            await link.close()
        return dict(zip(stages, replies, strict=True))


def parse_hold(raw: bytes) -> tuple[int, str]:
    """How often a key was held again, and why; nothing where the record of its hold cannot be read."""
    _, repeats, _, reason = (*text_in(raw).split(" ", 3), "", "", "", "")[:4]
    return max(0, count_in(repeats)), reason
