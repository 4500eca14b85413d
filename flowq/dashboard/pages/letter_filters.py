"""Filters of dead letters in an address: those of `flowq dlq`, and the same as a command to copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from flowq.dashboard.access.shown_conditions import conditions_in
from flowq.dashboard.access.shown_fields import ShownFields, masked_text
from flowq.dead_letters.selection import Selection
from flowq.durations import seconds
from flowq.errors import UsageError
from flowq.graph.compilation.plan import Plan
from flowq.wording.shell_commands import shell_command

PERIODS = ("15m", "1h", "6h", "1d", "7d")
_LONGEST, _MOST_CONDITIONS = 300, 8


@dataclass(frozen=True, slots=True)
class LetterFilters:
    """What was asked for, as it was written; "" and () select everything."""

    stage: str = ""
    error: str = ""
    since: str = ""
    where: tuple[str, ...] = ()

    @classmethod
    def in_query(cls, query: QueryParams) -> LetterFilters:
        """The filters in an address, without the empty ones of a form."""
        where = [written[:_LONGEST] for written in query.getlist("where") if written.strip()]
        stage, error, since = (query.get(name, "").strip()[:_LONGEST] for name in ("stage", "error", "since"))
        return cls(stage, error, since, tuple(where[:_MOST_CONDITIONS]))

    @property
    def any(self) -> bool:
        return bool(self.stage or self.error or self.since or self.where)

    def query(self, stage: str = "") -> str:
        """The same filters for another address, with "?"; "" without any.

        stage: that of a letter, where its kind is in several stages.
        """
        pairs = [(name, value) for name, value in (*self._named(), ("in", stage)) if value]
        return "?" + urlencode(pairs, errors="backslashreplace") if pairs else ""

    def selection(self, plan: Plan, now: datetime, shown: ShownFields) -> Selection:
        """The letters that match. Raises UsageError or NotFound for invalid filters, as the command line does.

        A field that is not shown cannot be searched either: the answers would reveal its values.
        """
        earliest = _earliest(self.since, now) if self.since else None
        conditions = conditions_in(self.where, shown)
        stage = plan.stage(self.stage).name if self.stage else None
        return Selection(stage, self.error or None, (), earliest, conditions, shown_as=masked_text)

    def command(self, *words: str) -> str:
        """A command of the terminal about the same letters."""
        options = [word for name, value in self._named() if value for word in (f"--{name}", value)]
        return shell_command("flowq", "dlq", *words, *options)

    def _named(self) -> Sequence[tuple[str, str]]:
        return ("stage", self.stage), ("error", self.error), ("since", self.since), *(("where", w) for w in self.where)


def _earliest(since: str, now: datetime) -> datetime:
    try:
        return datetime.fromtimestamp(max(0.0, now.timestamp() - seconds(since)), UTC)
    except ValueError as error:
        raise UsageError(f"since: {error}") from None
