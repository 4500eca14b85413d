"""Each message is handled in a context of its own: what one handler sets in a ContextVar, no other message sees."""

from __future__ import annotations

import asyncio
import decimal
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
from pydantic import BaseModel, model_validator

import flowq
from flowq import Context, Pipeline, Rate, Retry, resource, source, stage, use
from flowq.runtime.handlers.own_context import in_context, is_unchanged
from tests.runtime.lab import Item, Lab, items

TENANT: ContextVar[str] = ContextVar("tenant", default="unset")
SEEN: list[str] = []
ONE_SLOT = {"concurrency": 1}


class Incomparable:
    """A value like an array: comparing it gives no truth."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("neither true nor false")

    __hash__ = None  # type: ignore[assignment]


THING: ContextVar[object] = ContextVar("thing")


class Marked(BaseModel):
    """Sets something when it is read."""

    n: int

    @model_validator(mode="after")
    def _mark(self) -> Marked:
        SEEN.append(TENANT.get())
        TENANT.set("read")
        return self


def see_and_set(seen: list[str], item: Item) -> None:
    seen.append(TENANT.get())
    TENANT.set(f"tenant {item.n}")
    THING.set(Incomparable())


async def coroutine(item: Item) -> None:
    see_and_set(SEEN, item)
    await asyncio.sleep(0)
    assert TENANT.get() == f"tenant {item.n}"


def function(item: Item) -> None:
    see_and_set(SEEN, item)


def generator(item: Item) -> Iterator[Item]:
    see_and_set(SEEN, item)
    yield from ()


async def async_generator(item: Item) -> AsyncIterator[Item]:
    see_and_set(SEEN, item)
    for never in ():
        yield never


async def batch(batch: list[Item]) -> None:
    see_and_set(SEEN, batch[0])


async def batch_in_halves(batch: list[Item]) -> None:
    see_and_set(SEEN, batch[0])
    if len(batch) > 1:
        raise ValueError("one at a time")


@pytest.mark.parametrize(
    ("handler", "options", "calls"),
    [
        (coroutine, {}, 5),
        (coroutine, {"timeout": 60}, 5),
        (coroutine, {"ack": "first"}, 5),
        (function, {}, 5),
        (function, {"inline": True}, 5),
        (generator, {}, 5),
        (generator, {"inline": True}, 5),
        (async_generator, {}, 5),
        (batch, {"batch": 2, "linger": 0}, 3),
        (batch_in_halves, {"batch": 8, "linger": 0.5}, 9),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value),
)
async def test_what_a_handler_sets_is_not_seen_by_the_next_message(
    handler: Callable[..., Any], options: dict[str, Any], calls: int, lab: Lab
) -> None:
    SEEN.clear()
    both = stage(name="both", **ONE_SLOT, **options)(handler)  # type: ignore[call-overload]

    summary = await lab.run(Pipeline("p", both), *items(5))

    assert summary.dead == 0
    assert len(SEEN) >= calls
    assert set(SEEN) == {"unset"}


@pytest.mark.parametrize("handler", [coroutine, function, generator], ids=lambda handler: handler.__name__)
@pytest.mark.parametrize("options", [{}, {"ack": "first"}, {"rate": Rate(1000)}], ids=["", "ack first", "rate"])
async def test_nor_is_it_in_a_pipeline_with_shards(
    handler: Callable[..., Any], options: dict[str, Any], lab: Lab
) -> None:
    SEEN.clear()
    if "rate" not in options:
        options = {**options, "place": type}  # all in one shard
    both: Any = stage(name="both", **ONE_SLOT, **options)(handler)  # type: ignore[call-overload]

    await flowq.run(of_items(both), redis=lab.dialer.url, namespace=lab.namespace)

    assert SEEN == ["unset"] * 5


def of_items(handles: Any) -> Pipeline:
    @source
    def five() -> Iterator[Item]:
        yield from items(5)

    return Pipeline("p", five >> handles, shards=2)


async def test_what_a_message_sets_while_it_is_read_is_not_seen_by_the_next(lab: Lab) -> None:
    @stage(concurrency=1)
    async def handler(item: Marked) -> None: ...

    pipeline = Pipeline("p", handler)
    await asyncio.create_task(lab.push(pipeline, handler, *[Marked.model_construct(n=n) for n in range(3)]))
    SEEN.clear()
    await lab.run(pipeline)

    assert SEEN == ["unset"] * 3


async def test_the_precision_of_decimals_is_that_of_one_message(lab: Lab) -> None:
    seen: list[int] = []

    @stage(concurrency=1)
    async def handler(item: Item) -> None:
        seen.append(decimal.getcontext().prec)
        decimal.setcontext(decimal.Context(prec=3))

    await lab.run(Pipeline("p", handler), *items(3))

    assert len(set(seen)) == 1


async def test_what_a_resource_sets_all_messages_see(lab: Lab) -> None:
    seen: list[str] = []

    @resource
    async def tenant() -> AsyncIterator[str]:
        token = TENANT.set("of the run")
        yield "it"
        TENANT.reset(token)

    @stage(concurrency=1)
    async def handler(item: Item, it: str = use(tenant)) -> None:
        seen.append(TENANT.get())
        TENANT.set("of the message")

    await lab.run(Pipeline("p", handler), *items(3))

    assert seen == ["of the run"] * 3


async def test_a_handler_in_a_context_of_its_own_is_timed_out_and_interrupted_like_any(lab: Lab) -> None:
    ended: list[str] = []
    waiting = asyncio.Event()

    @stage(concurrency=1, timeout=0.2, retry=Retry(attempts=1))
    async def handler(item: Item, ctx: Context) -> None:
        TENANT.set("changed")
        if item.n == 0:
            return
        try:
            waiting.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append(TENANT.get())
            raise

    pipeline = Pipeline("p", handler)
    summary = await lab.run(pipeline, *items(3))

    assert ended == ["changed"] * 2
    assert (summary.stages["handler"].ok, summary.dead) == (1, 2)


# By itself


async def test_a_coroutine_in_a_context_waits_fails_and_returns_as_ever() -> None:
    here = copy_context()

    async def inner(value: int) -> int:
        TENANT.set("inner")
        await asyncio.sleep(0)
        assert TENANT.get() == "inner"
        if value < 0:
            raise ValueError(value)
        return value

    assert await in_context(copy_context(), inner, 5) == 5
    with pytest.raises(ValueError, match="-1"):
        await in_context(copy_context(), inner, -1)
    assert TENANT.get() == "unset"
    assert is_unchanged(here)


async def test_a_change_is_seen_and_values_that_cannot_be_compared_count_as_one() -> None:
    async def look() -> list[bool]:
        before = copy_context()
        token = TENANT.set("changed")
        changed = is_unchanged(before)
        TENANT.reset(token)
        reset = is_unchanged(before)
        THING.set(Incomparable())
        with_thing = copy_context()
        THING.set(Incomparable())
        return [changed, reset, is_unchanged(with_thing)]

    assert await asyncio.create_task(look()) == [False, True, False]
