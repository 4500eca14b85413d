"""Looks at one pipeline once a second, for all viewers."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import replace
from hashlib import sha256
from typing import Any

from flowq.broker.inspection.merging.overviews import overview_of
from flowq.broker.redis_streams import Broker
from flowq.dashboard.live.letter_reading import LetterReading
from flowq.dashboard.live.look import Look
from flowq.dashboard.live.page_changes import Changes, Event
from flowq.dashboard.live.past import Moments
from flowq.dashboard.live.recent_means import RecentMeans
from flowq.dashboard.live.slots import rows, slots
from flowq.dashboard.live.viewer import Viewer
from flowq.errors import BrokerUnavailable, FlowqError
from flowq.graph.compilation.plan import Plan
from flowq.inspector import Inspector

EVERY_SECONDS, MANY_STAGES_SECONDS, SLOW_SECONDS, UNWATCHED_SECONDS = 1.0, 2.0, 5.0, 5.0
MANY_STAGES, SLOW_MS = 20, 50.0
WANTED_SECONDS = 10.0
_FIRST_LOOK_SECONDS = 2.0
_LONGEST_RETRY_SECONDS = 5.0
_LOOKS_TO_JUDGE = 3
_OF_NOW = "p.hour."  # the slider itself: the past does not include it

log = logging.getLogger("flowq.dashboard")


class Watch:
    """One pipeline for all viewers.

    Looks once a second, less often if there are many stages or Redis is slow. While no page is open it looks every five
    seconds for the history, or, if none is kept, not at all. While Redis does not answer, the last look stays, and
    `trouble` says why.
    """

    def __init__(
        self, plan: Plan, opening: Callable[[], AbstractAsyncContextManager[Broker]], *, history_seconds: float
    ) -> None:
        self.plan = plan
        self.plan_hash = _hash(plan)  # changes with its stages and edges, and so with its graph
        self.trouble: FlowqError | None = None
        self.moments = Moments(history_seconds)
        self.letters = LetterReading(plan)
        self._keeps_history = history_seconds > 0
        self._opening = opening
        self._broker: Broker | None = None
        self._look: Look | None = None
        self._began_at = self._looked_at = 0.0
        self._last_ms: deque[float] = deque(maxlen=_LOOKS_TO_JUDGE)
        self._rates = RecentMeans(step_ms=15_000, kept=60)
        self._left = RecentMeans(step_ms=5_000, kept=720)
        self._changes = Changes(secrets.token_hex(4))
        self._viewers: set[Viewer] = set()
        self._looked = asyncio.Event()
        self._wake = asyncio.Event()
        self._wanted_at = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def broker(self) -> Broker:
        """The connection of the watch. Raises BrokerUnavailable while there is none."""
        if self._broker is None:
            raise self.trouble or BrokerUnavailable("Redis has not answered yet")
        return self._broker

    @property
    def inspector(self) -> Inspector:
        """Reads more of the pipeline. Raises as `broker` does."""
        return Inspector(self.plan, self.broker)

    @property
    def every_seconds(self) -> float:
        """The time between two looks while a page is open."""
        if len(self._last_ms) == _LOOKS_TO_JUDGE and min(self._last_ms) > SLOW_MS:
            return SLOW_SECONDS
        return MANY_STAGES_SECONDS if len(self.plan.stages) > MANY_STAGES else EVERY_SECONDS

    async def look(self) -> Look | None:
        """What was seen last, no older than the time between two looks; None if Redis has not answered yet.

        If Redis no longer answers, its `trouble` says so.
        """
        self.start()
        self._wanted_at = asyncio.get_running_loop().time()
        if self._is_old:
            self._wake.set()
            if self.trouble is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_FIRST_LOOK_SECONDS):
                        await self._looked.wait()
        return self._look and replace(self._look, trouble=self.trouble)

    async def look_again(self) -> None:
        """Wait for a look that begins after this call, because something was changed; not for long if Redis is away."""
        self.letters.expect_changes()
        loop = asyncio.get_running_loop()
        now = loop.time()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_LOOK_SECONDS):
                while self._began_at < now:
                    self._wake.set()
                    await self._looked.wait()

    @contextmanager
    def viewer(self, last_id: str, *, is_packed: bool) -> Generator[Viewer]:
        """A reader of the stream of changes, who has seen the event `last_id` of it. It is offered what comes."""
        viewer = Viewer(self._changes, last_id, is_packed=is_packed)
        self._viewers.add(viewer)
        self.start()
        if self._is_old:
            self._wake.set()
        try:
            yield viewer
        finally:
            self._viewers.discard(viewer)

    def start(self) -> None:
        """Start looking."""
        if self._task is None or self._task.done():
            loop = asyncio.get_running_loop()
            self._wanted_at = loop.time()
            self._task = loop.create_task(self._run(), name=f"flowq-watch-{self.plan.name}")

    async def close(self) -> None:
        """Stop looking, tell the viewers, and close the connection."""
        for viewer in self._viewers:
            viewer.end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        n_failed = 0
        while self._goes_on:
            try:
                async with self._opening() as broker, self.letters.over(broker):
                    n_failed = 0
                    self._broker = broker
                    await self._look_again_and_again(broker)
            except Exception as error:  # noqa: BLE001  (of opening: the page says so, and the next attempt is made)
                await self._fail(error, n_failed)
                n_failed += 1
            finally:
                self._broker = None

    async def _look_again_and_again(self, broker: Broker) -> None:
        """The broker connects again by itself."""
        n_failed = 0
        while self._goes_on:
            try:
                await self._see(broker)
            except Exception as error:  # noqa: BLE001  (whatever it is: the page says so, and the next look is taken)
                await self._fail(error, n_failed)
                n_failed += 1
            else:
                n_failed = 0
                await self._sleep(self.every_seconds if self._is_wanted else UNWATCHED_SECONDS)

    async def _see(self, broker: Broker) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        overview = await overview_of(broker, self.plan, before=self._look.overview if self._look else None)
        self._began_at, self._looked_at = began, loop.time()
        self._last_ms.append((self._looked_at - began) * 1000)
        speeds = {name: stage.throughput.per_second or 0.0 for name, stage in overview.stages.items()}
        rates = self._rates.add(overview.now_ms, speeds)
        left = self._left.add(overview.now_ms, {"": overview.snapshot.outstanding})[""]
        look = Look(overview=overview, look_ms=self._last_ms[-1], rates=rates, left=left)
        texts = slots(look)
        self._look, self.trouble = replace(look, texts=texts), None
        if self._keeps_history:
            self.moments.add(look.at_ms, {name: text for name, text in texts.items() if not name.startswith(_OF_NOW)})
        self._tell(self._changes.add(texts, rows(look), self._about()))

    async def _fail(self, error: Exception, n_before: int) -> None:
        if not isinstance(error, FlowqError):
            log.error("a look at %s failed", self.plan.name, exc_info=error)
            error = FlowqError("reading the pipeline failed; the log of the server says why")
        self.trouble = error
        self._tell(self._changes.repeat(self._about()))
        await self._sleep(min(EVERY_SECONDS * 2 ** min(n_before, 10), _LONGEST_RETRY_SECONDS))

    def _about(self) -> dict[str, Any]:
        about: dict[str, Any] = {"plan": self.plan_hash, "every_ms": round(self.every_seconds * 1000)}
        if self._look is not None:
            about |= {"at": self._look.at_ms, "look_ms": round(self._look.look_ms, 1)}
        if self.trouble is not None:
            about["trouble"] = trouble_text(self.trouble)
        return about

    def _tell(self, event: Event) -> None:
        self._looked.set()
        self._looked = asyncio.Event()
        for viewer in self._viewers:
            viewer.offer(event)

    async def _sleep(self, seconds: float) -> None:
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    @property
    def _is_old(self) -> bool:
        return self._look is None or asyncio.get_running_loop().time() - self._looked_at > self.every_seconds

    @property
    def _goes_on(self) -> bool:
        return self._keeps_history or self._is_wanted

    @property
    def _is_wanted(self) -> bool:
        return bool(self._viewers) or asyncio.get_running_loop().time() - self._wanted_at < WANTED_SECONDS


def trouble_text(error: FlowqError) -> str:
    """Why there is nothing new, in one line."""
    return f"{error.code} {error.message}"


def _hash(plan: Plan) -> str:
    shape = "\n".join(("", *(stage.name for stage in plan.stages), "", *(edge.name for edge in plan.edges)))
    return sha256(shape.encode()).hexdigest()[:12]
