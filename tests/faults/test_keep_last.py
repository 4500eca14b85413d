"""`Dedup(keep="last")` while Redis or a worker is killed: one message of each value is left, and it is the last one."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest
from pydantic import BaseModel

import flowq
from tests.eventually import eventually
from tests.faults.proxy import Proxy
from tests.faults.servers import DurableServer
from tests.integration.project import Project
from tests.redis_server import KINDS, Kind

ROOT = Path(__file__).parents[2]
N_PRODUCTS, N_VERSIONS, N_KILLS = 40, 25, 3
STORES = "store", "store_checked"
N_RECORDS = N_PRODUCTS * N_VERSIONS
PRICES = f"""
    from __future__ import annotations

    from collections.abc import Iterator

    from pydantic import BaseModel

    from flowq import Dedup, Pipeline, SourceContext, source, stage
    from tests.faults.failpoints import arm


    class Price(BaseModel):
        product: int
        version: int


    @source
    def prices(ctx: SourceContext[int]) -> Iterator[Price]:
        for n in range(ctx.cursor or 0, {N_RECORDS}):
            yield Price(product=n % {N_PRODUCTS}, version=n)
            ctx.save(n + 1)


    def note(price: Price, file_name: str) -> None:
        with open(file_name, "a") as file:
            file.write(f"{{price.product}} {{price.version}}\\n")


    @stage(concurrency=4)
    async def check(price: Price) -> Price:
        return price


    @stage(dedup=Dedup("product", keep="last"))
    async def store(price: Price) -> None:
        note(price, "store")


    @stage(dedup=Dedup("product", keep="last"))
    async def store_checked(price: Price) -> None:
        note(price, "store_checked")


    arm()
    shop = Pipeline("shop", prices >> store, prices >> check >> store_checked)
"""


class Price(BaseModel):
    product: int
    version: int


@pytest.mark.parametrize("kind", KINDS)
async def test_when_redis_is_killed_while_records_replace_each_other_the_last_of_each_is_left(kind: Kind) -> None:
    stored: list[tuple[int, int]] = []

    @flowq.stage(dedup=flowq.Dedup("product", keep="last"))
    async def store(price: Price) -> None:
        stored.append((price.product, price.version))

    shop = flowq.Pipeline("shop", store)
    with DurableServer(kind) as server:
        async with Proxy(server.url) as proxy, flowq.Publisher(shop, redis=proxy.url) as publisher:

            async def push(product: int) -> None:
                for version in range(N_VERSIONS):
                    await publisher.push(store, Price(product=product, version=version))

            pushing = asyncio.gather(*(push(product) for product in range(N_PRODUCTS)))
            for n in range(1, N_KILLS + 1):
                await eventually(partial(has_appended, server, n * N_RECORDS // (N_KILLS + 1)))
                proxy.drop_reply("EVALSHA", 3)
                await eventually(partial(has_lost, proxy, 3 * n))
                server.kill()
                server.start()
            assert not pushing.done()
            await pushing
        await flowq.run(shop, redis=server.url, drain=True)
        async with flowq.Inspector(shop, redis=server.url) as inspector:
            balance = (await inspector.balance())["store"]

    assert sorted(stored) == [(product, N_VERSIONS - 1) for product in range(N_PRODUCTS)]
    assert (balance.ok, balance.duplicates) == (N_PRODUCTS, N_PRODUCTS * (N_VERSIONS - 1))


def has_appended(server: DurableServer, n: int) -> bool:
    with server.client() as client:
        edge = "flowq:{shop}:edge:>store"
        return bool(client.exists(edge)) and int(client.xinfo_stream(edge)["entries-added"]) > n


def has_lost(proxy: Proxy, n_replies: int) -> bool:
    return proxy.dropped == n_replies


@pytest.mark.parametrize("point", ["after publish", "before settle", "after settle"])
def test_when_a_worker_is_killed_between_records_that_replace_each_other_each_is_handled_once(
    point: str, tmp_path: Path
) -> None:
    died = tmp_path / "died"
    with (
        DurableServer("bundled") as server,
        Project(tmp_path, FAILPOINT=point, FAILPOINT_FILE=str(died), PYTHONPATH=str(ROOT)) as project,
    ):
        project.variables |= {"FLOWQ_REDIS_URL": server.url, "FLOWQ_LEASE": "1s"}
        project.write("shop", PRICES)
        project.ok("run", "shop", "--stage", "prices,check", "--limit", f"check={N_RECORDS}")
        assert died.exists()
        project.ok("run", "shop")
        stages = json.loads(project.ok("status", "shop", "--json").stdout)["stages"]

    of = {name: [line.split() for line in (tmp_path / name).read_text().splitlines()] for name in STORES}
    for name in STORES:
        assert sorted(int(product) for product, _ in of[name]) == list(range(N_PRODUCTS))
        assert stages[name]["duplicates"] == N_RECORDS - N_PRODUCTS
    assert sorted(int(n) for _, n in of["store"]) == list(range(N_RECORDS - N_PRODUCTS, N_RECORDS))
