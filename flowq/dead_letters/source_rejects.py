"""What sources have read that could not become a message: how much it is, and the first of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flowq.broker.redis_streams import Broker
from flowq.dead_letters.stored_letters import StoredLetters
from flowq.delivery.stored import text_of
from flowq.graph.compilation.plan import Plan

_PER_CALL, _MOST_READ = 1000, 10_000
_MOST_SHOWN = 3


@dataclass(frozen=True, slots=True)
class SourceReject:
    """One of them. `read_at` is where the source was, such as "a.csv, line 3, column n: oops,bad"."""

    stage: str
    read_at: str
    error: str


@dataclass(frozen=True, slots=True)
class SourceRejects:
    """All of them, and the first few. `is_more`: only the first 10,000 dead letters were counted."""

    n: int
    is_more: bool
    first: Sequence[SourceReject]

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {"count": self.n, "more": self.is_more, "first": [asdict(reject) for reject in self.first]}


async def rejects_since(plan: Plan, broker: Broker, moment_ms: int) -> SourceRejects:
    """Those of all sources since a moment on the clock of Redis. Reads no bodies."""
    n, n_read, first = 0, 0, list[SourceReject]()
    for stage in dict.fromkeys(edge.target for source in plan.sources for edge in plan.edges_out_of(source.name)):
        after = f"{moment_ms - 1}-0"
        while n_read < _MOST_READ:
            entries = await StoredLetters(broker, stage).read(after=after, limit=_PER_CALL, bodies=False)
            n_read += len(entries)
            for entry in entries:
                if read_at := text_of(entry.info.get("read_at")):
                    n += 1
                    if n <= _MOST_SHOWN:
                        first.append(SourceReject(stage, read_at, text_of(entry.info.get("error"))))
            if len(entries) < _PER_CALL:
                break
            after = entries[-1].entry_id
    return SourceRejects(n, n_read >= _MOST_READ, first)
