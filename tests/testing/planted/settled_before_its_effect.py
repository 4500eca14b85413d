"""The bug: ack="first" where every message counts. A worker that dies has settled what it has not done."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from flowq import Pipeline, resource, stage, use
from flowq.testing.pipeline_harness import Harness
from tests.testing.planted.bug import Bug


class Alarm(BaseModel):
    room: int


class Guards:
    """Who has been called."""

    def __init__(self) -> None:
        self.called: set[int] = set()

    async def call(self, room: int) -> None:
        await asyncio.sleep(0.01)
        self.called.add(room)


@resource
def guards() -> Guards:
    return Guards()


@stage(ack="first")
async def alert(alarm: Alarm, guards: Guards = use(guards)) -> None:
    await guards.call(alarm.room)


@stage(name="alert")
async def alert_at_least_once(alarm: Alarm, guards: Guards = use(guards)) -> None:
    await guards.call(alarm.room)


async def build(h: Harness, size: int) -> None:
    for number in range(size):
        await h.feed("alert", Alarm(room=number))
    await h.drain()
    missed = sorted(set(range(size)) - h.resource(guards).called)
    assert not missed, f"no guard was called to room {missed[0]}"


BUG = Bug(Pipeline("alarms", alert), Pipeline("alarms", alert_at_least_once), build, lambda: {guards: Guards()})
