"""Equal messages with two places are found by looking through what a stage has seen."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from flowq import Dedup, Pipeline, Publisher, Rate, stage
from flowq.broker.inspection.merging.split_values import SplitValues, split_values
from flowq.broker.open import open_broker
from flowq.delivery.placement import shard_of
from flowq.settings import Settings

SHARDS = 4
N = 200


class Link(BaseModel):
    url: str
    host: str


@stage(dedup="url", rate=Rate(20, by="host"))
async def fetch(link: Link) -> None: ...


@stage(dedup=Dedup("url", ttl="1h"), place="host")
async def check(link: Link) -> None: ...


@stage(dedup="url")
async def parse(link: Link) -> None: ...


PIPELINE = Pipeline("split", fetch, check, parse, shards=SHARDS)


@pytest.mark.parametrize("n_split", [0, 3])
async def test_values_that_have_two_places_are_counted(url: str, unique_namespace: str, n_split: int) -> None:
    hosts = ["a", next(name for name in "bcdefgh" if shard_of(name.encode(), SHARDS) != shard_of(b"a", SHARDS))]
    links = [Link(url=str(n), host="a") for n in range(N)]
    others = [Link(url=str(n), host=hosts[1]) for n in range(n_split)]
    async with Publisher(PIPELINE, redis=url, namespace=unique_namespace) as publisher:
        for each in (fetch, check, parse):
            await publisher.push_many(each, links)
            await publisher.push_many(each, others)

    async with open_broker("split", Settings.of_program(redis=url, namespace=unique_namespace), SHARDS) as broker:
        found = await split_values(broker, PIPELINE.plan)

    assert found == [SplitValues("fetch", N, n_split), SplitValues("check", N, n_split)]
