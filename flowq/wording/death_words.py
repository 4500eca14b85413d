"""How workers died, in words."""

from __future__ import annotations

from collections.abc import Sequence

from flowq.broker.inspection.dead_workers import DeadWorker
from flowq.printable import printable
from flowq.wording.quantities import counted, span_words


def death_words(dead: Sequence[DeadWorker], now_ms: int) -> str:
    """The deaths of the last day in one line, with the latest of them; `dead` is not empty.

    >>> died = [DeadWorker("h:7:x", 1000, "died of SIGKILL"), DeadWorker("h:6:y", 500, "its process is gone")]
    >>> death_words(died, 21_000)
    '2 workers died in the last day, the latest 20 s ago: h:7:x died of SIGKILL'
    >>> death_words(died[:1], 21_000)
    '1 worker died 20 s ago: h:7:x died of SIGKILL'
    """
    latest = dead[0]
    ago = _ago(latest, now_ms)
    when = ago if len(dead) == 1 and ago else f" in the last day, the latest{ago}" if ago else " in the last day"
    return f"{counted(len(dead), 'worker')} died{when}: {death_of(latest)}"


def death_of(worker: DeadWorker) -> str:
    """One death.

    >>> death_of(DeadWorker("h:7:x", None, "its lease has ended"))
    'h:7:x: its lease has ended'
    """
    how = printable(worker.how) or "for an unknown reason"
    return f"{printable(worker.name)}{'' if how.startswith(('died', 'ended', 'for')) else ':'} {how}"


def _ago(worker: DeadWorker, now_ms: int) -> str:
    return "" if worker.at_ms is None else f" {span_words(max(0, now_ms - worker.at_ms) / 1000)} ago"
