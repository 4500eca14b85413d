"""Keeps the kinds of dead letters of a pipeline in memory: reads each letter once, a little at a time."""

from __future__ import annotations

from collections.abc import Callable

from flowq.broker.inspection.merging.letter_infos_of_shards import letter_infos_of_all_shards
from flowq.broker.redis_streams import Broker
from flowq.dead_letters.letter_kinds import LetterKinds, Told, died_ms_in
from flowq.graph.compilation.plan import Plan

MOST_LETTERS = 1_000_000
_PER_STEP, _PER_CALL = 1000, 100
_CHECK_EVERY_MS = 60_000
_BEGINNING = "0-0"


class DeadLetterIndex(LetterKinds):
    """The kinds of dead letters of one pipeline, for a program that shows them many times.

    shown_as: what is kept of the line of a letter, shown and compared with `error`.

    Each `step` reads what has died since the last one, at most a thousand letters, without their messages. `kinds`,
    `letters` and `around` answer from memory, even while the first reading is in progress: `read` of `total` letters
    are known, as of `as_of_ms` on the clock of Redis. It stops at a million letters. When letters have been removed or
    put back, the ids of their stage are compared with those in Redis: immediately if one step is enough, otherwise at
    most once a minute.

    The caller paces the steps: one that worked for t seconds is followed by a pause of 19 t, so that they take at most
    5 % of its time; a thousand letters take about 0.03 s. Steps must not overlap. A step raises BrokerUnavailable when
    Redis does not answer; the next step continues from there, even with another broker.

    >>> import asyncio
    >>> from flowq import Pipeline, stage
    >>> from flowq.broker.open import open_broker
    >>> from flowq.settings import Settings
    >>> @stage
    ... async def greet(name: str) -> None:
    ...     print(f"Hello {name}")
    >>> async def main() -> None:
    ...     index = DeadLetterIndex(Pipeline("greetings", greet).plan)
    ...     async with open_broker("greetings", Settings.of_program(redis="memory")) as broker:
    ...         while await index.step(broker):
    ...             pass
    ...     print(index.read, index.total, index.kinds())
    >>> asyncio.run(main())
    0 0 []
    """

    def __init__(self, plan: Plan, *, shown_as: Callable[[str], str] = str) -> None:
        stages = [stage.name for stage in plan.consumers]
        super().__init__(stages)
        self._kept = dict.fromkeys(stages, 0)
        self._last_id = dict.fromkeys(stages, "")
        self._checked_to: dict[str, str] = {}  # stages whose letters are compared with what Redis has
        self._check_ms = -_CHECK_EVERY_MS
        self._shown_as = shown_as
        self.as_of_ms = 0

    @property
    def total(self) -> int:
        """The number of dead letters at `as_of_ms`."""
        return sum(self._kept.values())

    async def step(self, broker: Broker) -> bool:
        """Read more letters; returns whether there are still more to read now."""
        left, to_read = min(_PER_STEP, MOST_LETTERS - self.read), self._last_id
        while True:
            self.as_of_ms, infos = await letter_infos_of_all_shards(broker, to_read, limit=min(left, _PER_CALL))
            for stage, found in infos.items():
                self._kept[stage] = found.n_kept
                for letter_id, info in found.by_id.items():
                    self.add(stage, letter_id, died_ms_in(letter_id, info), Told.of(info, self._shown_as))
                left -= len(found.by_id)
                self._last_id[stage] = found.position or self._last_id[stage]
            to_read = {stage: self._last_id[stage] for stage, found in infos.items() if not found.is_all}
            if left <= 0 or not to_read:
                break
        is_more = bool(to_read) and self.read < MOST_LETTERS
        if not to_read:
            is_more = self._compare()
        return await self._check(broker, left) or is_more

    def _compare(self) -> bool:
        """Begin to check the stages whose letters differ from those that were read; returns whether there are any."""
        off = [stage for stage, n_kept in self._kept.items() if self._n[stage] != n_kept]
        is_quick = sum(self._kept[stage] for stage in off) <= _PER_STEP
        if not off or self._checked_to or not (is_quick or self.as_of_ms - self._check_ms >= _CHECK_EVERY_MS):
            return False
        self._check_ms = self.as_of_ms
        for stage in off:
            if self._n[stage] > self._kept[stage]:
                self._checked_to[stage] = _BEGINNING
            else:  # the stream was removed, and the ids in another one are lower
                self._keep(stage, _BEGINNING, None, ())
                self._last_id[stage] = ""
        return True

    async def _check(self, broker: Broker, left: int) -> bool:
        """Forget letters that no longer exist; returns whether there is more to check."""
        while self._checked_to and left > 0:
            stage, after = next(iter(self._checked_to.items()))
            _, infos = await letter_infos_of_all_shards(
                broker, {stage: after}, limit=min(left, _PER_CALL), ids_only=True
            )
            ids = infos[stage].by_id
            left -= len(ids)
            last = next(reversed(ids), after)
            self._keep(stage, after, None if infos[stage].is_all else last, ids)
            self._checked_to[stage] = last
            if infos[stage].is_all:
                del self._checked_to[stage]
        return bool(self._checked_to)
