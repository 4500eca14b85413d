"""`flowq run scrape` on real sites, its numbers compared with those of an oracle that only walks the files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from examples.scraping.server import Stats, robots_txt
from flowq.broker.embedded.server import EmbeddedRedis
from flowq.broker.open import open_broker
from flowq.dead_letters.letter import DeadLetterRecord
from flowq.inspector import Inspector
from flowq.settings import Settings
from pipelines.scrape import scrape
from tests.integration.crawl import Crawl, crawl_of
from tests.integration.flowq_process import FlowqProcess, wait_until

STAGES = ["seeds", "fetch", "parse", "store"]
COUNTERS = {"in", "ok", "filtered", "dead", "retries", "duplicates", "waiting", "delayed", "running", "out", "purged"}
HOLD_SECONDS = 0.03


@dataclass(frozen=True)
class Crawled:
    """A crawl that has come to its end."""

    crawl: Crawl
    run: FlowqProcess
    asked: Stats  # what the server was asked for until then

    @classmethod
    def by(cls, crawl: Crawl) -> Crawled:
        return cls(crawl, crawl.run(), crawl.server.stats())

    @property
    def stages(self) -> dict[str, dict[str, int]]:
        stages: dict[str, dict[str, int]] = self.run.summary["stages"]
        return stages


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawled]:
    """The PostgreSQL manual, from a server that never fails."""
    with crawl_of("postgresql", tmp_path_factory.mktemp("manual")) as crawl:
        yield Crawled.by(crawl)


@pytest.fixture(scope="module")
def throttled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawled]:
    """The PostgreSQL manual, from a server that answers 429 and 503 to some first requests."""
    folder = tmp_path_factory.mktemp("throttled")
    with crawl_of("postgresql", folder, faults=("429", "503"), retry_after=HOLD_SECONDS) as crawl:
        yield Crawled.by(crawl)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawled]:
    """The manual of SQLite, in which many links lead nowhere, crawled without regard to its robots.txt."""
    with crawl_of("sqlite", tmp_path_factory.mktemp("broken"), robots="", SCRAPE_ROBOTS="off") as crawl:
        yield Crawled.by(crawl)


@pytest.fixture(scope="module")
def polite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawled]:
    """The manual of Sphinx, parts of which its robots.txt forbids."""
    rules = robots_txt(["/usage/extensions", "/_modules"])
    with crawl_of("sphinx", tmp_path_factory.mktemp("polite"), robots=rules) as crawl:
        yield Crawled.by(crawl)


class TestASiteWithoutFaults:
    def test_every_page_is_stored_once_with_the_number_of_its_links(self, manual: Crawled) -> None:
        assert manual.run.wait() == 0, manual.run.stderr
        assert manual.crawl.expected.rows > 1000
        assert manual.crawl.differences() == []

    def test_every_page_is_asked_for_exactly_once(self, manual: Crawled) -> None:
        assert manual.asked["paths"] == dict.fromkeys(manual.crawl.paths_expected(), 1)

    def test_the_counters_are_those_of_the_oracle(self, manual: Crawled) -> None:
        expected, stages = manual.crawl.expected, manual.stages
        assert stages["seeds"]["out"] == 1
        assert stages["fetch"]["in"] == expected.unique
        assert stages["fetch"]["ok"] == stages["fetch"]["out"] == expected.rows
        assert stages["fetch"]["duplicates"] == expected.duplicates
        assert stages["fetch"]["retries"] == stages["fetch"]["dead"] == 0
        assert stages["parse"]["in"] == stages["parse"]["ok"] == expected.rows
        assert stages["parse"]["out"] == expected.rows + expected.followed
        assert stages["store"]["in"] == stages["store"]["ok"] == expected.rows

    def test_the_last_line_on_stdout_is_the_summary(self, manual: Crawled) -> None:
        summary = manual.run.summary
        assert list(summary) == ["pipeline", "run", "drained", "seconds", "stages"]
        assert (summary["pipeline"], summary["drained"]) == ("scrape", True)
        assert summary["run"]
        assert list(manual.stages) == STAGES
        assert all(set(counters) == COUNTERS for counters in manual.stages.values())

    def test_every_line_on_stdout_is_an_object_whose_balance_adds_up(self, manual: Crawled) -> None:
        lines = [json.loads(line) for line in manual.run.stdout.splitlines()]
        assert len(lines) >= 2
        assert [_out_of_balance(line["stages"]) for line in lines] == [[]] * len(lines)


class TestASiteThatThrottles:
    def test_the_rows_are_the_same(self, throttled: Crawled) -> None:
        assert throttled.run.wait() == 0, throttled.run.stderr
        assert throttled.crawl.differences() == []

    def test_every_fault_is_one_retry_and_nothing_dies(self, throttled: Crawled) -> None:
        expected, fetch = throttled.crawl.expected, throttled.stages["fetch"]
        faults = throttled.asked["faults"]
        assert (faults["429"], faults["503"]) == (expected.faults["429"], expected.faults["503"])
        assert min(faults["429"], faults["503"]) > 0
        assert fetch["retries"] == expected.retries
        assert throttled.asked["requests"] == expected.requests
        assert [counters["dead"] for counters in throttled.stages.values()] == [0, 0, 0, 0]
        assert _out_of_balance(throttled.stages) == []


class TestASiteWithBrokenLinks:
    def test_every_page_is_stored(self, broken: Crawled) -> None:
        assert broken.crawl.differences() == []

    def test_every_broken_link_is_a_dead_letter_after_one_request(self, broken: Crawled) -> None:
        assert broken.crawl.expected.dead > 100
        assert broken.stages["fetch"]["dead"] == broken.crawl.expected.dead
        hits = broken.asked["paths"]
        urls = broken.crawl.expected.broken
        assert sum(hits[broken.crawl.path(url)] for url in urls) == len(urls)

    def test_it_ends_with_exit_code_3(self, broken: Crawled) -> None:
        assert broken.run.wait() == 3

    async def test_the_dead_letters_are_the_urls_that_lead_nowhere(self, broken: Crawled) -> None:
        letters = await _dead_letters(broken.crawl)
        assert {letter.message["url"] for letter in letters} == broken.crawl.expected.broken
        assert len(letters) == len(broken.crawl.expected.broken)
        assert {(letter.stage, letter.error, letter.attempts) for letter in letters} == {
            ("fetch", "Reject: HTTP 404", 1)
        }

    def test_the_command_line_lists_as_many(self, broken: Crawled) -> None:
        listed = broken.crawl.project.run("dlq", "ls", "scrape", "--json")
        assert sum(group["count"] for group in json.loads(listed.stdout)) == broken.crawl.expected.dead


class TestASiteWithRules:
    def test_what_robots_txt_forbids_is_filtered_and_never_asked_for(self, polite: Crawled) -> None:
        expected = polite.crawl.expected
        assert expected.blocked
        assert polite.crawl.differences() == []
        assert polite.stages["fetch"]["filtered"] == len(expected.blocked) + len(expected.other)
        forbidden = {polite.crawl.path(url) for url in expected.blocked}
        assert forbidden.isdisjoint(polite.asked["paths"])

    def test_robots_txt_is_read_once(self, polite: Crawled) -> None:
        assert polite.asked["robots"] == 1

    def test_the_same_crawl_again_is_a_new_run_with_the_same_outcome(self, polite: Crawled) -> None:
        before = polite.crawl.stored()

        again = polite.crawl.run()

        assert again.wait() == polite.run.wait() == 3
        assert again.summary["run"] != polite.run.summary["run"]
        assert again.summary["stages"] == polite.run.summary["stages"]
        assert polite.crawl.stored() == before

    def test_nothing_of_it_is_left_running(self, polite: Crawled) -> None:
        wait_until(lambda: not polite.crawl.project.pids())


def _out_of_balance(stages: dict[str, dict[str, int]]) -> list[str]:
    parts = ("ok", "filtered", "dead", "waiting", "delayed", "running")
    return [name for name, counters in stages.items() if counters["in"] != sum(counters[part] for part in parts)]


async def _dead_letters(crawl: Crawl) -> list[DeadLetterRecord]:
    with EmbeddedRedis.acquire(crawl.project.folder / ".flowq") as server:
        async with open_broker("scrape", Settings.of_program(redis=server.url)) as broker:
            return await Inspector(scrape.plan, broker).dead_letters(limit=10_000)
