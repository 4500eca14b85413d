"""Puts values into a pipeline from a program: one at a time, or in bulk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from flowq.broker.claims import ClaimCheck, check_claim_folder, claim_check
from flowq.broker.message_ids import MessageIds
from flowq.broker.open import open_broker
from flowq.broker.outlets import Outlets
from flowq.broker.redis_streams import Broker
from flowq.broker.shared import SharedBroker
from flowq.delivery.durations import seconds
from flowq.delivery.message import one_word
from flowq.delivery.policy import Durability
from flowq.delivery.portions import portions
from flowq.delivery.settlement import Output
from flowq.errors import BrokerUnavailable, FlowqError, PayloadTooLarge, QueueFull, RequestCutOff, UsageError
from flowq.graph.emission import Outlet, entering
from flowq.graph.flow import Accepts
from flowq.graph.plan import EdgePlan, Plan, inlet_of

if TYPE_CHECKING:
    from flowq.graph.pipeline import Pipeline

M = TypeVar("M")

_TRIES = 5
_FULL_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of a bulk push."""

    appended: int
    duplicates: int


class Publisher:
    """Pushes messages to the stages of one pipeline. Use it in an `async with`.

    Several tasks may enter the same publisher: the first opens it, the last closes it, and it can be used again. It
    belongs to one event loop at a time; a forked process opens it anew.

    `redis` is a URL, or None for the server that flowq runs in `.flowq/`. A push that returns is stored; one that is
    sent again because the reply was lost is stored once. When the edge of the stage is full, a push waits, or raises
    QueueFull with `wait=False`. Whatever is not stored is told by an error.

    Redis answers before its replicas know: a failover may forget what was pushed in the last moments before it. With
    `durability="replicated"` a push returns when a replica has the message as well, which costs a round trip between
    the two. That is no proof against every failover: of several replicas another may be chosen.

    `claim_folder` is where stages with `claim_above=` have large bodies lie: the folder that their workers use.

    Raises EncodeError for a message that the stage does not take, BrokerUnavailable after five tries without an
    answer, or without a replica that confirms: Redis may have stored it then, and the same `id` pushed again within
    an hour is still stored once.

    >>> async def add(pipeline, fetch, link):
    ...     async with Publisher(pipeline, redis="redis://localhost:6379/0") as publisher:
    ...         await publisher.push(fetch, link, delay="5m")
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        redis: str | None = None,
        namespace: str = "flowq",
        durability: Durability = "local",
        claim_folder: str | Path | None = None,
    ) -> None:
        self._plan: Plan = pipeline.plan
        self._durability: Durability = durability
        self._redis = redis
        self._namespace = namespace
        self._claim_folder = claim_folder
        self._ids = MessageIds()
        self._inlets: dict[str, Outlet] = {}
        self._outlets: dict[str, Outlets] = {}
        self._shared = SharedBroker("publisher", self._opening, remedy="async with publisher: ...")
        self._claims: ClaimCheck | None = None

    async def __aenter__(self) -> Self:
        await self._shared.enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._shared.leave()

    @asynccontextmanager
    async def _opening(self) -> AsyncGenerator[Broker]:
        opening = open_broker(
            self._plan.name, redis=self._redis, namespace=self._namespace, durability=self._durability,
            claim_folder=self._claim_folder,
        )  # fmt: skip
        async with opening as broker:
            await check_claim_folder(broker, self._plan)
            self._claims = claim_check(broker, self._plan)
            self._outlets.clear()
            self._ids = MessageIds()  # not those of a process that this one was forked from: they would collide
            yield broker

    async def push(
        self,
        stage: Accepts[M] | str,
        message: M,
        *,
        delay: float | str = 0,
        id: str | None = None,
        wait: bool = True,
    ) -> str:
        """Push one message, to be run after `delay` (seconds or "5m"); returns its id.

        With `id`, the same id pushed to the same stage again within an hour is stored once. It has up to 256 bytes;
        spaces, `%` and what cannot be printed are escaped as in a URL, in what is returned as well.
        """
        edge = self._inlet(stage)
        message_id = self._ids.next().decode() if id is None else _word(id)
        output = self._encode(edge, message, message_id.encode())
        await self._publish(edge, [output], f"push:{edge.name}:{message_id}", seconds(delay), wait)
        return message_id

    async def push_many(
        self,
        stage: Accepts[M] | str,
        messages: Iterable[M],
        *,
        delay: float | str = 0,
        id: str | None = None,
        wait: bool = True,
    ) -> Pushed:
        """Push messages in bulk: one call of Redis for up to 1,000 of them and 8 MB, each call all or nothing.

        `messages` may be endless: they are taken as they are sent. Whatever error ends it says in its `stored` how many
        are stored, from the first one on. Push those behind them again; or all of them with the same `id`, which stores
        nothing twice within an hour. (After BrokerUnavailable only the second is sure.)
        """
        edge, delay_seconds = self._inlet(stage), seconds(delay)
        call = self._ids.next().decode() if id is None else f"push_many:{edge.name}:{_word(id)}"
        pushed = Pushed(0, 0)
        next_id = self._ids.next
        most_bytes = self._outlets_to(edge).most_bytes
        try:
            for outputs in portions((self._encode(edge, message, next_id()) for message in messages), most_bytes):
                # With how many they are: a call that is not the one of before must not pass for it.
                token = f"{call}:{pushed.appended + pushed.duplicates}+{len(outputs)}"
                more = await self._publish(edge, outputs, token, delay_seconds, wait)
                pushed = Pushed(pushed.appended + more.appended, pushed.duplicates + more.duplicates)
        except FlowqError as error:
            error.stored, error.duplicates = error.stored + pushed.appended + pushed.duplicates, pushed.duplicates
            raise
        except Exception as error:  # from the iterable
            error.add_note(f"{pushed.appended + pushed.duplicates:,} messages before it have been pushed")
            raise
        return pushed

    def _inlet(self, stage: Accepts[Any] | str) -> EdgePlan:
        name = stage if isinstance(stage, str) else str(getattr(stage, "name", stage))
        edge = self._plan.edge_by_name.get(inlet_of(self._plan.stage(name).name))
        if edge is None:
            raise UsageError(f'"{name}" is a source: it takes no messages', hint="push to a stage behind it")
        return edge

    def _encode(self, edge: EdgePlan, message: Any, message_id: bytes) -> Output:
        inlet = self._inlets.get(edge.name)
        if inlet is None:
            inlet = self._inlets[edge.name] = Outlet(self._plan, edge.name)
        return entering(inlet.target_for(message), message, message_id)

    async def _publish(
        self, edge: EdgePlan, outputs: Sequence[Output], token: str, delay_seconds: float, wait: bool
    ) -> Pushed:
        outlets = self._outlets_to(edge)
        seen_ms = self._plan.stage(edge.target).seen_ms
        claims, tries, n_pauses = self._claims, 0, 0
        if claims is not None and edge.maxsize and not wait:  # write no files for what will be refused
            self._refuse_if_full(edge, (await self._opened.outstanding([edge.name]))[edge.name])
        while True:
            if not tries:  # else it may be stored already, which only another try can tell
                await self._until_light(edge, outlets, wait)
            try:
                if claims is not None:  # references are left as they are: what is tried again is not written again
                    outputs = await claims.deposit(outputs)
                published = await self._opened.publish(
                    edge.name,
                    outputs,
                    deduplicated_by=edge.target if seen_ms else None,
                    seen_ms=seen_ms,
                    token=token,
                    maxsize=edge.maxsize,
                    delay_ms=round(delay_seconds * 1000),
                )
            except BrokerUnavailable as error:
                tries += 1
                if tries == _TRIES:
                    # It may have been taken each time, and the replies lost: then none of it may be sent anew.
                    if isinstance(error, RequestCutOff) and not await self._opened.was_published(token):
                        await self._publish_others(edge, outputs, token, delay_seconds, wait, error)
                    raise
                await asyncio.sleep(0.1 * 2**tries)
                continue
            if published.full_at is None:
                outlets.sent(sum([len(output.body) for output in outputs]), handled=len(outputs))
                return Pushed(published.appended, published.duplicates)
            if not wait:
                if claims is not None:
                    await claims.withdraw(outputs)
                self._refuse_if_full(edge, published.full_at)
            n_pauses += 1
            await asyncio.sleep(_FULL_PAUSE_SECONDS)
            if claims is not None:
                await claims.refresh(outputs, n_pauses=n_pauses)

    async def _publish_others(
        self, edge: EdgePlan, outputs: Sequence[Output], token: str, delay: float, wait: bool, error: RequestCutOff
    ) -> None:
        """Publish all but the largest, which is more than Redis accepts. Raises PayloadTooLarge."""
        largest = max(outputs, key=lambda output: len(output.body))
        others = [output for output in outputs if output is not largest]
        if others:
            await self._publish(edge, others, f"{token}.", delay, wait)
        refused = PayloadTooLarge(
            f"a message of {len(largest.body):,} bytes is more than this Redis accepts",
            hint="raise its proto-max-bulk-len and client-query-buffer-limit, or use claim_above= where it is handled",
            detail=error.detail,
        )
        refused.stored = len(outputs)  # the one that is refused counts with its neighbours
        raise refused from error

    @staticmethod
    def _refuse_if_full(edge: EdgePlan, n: int) -> None:
        if n >= edge.maxsize:
            raise QueueFull(
                f'edge "{edge.name}" holds {n:,} messages, its maxsize is {edge.maxsize:,}',
                hint="wait until they are worked off, run more workers, or raise maxsize",
            )

    async def _until_light(self, edge: EdgePlan, outlets: Outlets, wait: bool) -> None:
        """Wait while the edge takes more memory than it may. Raises QueueFull where nobody wants to."""
        while outlets.need_a_look:
            await outlets.look_again()
            if outlets.are_full and not wait:
                raise QueueFull(
                    f'edge "{edge.name}" holds more than its maxsize_bytes of {edge.maxsize_bytes:,}',
                    hint="wait until it is worked off, run more workers, or raise maxsize_bytes",
                )

    @property
    def _opened(self) -> Broker:
        return self._shared.opened

    def _outlets_to(self, edge: EdgePlan) -> Outlets:
        outlets = self._outlets.get(edge.name)
        if outlets is None:
            outlets = self._outlets[edge.name] = Outlets(self._opened, [edge])
        return outlets


def _word(message_id: object) -> str:
    try:
        if not isinstance(message_id, str):
            raise ValueError("it is no text")
        return one_word(message_id)
    except ValueError as error:
        raise UsageError(f"this cannot be an id: {error}", hint="give another one, or none") from None
