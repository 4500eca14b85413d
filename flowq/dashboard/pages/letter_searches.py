"""Searches in the messages of dead letters that are under way: each request continues where the last one ended."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from flowq.dashboard.live.watch import Watch
from flowq.dashboard.pages.letter_filters import LetterFilters
from flowq.dead_letters.letter_search import LetterSearch
from flowq.dead_letters.selection import Selection
from flowq.wording.quantities import counted

_SECONDS, _MOST_LETTERS, _MOST_SEARCHES = 2.0, 10_000, 8
_FRESH_SECONDS = 30.0


@dataclass(slots=True)
class _Kept:
    search: LetterSearch
    at: float


class LetterSearches:
    """The last few searches of each pipeline."""

    def __init__(self) -> None:
        self._by_watch: WeakKeyDictionary[Watch, OrderedDict[LetterFilters, _Kept]] = WeakKeyDictionary()

    async def find(self, watch: Watch, filters: LetterFilters, selection: Selection, *, goes_on: bool) -> LetterSearch:
        """Look at 10,000 letters, or for two seconds, and return what was found so far.

        goes_on: look at more if there was such a search before. One that has ended is repeated after half a minute.
        """
        searches = self._by_watch.setdefault(watch, OrderedDict())
        now = asyncio.get_running_loop().time
        # A search is taken out while it is used, so that two requests at once do not share it.
        kept = searches.pop(filters, None)
        if kept is not None and kept.search.is_complete and now() - kept.at > _FRESH_SECONDS:
            kept = None
        search = kept.search if kept else LetterSearch(watch.plan, selection)
        if goes_on or kept is None:
            until, up_to = now() + _SECONDS, search.looked_at + _MOST_LETTERS
            while not search.is_complete and now() < until and search.looked_at < up_to:
                await search.step(watch.broker)
        searches[filters] = _Kept(search, now())
        while len(searches) > _MOST_SEARCHES:
            searches.popitem(last=False)
        return search


def searched_words(search: LetterSearch) -> str:
    """How far a search is, and what it had to skip."""
    parts = [f"searched {search.looked_at:,} of {counted(search.total, 'letter')}, newest first"]
    if search.left_out:
        parts.append(f"{search.left_out:,} more were found than are listed")
    if search.unread:
        parts.append(f"{search.unread:,} were skipped: their messages are too large, or in the claim store")
    return "; ".join(parts)
