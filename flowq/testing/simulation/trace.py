"""What happened in a simulation, in order: the raw material of stories, and the proof that a seed repeats it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    `at_seconds`: since the start, by the virtual clock. `what`: the name of a call ("read", "settle", "publish"), or
    "fault" or "crash". `messages`: ids, as far as they are known. `detail`: for people.
    """

    at_seconds: float
    worker: str
    what: str
    stage: str = ""
    messages: tuple[str, ...] = ()
    detail: str = ""

    def __str__(self) -> str:
        words = [f"{self.at_seconds:10.6f}", self.worker, self.what, self.stage, self.detail, " ".join(self.messages)]
        return " ".join(word for word in words if word)


class Trace:
    """All events of a simulation, oldest first."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self.on_event: list[Callable[[Event], None]] = []

    def add(self, event: Event) -> None:
        self._events.append(event)
        for listener in self.on_event:
            listener(event)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)

    def of(self, *names: str) -> Sequence[Event]:
        """Only those with one of these names."""
        return [event for event in self._events if event.what in names]

    def __str__(self) -> str:
        return "\n".join(map(str, self._events))
