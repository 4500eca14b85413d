"""What users did to a pipeline, by command or on the web page: who, what, on how many messages, and how it ended."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from flowq.broker import scripts
from flowq.broker.records import pairs
from flowq.broker.redis_streams import Broker
from flowq.delivery.stored import count_in, entry_ms, text_in
from flowq.errors import BrokerError, BrokerRefused, BrokerUnavailable, FlowqError

log = logging.getLogger("flowq.broker")

MOST_KEPT = 1000
_LONGEST = 300
DONE = "done"


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One action. Everything in it may come from outside: escape it before it reaches a screen.

    `at_ms` is its end, in milliseconds since 1970 on the clock of Redis. `actor` is who acted, such as "ana@host" or
    "local@127.0.0.1 (web)". `action` is "pause", "resume", "retry", "edit", "remove", "import", "purge", "replay" or
    "push". `selection` is what it was about, as it would be typed after the name of the command. `n` counts the
    messages that were changed, `result` is "done", or "refused" or "failed" with the reason.
    """

    at_ms: int
    actor: str
    action: str
    selection: str
    n: int
    result: str

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return asdict(self)


@dataclass
class Act:
    """An action in progress: `n` messages have been changed so far."""

    n: int = 0


class Audit:
    """The last thousand actions on one pipeline."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker.shards[0]

    async def latest(self, limit: int) -> list[AuditRecord]:
        """The last actions, the latest first."""
        entries: Sequence[Any] = await self._broker.answer(b"XRANGE", self._broker.keys.audit, b"-", b"+")
        return [_record(entry_id, dict(pairs(fields))) for entry_id, fields in entries[: -limit - 1 : -1]]

    @asynccontextmanager
    async def of(self, actor: str, action: str, selection: str) -> AsyncGenerator[Act]:
        """Record what is done in the `async with`, whether it succeeds or raises."""
        act = Act()
        record = AuditRecord(0, actor, action, selection, 0, DONE)
        try:
            yield act
        except (BrokerUnavailable, BrokerRefused):  # the record would fail as well
            raise
        except BaseException as error:
            reason = error.message if isinstance(error, FlowqError) else type(error).__name__
            await self.record(replace(record, n=act.n, result=f"failed: {reason}"))
            raise
        await self.record(replace(record, n=act.n))

    async def record(self, record: AuditRecord) -> None:
        """Add a record with the present time. If Redis does not answer, that is only logged: the action is done."""
        words = [
            word
            for name, value in asdict(record).items()
            if name != "at_ms"
            for word in (name, str(value)[:_LONGEST].encode("utf-8", "backslashreplace"))
        ]
        try:
            await self._broker.script(scripts.RECORD_ACTION, [self._broker.keys.audit], MOST_KEPT, *words)
        except BrokerError as error:
            log.warning("%s by %s is not in the audit: %s", record.action, record.actor, error.message)


def _record(entry_id: bytes, fields: Mapping[bytes, bytes]) -> AuditRecord:
    actor, action, selection, n, result = (
        text_in(fields.get(name, b""))[:_LONGEST] for name in (b"actor", b"action", b"selection", b"n", b"result")
    )
    return AuditRecord(entry_ms(entry_id), actor, action, selection, max(0, count_in(n)), result)
