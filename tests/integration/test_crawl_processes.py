"""One pipeline in several `flowq run` processes on a shared Redis: each runs its stages, together they do the whole."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest

from flowq.broker.open import open_broker
from flowq.broker.records import Snapshot
from flowq.broker.runs import StageBalance
from flowq.inspector import Inspector
from flowq.settings import Settings
from pipelines.scrape import scrape
from tests.conftest import Servers
from tests.integration.crawl import Crawl, crawl_of
from tests.integration.flowq_process import FlowqProcess

PARTS = {
    "fetching": ("--stage", "fetch", "--stage", "seeds"),
    "parsing": ("-s", "parse"),
    "storing": ("-s", "store"),
}
TWO_PARTS = {"without": ("--exclude", "fetch,store"), "with": ("-s", "fetch,store")}


@dataclass(frozen=True)
class Shared:
    """A crawl whose processes share a Redis, looked at by way of an inspector."""

    crawl: Crawl
    redis: str
    namespace: str

    def start(self, *options: str) -> FlowqProcess:
        return self.crawl.start("--redis", self.redis, "--namespace", self.namespace, *options)

    def snapshot(self) -> Snapshot:
        return asyncio.run(self._look())[0]

    def balance(self) -> dict[str, StageBalance]:
        return asyncio.run(self._look())[1]

    async def _look(self) -> tuple[Snapshot, dict[str, StageBalance]]:
        async with open_broker("scrape", Settings.of_program(redis=self.redis, namespace=self.namespace)) as broker:
            inspector = Inspector(scrape.plan, broker)
            return await inspector.snapshot(), dict(await inspector.balance())

    def wait_until_drained(self, process: FlowqProcess) -> None:
        def drained() -> bool:
            snapshot = self.snapshot()
            return bool(snapshot.run) and snapshot.is_drained

        process.wait_for(drained)


@pytest.fixture
def shared(tmp_path_factory: pytest.TempPathFactory, redis_server: Servers) -> Iterator[Shared]:
    with crawl_of("sphinx", tmp_path_factory.mktemp("shared")) as crawl:
        yield Shared(crawl, redis_server("bundled").url, f"t{uuid4().hex[:12]}")


def _crawled(shared: Shared, parts: dict[str, tuple[str, ...]]) -> dict[str, FlowqProcess]:
    """Run the parts side by side until the crawl is done, then stop each."""
    processes = {name: shared.start(*options) for name, options in parts.items()}
    for process in processes.values():
        process.wait_for(lambda process=process: "runs until stopped" in process.stderr)
    shared.wait_until_drained(next(iter(processes.values())))
    for process in processes.values():
        process.signal_group(signal.SIGTERM)
    return processes


@pytest.mark.parametrize("parts", [PARTS, TWO_PARTS], ids=["by stage", "by exclusion"])
def test_the_parts_together_give_what_one_process_gives(shared: Shared, parts: dict[str, tuple[str, ...]]) -> None:
    processes = _crawled(shared, parts)

    assert {name: process.wait() for name, process in processes.items()} == dict.fromkeys(parts, 0)
    expected, balance = shared.crawl.expected, shared.balance()
    assert shared.crawl.differences() == []
    assert shared.crawl.hits == dict.fromkeys(shared.crawl.paths_expected(), 1)
    assert all(stage.adds_up and not stage.outstanding for stage in balance.values())
    fetch, parse, store = balance["fetch"], balance["parse"], balance["store"]
    assert (fetch.entered, fetch.ok, fetch.dead) == (expected.unique, expected.rows, expected.dead)
    assert (fetch.filtered, fetch.duplicates) == (len(expected.other), expected.duplicates)
    assert (parse.ok, parse.out) == (expected.rows, expected.rows + expected.followed)
    assert (store.entered, store.ok) == (expected.rows, expected.rows)


def test_a_process_runs_only_the_stages_it_was_given(shared: Shared) -> None:
    process = shared.start("-s", "seeds,fetch")
    process.wait_for(lambda: shared.balance()["fetch"].ok)

    process.signal_group(signal.SIGTERM)

    assert process.wait() == 0
    balance = shared.balance()
    assert balance["parse"].entered == balance["parse"].waiting > 0
    assert balance["store"].entered == 0


def test_one_that_stops_signs_off(shared: Shared) -> None:
    process = shared.start("-s", "parse")
    process.wait_for(lambda: shared.snapshot().workers)

    process.signal_group(signal.SIGTERM)

    assert process.wait() == 0
    assert shared.snapshot().workers == ()
