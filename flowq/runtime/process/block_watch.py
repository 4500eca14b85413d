"""Names the user's code that blocks an event loop, while it blocks: nothing else in the process runs meanwhile."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from flowq.errors import Place
from flowq.runtime.process.loop_stack import Busy, Step, busy_with, depth_of_loop, in_common

log = logging.getLogger("flowq.runtime")

_TICK_SECONDS = _LOOK_SECONDS = 0.25
_BLOCKED_SECONDS = 2.0

_watches: dict[asyncio.AbstractEventLoop, BlockWatch] = {}


class BlockWatch:
    """Looks from a thread whether a loop still moves. A line that blocks it for two seconds is logged, the first time,
    the tenth, the hundredth ...

    A process that was stopped, a suspended machine, and a machine without a free core block no loop: seconds in which
    the loop's thread waited for a core do not count, and a look that comes late counts only if that thread mostly ran
    meanwhile. (Code that makes a system call every few microseconds takes the interpreter lock back before this thread
    wakes up, for seconds.)
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.n_users = 0
        self._loop = loop
        self._thread_id, self._depth = threading.get_ident(), depth_of_loop()
        self._times = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._n_ticks = 0
        self._timer = loop.call_soon(self._tick)
        self._stopped = threading.Event()
        self._n_by_place: Counter[Place] = Counter()
        threading.Thread(target=self._watch, name="flowq-block-watch", daemon=True).start()

    @staticmethod
    def start() -> BlockWatch:
        """The watch of the running loop, which has one however many pipelines run in it. Call it in a task."""
        loop = asyncio.get_running_loop()
        watch = _watches[loop] = _watches.get(loop) or BlockWatch(loop)
        watch.n_users += 1
        return watch

    def stop(self) -> None:
        """End it, once each user has called this."""
        self.n_users -= 1
        if not self.n_users:
            del _watches[self._loop]
            self._stopped.set()
            self._timer.cancel()

    def _tick(self) -> None:
        self._n_ticks += 1
        self._timer = self._loop.call_later(_TICK_SECONDS, self._tick)

    # In the thread

    def _watch(self) -> None:
        n_ticks, looked_at, (ran, waited) = -1, time.monotonic(), self._seconds_so_far()
        blocked_seconds, samples = 0.0, list[Busy]()
        while not self._stopped.wait(_LOOK_SECONDS):
            before, looked_at = looked_at, time.monotonic()
            (ran_before, waited_before), (ran, waited) = (ran, waited), self._seconds_so_far()
            passed_seconds = looked_at - before
            has_stood_still = passed_seconds > 2 * _LOOK_SECONDS and ran - ran_before < passed_seconds / 2
            if self._n_ticks != n_ticks or has_stood_still:
                n_ticks, blocked_seconds, samples = self._n_ticks, 0.0, []
                continue
            busy = self._busy()
            if busy is None or (samples and busy.call != samples[-1].call):
                blocked_seconds, samples = 0.0, []
                continue
            if blocked_seconds >= _BLOCKED_SECONDS and len(samples) > 1:  # this call has been logged
                continue
            samples.append(busy)
            blocked_seconds += passed_seconds - max(0.0, waited - waited_before)
            if blocked_seconds >= _BLOCKED_SECONDS and len(samples) > 1:  # one alone shows no line in common
                self._report(busy, in_common([each.steps for each in samples]))

    def _busy(self) -> Busy | None:
        frame = sys._current_frames().get(self._thread_id)  # pyright: ignore[reportPrivateUsage]
        return None if frame is None else busy_with(frame, self._depth, self._loop)

    def _seconds_so_far(self) -> tuple[float, float]:
        """How long the loop's thread has run and has waited for a core; 0 where the system does not say."""
        try:
            ran, waited, _ = self._times.read_bytes().split()
            return int(ran) / 1e9, int(waited) / 1e9
        except (OSError, ValueError):
            return 0.0, 0.0

    def _report(self, busy: Busy, steps: Sequence[Step]) -> None:
        place = busy.place(steps)
        if place is None:
            return
        self._n_by_place[place] += 1
        n = self._n_by_place[place]
        if str(n).strip("0") != "1":
            return
        handled = busy.handled
        times = "" if n == 1 else f" for the {n:,}th time"
        log.warning(
            "%s blocks the event loop%s%s: nothing else runs in this process until it returns  (%s)",
            f"{busy.who} at {place}" if busy.who else place,
            f", with message {handled.delivery.message_id}" if handled else "",
            times,
            busy.remedy,
            extra={"place": str(place), "times": n, **(handled.as_json() if handled else {})},
        )
