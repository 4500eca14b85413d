"""Encodes each value of a source at once: the source may change the object as soon as it resumes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from flowq.delivery.encoding.codec import Encode
from flowq.graph.compilation.plan import StagePlan
from flowq.graph.compilation.routing import OutputRouter
from flowq.graph.declaration.definition import place_at
from flowq.graph.declaration.source_context import Rejected, Saved, SourceContext
from flowq.runtime.sources.rejects import Rejects
from flowq.runtime.sources.source_buffer import Entry

Taken = Saved | Sequence[Entry]
"""An encoded cursor, or the entries made of one value."""


class Intake:
    """Turns the values, cursors and rejections of one source into entries to publish. Called where the source runs."""

    def __init__(self, stage: StagePlan, router: OutputRouter, rejects: Rejects, encode_cursor: Encode) -> None:
        self._stage = stage
        self._router = router
        self._rejects = rejects
        self._encode_cursor = encode_cursor
        self._n_values = 0
        self.context: SourceContext[Any] | None = None

    def value(self, value: Any, iterator: Any) -> Taken:
        """The messages made of what `iterator` has just yielded, or dead letters where it cannot be a message."""
        self._n_values += 1
        if value is None:  # no message, as from any stage
            return ()
        try:
            return self._router.entering(value)
        except Exception as error:  # noqa: BLE001  (a type, property or serializer of the user's)
            with _noted(error, self._place(f"value {self._n_values:,}", iterator)) as read_at:
                return self._rejects.of_value(value, error, read_at)

    def record(self, item: Saved | Rejected) -> Taken:
        """The entries made of what the source recorded in its context."""
        if isinstance(item, Saved):
            return Saved(self._encode_cursor(item.cursor))
        with _noted(item.error, self._place(f"after {self._n_values:,} values", None)) as read_at:
            return self._rejects.of_bytes(item.body, item.error, read_at)

    def _place(self, which: str, iterator: Any) -> str:
        """The position of the source, as its dead letters show it."""
        if self.context is not None and (own := self.context.place):
            return own if isinstance(own, str) else own()
        frame = getattr(iterator, "gi_frame", None) or getattr(iterator, "ag_frame", None)
        place = self._stage.place if frame is None else place_at(frame.f_code.co_filename, frame.f_lineno)
        return f"source {self._stage.name}, {which}, {place}"


@contextmanager
def _noted(error: Exception, place: str) -> Generator[str]:
    """The note of an error that says where, added while its dead letter is written unless it is there.

    Afterwards it is removed: the user may raise the same error elsewhere.
    """
    if own := next((note for note in getattr(error, "__notes__", ()) if note.startswith(place)), ""):
        yield own
        return
    error.add_note(place)
    try:
        yield place
    finally:
        error.__notes__.remove(place)
