"""Holds and slots of pacing keys under random schedules and faults: no start within a hold, one at a time."""

from __future__ import annotations

import asyncio
from collections import Counter

from pydantic import BaseModel

from flowq import Pipeline, Rate, RetryLater, resource, stage, use
from flowq.testing import SURVIVABLE, Crash, Harness, Refuse, Stall, explore, harness
from tests.testing.seeds import SEEDS

FAULTS = SURVIVABLE - {Stall, Refuse}
"""A worker that does not reach Redis for a lease is taken for dead: its slots are free, and its handlers still run."""


class Request(BaseModel):
    number: int

    @property
    def host(self) -> str:
        return f"host {self.number % 2}"


class Hosts:
    """Two hosts. The first one asks for ten seconds of silence once."""

    def __init__(self) -> None:
        self.running: Counter[str] = Counter()
        self.silent_until_seconds = 0.0
        self.problems: list[str] = []

    async def ask(self, request: Request) -> None:
        now_seconds = asyncio.get_running_loop().time()
        if request.host == "host 0" and now_seconds < self.silent_until_seconds - 0.1:
            self.problems.append(f"{request} began at {now_seconds}, within a hold")
        self.running[request.host] += 1
        if self.running[request.host] > 1:
            self.problems.append(f"{request} began beside another one")
        try:
            await asyncio.sleep(0.1)
        finally:
            self.running[request.host] -= 1
        if request.number == 2 and not self.silent_until_seconds:
            self.silent_until_seconds = asyncio.get_running_loop().time() + 10
            raise RetryLater("busy", after=10, hold="host")


@resource
def hosts() -> Hosts:
    return Hosts()


@stage(rate=Rate(50, by="host", concurrency=1))
async def fetch(request: Request, hosts: Hosts = use(hosts)) -> None:
    await hosts.ask(request)


PACED = Pipeline("paced", fetch)


async def fetch_all(h: Harness) -> None:
    for number in range(10):
        await h.feed(fetch, Request(number=number))
    await h.drain()
    assert h.resource(hosts).problems == []


async def test_nothing_starts_within_a_hold_and_one_at_a_time_whatever_happens() -> None:
    await explore(PACED, fetch_all, seeds=SEEDS, faults=FAULTS, resources=lambda: {hosts: Hosts()})


async def test_the_queue_of_a_key_whose_slot_a_dead_worker_has_costs_few_calls() -> None:
    for nth in range(1, 21):
        async with harness(
            PACED, faults=[Crash(fetch, before="settle", nth=nth)], workers=2, resources={hosts: Hosts()}
        ) as h:
            await fetch_all(h)

            assert len(h.trace.of("reserve")) < 100
