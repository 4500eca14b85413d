"""What a source gives, encoded the moment it is given: the source may change the object as soon as it goes on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from flowq.delivery.codec import Encode
from flowq.graph.definition import place_at
from flowq.graph.emission import Emission
from flowq.graph.plan import StagePlan
from flowq.graph.source_context import Rejected, Saved, SourceContext
from flowq.runtime.gathered import Entry
from flowq.runtime.refusals import Refusals

Taken = Saved | Sequence[Entry]
"""An encoded cursor, or what one value became."""


class Intake:
    """Turns values, cursors and rejections of one source into what is published. Called where the source runs."""

    def __init__(self, stage: StagePlan, emission: Emission, refusals: Refusals, encode_cursor: Encode) -> None:
        self._stage = stage
        self._emission = emission
        self._refusals = refusals
        self._encode_cursor = encode_cursor
        self._n_values = 0
        self.context: SourceContext[Any] | None = None

    def value(self, value: Any, iterator: Any) -> Taken:
        """What `iterator` has just yielded, as messages; as dead letters if it cannot be a message."""
        self._n_values += 1
        if value is None:  # no message, as from any stage
            return ()
        try:
            return self._emission.entering(value)
        except Exception as error:  # noqa: BLE001  (a type, property or serializer of the user's)
            with _noted(error, self._place(f"value {self._n_values:,}", iterator)):
                return self._refusals.of_value(value, error)

    def record(self, item: Saved | Rejected) -> Taken:
        """What the source has told its context."""
        if isinstance(item, Saved):
            return Saved(self._encode_cursor(item.cursor))
        with _noted(item.error, self._place(f"after {self._n_values:,} values", None)):
            return self._refusals.of_bytes(item.body, item.error)

    def _place(self, which: str, iterator: Any) -> str:
        """Where the source was, as its dead letters name it."""
        if self.context is not None and (told := self.context.place):
            return told if isinstance(told, str) else told()
        frame = getattr(iterator, "gi_frame", None) or getattr(iterator, "ag_frame", None)
        place = self._stage.place if frame is None else place_at(frame.f_code.co_filename, frame.f_lineno)
        return f"source {self._stage.name}, {which}, {place}"


@contextmanager
def _noted(error: Exception, place: str) -> Generator[None]:
    """An error that names a place for as long as its dead letter is written: the user may raise it again elsewhere."""
    if any(note.startswith(place) for note in getattr(error, "__notes__", ())):
        yield
        return
    error.add_note(place)
    try:
        yield
    finally:
        error.__notes__.remove(place)


def context_recording(cursor: Any, intake: Intake, keep: Callable[[Taken], None]) -> SourceContext[Any]:
    """A context that hands what it is told to `keep`, encoded."""
    context = SourceContext[Any](cursor, record=lambda item: keep(intake.record(item)))
    intake.context = context
    return context
