"""Pushes messages into a pipeline from a program: one at a time or in bulk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from flowq.broker.calls_in_turn import CallsInTurn
from flowq.broker.claims import ClaimCheck
from flowq.broker.message_ids import MessageIds
from flowq.broker.open import SharedBroker, open_broker
from flowq.broker.publishing import Publishing
from flowq.broker.records import Published
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.layout import agree_on_layout
from flowq.delivery.chunks import chunks
from flowq.delivery.edge import inlet_of
from flowq.delivery.message import one_word
from flowq.delivery.policy import Durability
from flowq.delivery.pushed import Pushed as Pushed
from flowq.delivery.pushed import PushedId as PushedId
from flowq.durations import seconds
from flowq.errors import FlowqError, UsageError
from flowq.graph.compilation.plan import EdgePlan, Plan
from flowq.graph.compilation.routing import Outlet, deduplicating_edges, entering
from flowq.graph.declaration.flow import Accepts
from flowq.pushing.entrance import Entrance, PushCall, total
from flowq.pushing.layouts import Layouts
from flowq.pushing.sharded_entrance import ShardedEntrance
from flowq.settings import Settings
from flowq.world import REAL

if TYPE_CHECKING:
    from flowq.graph.pipeline import Pipeline

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class _Inlet:
    """An edge into the pipeline, and what every push to it needs."""

    name: str
    outlet: Outlet
    entrance: Entrance | ShardedEntrance


class _Opening(AbstractAsyncContextManager[Broker]):
    """Opens a broker, and closes with it those of other layouts.

    Not a generator: a loop that ends closes all of its generators at once, and one inside another cannot bear that.
    """

    def __init__(self, first: AbstractAsyncContextManager[Broker], layouts: Callable[[], Layouts | None]) -> None:
        self._first = first
        self._layouts = layouts

    async def __aenter__(self) -> Broker:
        return await self._first.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        try:
            if (layouts := self._layouts()) is not None:
                await layouts.close()
        finally:
            await self._first.__aexit__(*error)


class Publisher:
    """Pushes messages to the stages of one pipeline. Use it in an `async with`.

    When a push returns, the message is stored; a message that is not stored always raises an error. A retry after a
    lost reply does not store it twice. When the edge of the stage is full, a push waits for room, and while the shards
    of the pipeline are moved, for the end of that: it then places messages by the new number.

    Several tasks may enter the same publisher: the first opens it, the last closes it, and it can be reopened. It
    belongs to one event loop at a time. A process that was forked while it was open has its own connection from its
    first push on.

    The parameters, and what is set for the stages of the pipeline, come from the same places as for the command line
    when the publisher is opened: one that is None comes from `FLOWQ_*` variables, or from [tool.flowq] in the
    pyproject.toml of the project that the current folder is in.

    pipeline: the pipeline, as its workers run it, or its plan, to which nothing that is set applies any more.
    redis: the URL of the server, "embedded" for the one that flowq runs itself for the project, or "memory" for a fake
        server that ends with this publisher.
    namespace: the prefix of all keys in Redis, the same as the workers use.
    durability: "local", or "replicated": a push returns once a replica has the message too, at the cost of a round
        trip between the two. Redis replies before it replicates, so that a failover may lose the latest "local" pushes.
        "replicated" does not cover every failover: with several replicas, another one may be promoted.
    claim_store: the folder, or the URL of the bucket, where stages with `claim_above=` keep large bodies; the same as
        the workers use. By default a folder in `.flowq/`, if the server is there as well.
    settings: all of these at once, as `flowq.settings.Settings.load` has read them; for a profile, for instance.

    Opening raises NotConfigured if no Redis is named anywhere, SettingsError for a setting that is wrong,
    BrokerUnavailable if Redis cannot be reached, UsageError for a bad URL or durability, NoClaimStore or
    WrongClaimStore for a store that is missing or not the one of the workers.

    >>> import asyncio
    >>> from flowq import Pipeline, stage
    >>> @stage
    ... async def greet(name: str) -> None:
    ...     print(f"Hello {name}")
    >>> pipeline = Pipeline("greetings", greet)
    >>> async def main() -> None:
    ...     async with Publisher(pipeline, redis="memory") as publisher:
    ...         print(await publisher.push(greet, "Ada", id="ada", delay="5m"))
    ...         print((await publisher.push(greet, "Ada", id="ada")).is_new)
    ...         print(await publisher.push_many(greet, ["Grace", "Edsger"]))
    >>> asyncio.run(main())
    ada
    False
    Pushed(appended=2, duplicates=0)
    """

    def __init__(
        self,
        pipeline: Pipeline | Plan,
        *,
        redis: str | None = None,
        namespace: str | None = None,
        durability: Durability | None = None,
        claim_store: str | Path | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._pipeline = None if isinstance(pipeline, Plan) else pipeline
        self._plan: Plan = pipeline if isinstance(pipeline, Plan) else pipeline.plan
        self._configured = partial(
            Settings.of_program, redis=redis, namespace=namespace, durability=durability, claim_store=claim_store
        )
        self._settings = settings
        self._opened_with: tuple[int, Settings | None] = os.getpid(), None
        self._ids = MessageIds(REAL)
        self._inlets: dict[str, _Inlet] = {}
        self._shared = SharedBroker(
            "publisher", self._opening, remedy="async with publisher: ...", prepare=self._prepare
        )
        self._claims: ClaimCheck | None = None
        self._layouts: Layouts | None = None

    async def __aenter__(self) -> Self:
        await self._shared.enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._shared.leave()

    def _opening(self) -> AbstractAsyncContextManager[Broker]:
        opened_in, kept = self._opened_with
        # A forked child keeps the settings of its parent: its current folder may be another.
        kept = kept if opened_in != os.getpid() else None
        settings = self._settings or kept or self._configured()
        self._opened_with = os.getpid(), settings
        if self._pipeline is not None:
            self._plan = settings.tuned(self._pipeline.name, self._pipeline).plan
        return _Opening(open_broker(self._plan.name, settings, self._plan.shards), lambda: self._layouts)

    async def _prepare(self, broker: Broker) -> None:
        await agree_on_layout(broker, self._plan.shards)
        await ClaimCheck.check_store(broker, self._plan)
        self._claims = ClaimCheck.of(broker, self._plan)
        self._layouts = Layouts(self._plan, broker) if self._plan.shards > 1 else None
        self._inlets.clear()
        self._ids = MessageIds(broker.world)  # a forked process must not use those of its parent

    async def push(
        self,
        stage: Accepts[M] | str,
        message: M,
        *,
        delay: float | str = 0,
        id: str | None = None,
        wait: bool = True,
    ) -> PushedId:
        """Push one message; returns its id, which is text with an attribute: whether it `is_new`.

        stage: the stage that handles it, or its name.
        message: what the stage accepts.
        delay: how long it is delayed: seconds, or text such as "5m".
        id: up to 256 bytes. A message with an id that was pushed to the same stage within the last hour is not stored
            again: the returned id then has `is_new=False`, as for a message that the `dedup=` of the stage drops.
            Spaces, `%` and unprintable characters are URL-escaped, in the returned id as well. In a pipeline with
            `shards`, `dedup=` may drop it later, on the way to its shard: then `is_new` does not know.
        wait: whether to wait for room on a full edge; otherwise QueueFull is raised, and WrongLayout while shards are
            moved.

        Raises EncodeError for a message that the stage does not accept, PayloadTooLarge above its `max_bytes`, NotFound
        for a stage that is not in the pipeline, UsageError for a source, a bad `id` or a closed publisher, ValueError
        for a bad `delay`, and BrokerUnavailable after five attempts without a reply, or without confirmation by a
        replica. Redis may have stored the message even so: pushing it again with the same `id` stores it once.
        """
        await self._shared.follow_fork()
        inlet = self._inlet(stage)
        own_id = self._ids.next().decode()
        message_id = own_id if id is None else _word(id)
        output = entering(inlet.outlet.target_for(message), message, message_id.encode())
        known_by, call_id = ("", "") if id is None else (message_id, f"call:{own_id}")
        call = PushCall([output], f"push:{inlet.name}:{message_id}", seconds(delay), wait, known_by, call_id)
        published = await inlet.entrance.publish(call)
        return PushedId(message_id, is_new=published.appended == 1 and not published.is_repeated)

    async def push_many(
        self,
        stage: Accepts[M] | str,
        messages: Iterable[M],
        *,
        delay: float | str = 0,
        id: str | None = None,
        wait: bool = True,
    ) -> Pushed:
        """Push messages in bulk, in calls of up to 1,000 messages and 8 MB. Each call is all or nothing.

        messages: any iterable, even an endless one. The messages of each call are taken from it while Redis stores
            those of the previous one.
        id: for all of them together: pushing the same messages again with the same `id` within an hour stores nothing
            twice.

        `stage`, `delay` and `wait` are as in `push`, which also lists the errors. The `stored` of an error is the
        number of messages stored, counted from the first. Push the rest again, or push all of them again with the same
        `id`. (After BrokerUnavailable only the latter is safe, and in a pipeline with `shards` after QueueFull: there
        a call without an id is all or nothing in each shard only.)
        """
        await self._shared.follow_fork()
        inlet, delay_seconds = self._inlet(stage), seconds(delay)
        call = self._ids.next().decode() if id is None else f"push_many:{inlet.name}:{_word(id)}"
        encoded = inlet.outlet.entering(messages, self._ids.each_with)
        calls, n = CallsInTurn[Published](self._opened.world.monotonic), 0
        try:
            async with calls:
                for outputs in chunks(encoded, inlet.entrance.most_bytes):
                    # With the number of messages, so that a different call is not mistaken for a repeated one.
                    token, known_by = f"{call}:{n}+{len(outputs)}", "" if id is None else call
                    push_call = PushCall(outputs, token, delay_seconds, wait, known_by)
                    await calls.start(inlet.entrance.publish(push_call))
                    n += len(outputs)
        except FlowqError as error:
            pushed = total(calls.results)
            error.stored, error.duplicates = error.stored + pushed.appended + pushed.duplicates, pushed.duplicates
            raise
        except Exception as error:  # from the iterable
            pushed = total(calls.results)
            error.add_note(f"{pushed.appended + pushed.duplicates:,} messages before it have been pushed")
            raise
        pushed = total(calls.results)
        return Pushed(pushed.appended, pushed.duplicates)

    def _inlet(self, stage: Accepts[Any] | str) -> _Inlet:
        broker = self._opened
        name = stage if isinstance(stage, str) else str(getattr(stage, "name", stage))
        return self._inlets.get(name) or self._new_inlet(name, broker)

    def _new_inlet(self, name: str, broker: Broker) -> _Inlet:
        stage = self._plan.stage(name)
        edge = self._plan.edge_in_shard.get(inlet_of(stage.name))
        if edge is None:
            raise UsageError(f'"{name}" is a source: it accepts no messages', hint="push to a stage after it")
        entrance = self._entrance_for(edge, broker)
        inlet = self._inlets[name] = _Inlet(edge.name, Outlet(self._plan, edge.name), entrance)
        return inlet

    def _entrance_for(self, edge: EdgePlan, broker: Broker) -> Entrance | ShardedEntrance:
        if self._layouts is not None:
            return ShardedEntrance(edge.name, self._layouts, self._claims)
        memory = deduplicating_edges(self._plan).get(edge.name)
        return Entrance(edge, memory, broker, Publishing(broker), self._claims)

    @property
    def _opened(self) -> Broker:
        return self._shared.opened


def _word(message_id: object) -> str:
    try:
        if not isinstance(message_id, str):
            raise ValueError("it is not a string")
        return one_word(message_id)
    except ValueError as error:
        raise UsageError(f"this cannot be an id: {error}", hint="pass another id, or none") from None
