"""When a forwarder looks: at once for a channel that was quiet, else so that entries gather. Decisions only."""

from __future__ import annotations

GATHER_SECONDS = 0.005
QUIET_SECONDS = 0.005
SWEEP_SECONDS = 1.0


class Gathering:
    """When the next round is due.

    A round costs as much for one entry as for many, so under load they lie apart. A channel on which nothing was sent
    for a while does not wait for that, and neither does the first round after a pause.
    """

    def __init__(self) -> None:
        self._last_sent: dict[int, float] = {}
        self._last_round = self._last_sweep = float("-inf")
        self._is_urgent = self._has_news = False

    def sent(self, to: int, now: float) -> None:
        """An entry for this shard was put into its outbox."""
        self._is_urgent |= now - self._last_sent.get(to, float("-inf")) > QUIET_SECONDS
        self._last_sent[to] = now
        self._has_news = True

    def again(self) -> None:
        """A round was not confirmed, or did not take place."""
        self._has_news = True

    def look_at_everything(self) -> None:
        """The connection has ended: what is there now may differ from what was sent."""
        self._last_sweep = float("-inf")

    def begin_round(self, now: float) -> None:
        self._last_round, self._has_news, self._is_urgent = now, False, False

    def begin_sweep(self, now: float) -> None:
        self._last_sweep = now

    def round_due_in(self, now: float) -> float | None:
        """Seconds until the next round is due; None if there is nothing to confirm."""
        if not self._has_news:
            return None
        return 0.0 if self._is_urgent else max(0.0, self._last_round + GATHER_SECONDS - now)

    def sweep_due_in(self, now: float) -> float:
        """Seconds until the next look for what other workers have left."""
        return max(0.0, self._last_sweep + SWEEP_SECONDS - now)
