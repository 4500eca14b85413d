"""What this process waits for because it does not answer: said once, however many calls wait for it."""

from __future__ import annotations

from flowq.errors import BrokerUnavailable


class Outages:
    """What does not answer at the moment, by name, and the calls that wait for it."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[object]] = {}

    def begin(self, name: str, call: object) -> bool:
        """Note that a call waits. Returns whether it is the first that waits for this."""
        calls = self._waiting.setdefault(name, set())
        is_first = not calls
        calls.add(call)
        return is_first

    def end(self, call: object) -> list[str]:
        """Note that a call waits no more. Returns the names of what no other waits for."""
        over = [name for name, calls in self._waiting.items() if calls == {call}]
        for name in over:
            del self._waiting[name]
        for calls in self._waiting.values():
            calls.discard(call)
        return over


def what_is_away(error: Exception) -> str:
    """The server or the store that has caused an error, as it is called in logs."""
    if not isinstance(error, BrokerUnavailable):
        return BrokerUnavailable.subject
    return f"{error.subject} at {error.server}" if error.server else error.subject
