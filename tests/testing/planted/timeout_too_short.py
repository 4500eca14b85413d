"""The bug: one attempt, and a timeout that a slow day exceeds. What was only slow becomes a dead letter."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from flowq import Pipeline, Retry, stage
from flowq.testing.pipeline_harness import Harness
from tests.testing.planted.bug import Bug


class Film(BaseModel):
    id: int


@stage(timeout="5s", retry=Retry(attempts=1))
async def encode(film: Film) -> None:
    await asyncio.sleep(1)


@stage(name="encode", timeout="5s")
async def encode_again(film: Film) -> None:
    await asyncio.sleep(1)


async def build(h: Harness, size: int) -> None:
    for number in range(size):
        await h.feed("encode", Film(id=number))
    await h.drain()
    dead = h.dead("encode")
    assert not dead, f"{len(dead)} of {size} films are dead letters"


BUG = Bug(Pipeline("films", encode), Pipeline("films", encode_again), build, dict)
