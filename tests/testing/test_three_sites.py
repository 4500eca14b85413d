"""Three sites at once, one of which is busy: it does not slow the others down, whatever it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

from flowq import Pipeline, Rate, Retry, RetryLater, resource, source, stage, use
from flowq.testing import harness

PAGES, PER_SECOND, BUSY_SECONDS, HOLD_SECONDS, AT_ONCE = 40, 40, 1.2, 1.0, 3
ANSWER_SECONDS = 0.02
LATE_SECONDS = 0.02  # on the virtual clock: what a call to Redis takes, which the seed decides


@dataclass(frozen=True)
class Link:
    host: str
    page: int


@dataclass
class Site:
    """A web site that logs when it was asked for what, and is busy for a while from its first request on."""

    busy_seconds: float = 0.0
    log: list[tuple[float, int, int]] = field(default_factory=list)

    async def get(self, page: int) -> int:
        now = asyncio.get_running_loop().time()
        began = self.log[0][0] if self.log else now
        status = 429 if now - began < self.busy_seconds else 200
        self.log.append((now, page, status))
        await asyncio.sleep(ANSWER_SECONDS)
        return status

    @property
    def times(self) -> list[float]:
        return [at for at, _, _ in self.log]

    @property
    def seconds(self) -> float:
        return self.times[-1] - self.times[0]


@resource
def web() -> Iterator[dict[str, Site]]:
    yield {}


@source
def seeds(hosts: str) -> Iterator[Link]:
    for page in range(PAGES):
        for host in hosts.split(","):
            yield Link(host, page)


@stage(concurrency=6, rate=Rate(PER_SECOND, by="host", concurrency=AT_ONCE), retry=Retry(attempts=1))
async def fetch(link: Link, sites: dict[str, Site] = use(web)) -> None:
    if await sites[link.host].get(link.page) == 429:
        raise RetryLater("HTTP 429", after=HOLD_SECONDS, hold="host")


async def crawl(**sites: Site) -> None:
    async with harness(Pipeline("sites", seeds >> fetch), workers=2, resources={web: sites}) as h:
        await h.run(seeds, hosts=",".join(sites))
        await h.drain()


async def test_a_site_that_answers_429_slows_no_other_and_is_left_alone_until_it_is_well() -> None:
    alone = [Site(), Site()]
    await crawl(a=alone[0], b=alone[1])
    busy, *others = Site(BUSY_SECONDS), Site(), Site()
    await crawl(busy=busy, a=others[0], b=others[1])

    # As if alone: what the rate allows, and no more than a tenth longer than without the busy one.
    at_best = (PAGES - 1) / PER_SECOND
    for site in (*alone, *others):
        assert sorted(page for _, page, _ in site.log) == list(range(PAGES))
        assert site.seconds >= at_best - LATE_SECONDS
    usual = max(site.seconds for site in alone)
    assert max(site.seconds for site in others) <= 1.1 * usual

    # The rate of each holds over both workers, while all of them overlap.
    for site in (busy, *others):
        for (i, first), (j, second) in combinations(enumerate(site.times), 2):
            assert second - first >= (j - i) / PER_SECOND - LATE_SECONDS
    assert max(site.times[0] for site in others) < min(site.times[-1] for site in others)
    assert busy.times[0] < min(site.times[-1] for site in others)

    # Requests under way are refused, then one at a time tries, and after recovery everything is fetched.
    refused = [at for at, _, status in busy.log if status == 429]
    served = [(at, page) for at, page, status in busy.log if status == 200]
    assert sorted(page for _, page in served) == list(range(PAGES))
    assert len(refused) <= AT_ONCE + 1
    assert min(at for at, _ in served) - max(refused) >= HOLD_SECONDS
    assert min(at for at, _ in served) - refused[0] >= BUSY_SECONDS
