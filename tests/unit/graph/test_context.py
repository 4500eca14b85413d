"""The context of a delivery records what is emitted, and settles on request."""

from __future__ import annotations

import pytest

from flowq import Context, stage
from flowq.errors import UsageError
from flowq.graph.declaration.context import Emitted


@stage
def follow(url: str) -> str:
    return url


@stage(name="archive")
def keep(url: str) -> None: ...


async def test_emit_notes_the_stage_the_message_and_the_delay() -> None:
    ctx = Context()
    await ctx.emit(follow, "a")
    await ctx.emit(keep, "b", delay="5m")
    assert ctx.emitted == [Emitted("follow", "a", 0.0), Emitted("archive", "b", 300.0)]


def test_emit_without_await_loses_nothing() -> None:
    ctx = Context()
    ctx.emit(follow, "a")
    assert ctx.emitted == [Emitted("follow", "a")]


def test_emit_to_a_flow_is_refused() -> None:
    with pytest.raises(UsageError, match="name one stage"):
        Context().emit(follow >> keep, "a")


def test_emit_with_a_delay_that_is_none_notes_nothing() -> None:
    ctx = Context()
    with pytest.raises(ValueError, match="duration"):
        ctx.emit(follow, "a", delay=-1)
    assert ctx.emitted == []


async def test_ack_settles_the_context_it_is_called_on() -> None:
    settled: list[Context] = []

    async def settle(ctx: Context) -> None:
        settled.append(ctx)

    ctx = Context(settle=settle)
    await ctx.ack()
    assert settled == [ctx]


async def test_ack_in_a_stage_that_settles_by_itself_is_refused() -> None:
    with pytest.raises(UsageError, match="manual"):
        await Context().ack()


def test_a_pace_is_noted_in_seconds_an_hour_at_most_and_refused_where_there_is_no_rate() -> None:
    ctx = Context()
    ctx.pace("2m")
    assert ctx.pace_seconds == 120
    ctx.pace(1e9)
    assert ctx.pace_seconds == 3600
    with pytest.raises(UsageError, match="without a rate"):
        Context(is_paced=False).pace(1)
