"""What a simulation needs of a server: connections that answer at once, and a clock that it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Now = Callable[[], float]
"""Seconds since 1970 by the virtual clock."""


@dataclass(frozen=True, slots=True)
class Write:
    """Commands that may have written something, and when they ran."""

    now: float
    commands: Sequence[Sequence[Any]]


class ServerConnection(Protocol):
    """A connection whose calls block until they are answered."""

    def exchange(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Run commands, and return their replies in order; those that are errors are returned as exceptions.

        A command that could block must be sent without BLOCK.
        """
        ...

    def close(self) -> None: ...


class Server(Protocol):
    """A server whose times are those of the virtual clock: ids of entries, TIME, and when keys expire."""

    @property
    def address(self) -> str:
        """For people, without password."""
        ...

    def now(self) -> float:
        """Seconds since 1970."""
        ...

    def connect(self) -> ServerConnection:
        """A new connection."""
        ...

    def clear(self) -> None:
        """Remove every key of the namespace, and nothing else."""
        ...

    def restore(self, writes: Sequence[Write]) -> None:
        """Have nothing in the namespace but what these writes lead to, each at its time."""
        ...

    def close(self) -> None:
        """Remove what the simulation has stored, and close all connections."""
        ...
