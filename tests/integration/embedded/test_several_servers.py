"""Several servers of one data folder, to try on one machine what several nodes do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from flowq.broker.embedded.data_folder import prepare
from flowq.broker.open import open_broker
from flowq.broker.shards.layout import WrongServers, agree_on_layout
from flowq.broker.shards.node_links import NodeLinks
from flowq.errors import BrokerUnavailable
from flowq.settings import Settings


def settings(folder: Path, servers: int) -> Settings:
    return Settings.load(folder.parent, {}, {"servers": servers})


def test_the_shards_lie_on_the_servers_in_turn_and_stay_there(folder: Path) -> None:
    async def places() -> list[str]:
        async with open_broker("lab", settings(folder, 3), 5) as broker:
            await agree_on_layout(broker, 5)
            answers = [await each.answer(b"CONFIG", b"GET", b"dir") for each in broker.shards]
            return [Path(answer[1].decode()).name for answer in answers]

    async def layout() -> int:
        async with open_broker("lab", settings(folder, 3)) as broker:
            return len(broker.shards)

    assert asyncio.run(places()) == [".flowq", "server-2", "server-3", ".flowq", "server-2"]
    assert asyncio.run(layout()) == 5


def test_what_goes_to_another_shard_goes_to_its_server(folder: Path) -> None:
    async def places() -> list[str]:
        async with open_broker("lab", settings(folder, 3), 5) as broker:
            links = NodeLinks(broker.shards)
            found = [await (await links.to(k)).call(b"CONFIG", b"GET", b"dir", timeout_seconds=60) for k in range(5)]
            await links.close()
            return [Path(answer[1].decode()).name for answer in found]

    assert asyncio.run(places()) == [".flowq", "server-2", "server-3", ".flowq", "server-2"]


def test_another_number_of_servers_is_refused_where_shards_are_on_record(folder: Path) -> None:
    async def begin(servers: int) -> None:
        async with open_broker("lab", settings(folder, servers), 4) as broker:
            await agree_on_layout(broker, 4)

    asyncio.run(begin(2))

    with pytest.raises(WrongServers, match="are on 2 servers, 3 are configured"):
        asyncio.run(begin(3))


def test_a_pipeline_of_one_shard_is_where_it_is_with_one_server(folder: Path) -> None:
    async def counted(servers: int) -> int:
        async with open_broker("lab", settings(folder, servers)) as broker:
            number: int = await broker.answer(b"HINCRBY", broker.keys.stats, b"n", 1)
            return number

    assert [asyncio.run(counted(servers)) for servers in (1, 3, 1)] == [1, 2, 3]


def test_if_one_cannot_be_started_none_is_held(folder: Path) -> None:
    prepare(folder)
    (folder / "server-2").write_text("not a folder")

    async def opened() -> None:
        async with open_broker("lab", settings(folder, 2)):
            pass

    with pytest.raises(BrokerUnavailable, match="cannot keep Redis data"):
        asyncio.run(opened())
