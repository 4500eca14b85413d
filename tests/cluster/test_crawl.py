"""Short crawls on a real cluster, each with one trouble. `python -m tests.cluster.crawl` does longer ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.cluster.crawl import Crawl, carry_out, faults_of
from tests.cluster.crawl_pipeline import STAGES, Terms
from tests.cluster.crawl_verdict import ShardState, verdict
from tests.cluster.site import Site
from tests.cluster.starts import ahead_seconds, most_in_a_second, too_hasty

SHARDS = 6
PAGES = 6_000  # at a second each: three workers with 50 at once are at work for half a minute


@pytest.mark.parametrize(
    "faults", ["kills=3,slots=1", "cuts=60,replies=10", "failover=1", "blackout=1", "full=1"], ids=str
)
async def test_a_crawl_is_exact_in_spite_of(faults: str, tmp_path: Path) -> None:
    said: list[str] = []
    terms = Terms(PAGES, shards=SHARDS, fetch_seconds=1.0)

    outcome = await carry_out(Crawl(terms, faults_of(faults)), tmp_path, said.append)

    assert outcome.is_exact, "\n".join([*said, str(outcome)])


async def test_a_crawl_is_exact_on_servers_that_know_nothing_of_each_other(tmp_path: Path) -> None:
    said: list[str] = []
    terms = Terms(PAGES, shards=SHARDS, fetch_seconds=1.0)

    outcome = await carry_out(Crawl(terms, {"kills": 2, "full": 1, "blackout": 1}, n_servers=3), tmp_path, said.append)

    assert outcome.is_exact, "\n".join([*said, str(outcome)])


async def test_a_crawl_is_exact_though_it_is_divided_twice_while_it_is_under_way(tmp_path: Path) -> None:
    said: list[str] = []
    terms = Terms(PAGES, shards=1, fetch_seconds=0.3)

    outcome = await carry_out(Crawl(terms, {"kills": 1}, reshards=(6, 12)), tmp_path, said.append)

    assert outcome.is_exact, "\n".join([*said, str(outcome)])


async def test_each_host_is_asked_at_its_rate_over_all_shards(tmp_path: Path) -> None:
    said: list[str] = []
    terms = Terms(2_000, shards=8, rate=20.0)

    outcome = await carry_out(Crawl(terms, {"kills": 1, "slots": 1}), tmp_path, said.append)

    assert outcome.is_exact, "\n".join([*said, str(outcome)])


# The judge is judged.

SITE = Site(500)


def perfect(folder: Path) -> ShardState:
    """What an exact crawl in one shard leaves."""
    pages = SITE.reachable
    (folder / "1.ledger").write_text("".join(f"{stage} {page}\n" for stage in STAGES for page in pages))
    stats = {f"{kind}:{name}": len(pages) for kind, name in [("ok", "discover"), ("ok", "fetch"), ("ok", "parse")]}
    stats |= {"ok:store": len(pages), "in:seeds>discover": 20, "in:parse>discover": len(pages) - 20}
    stats |= {f"in:{edge}": len(pages) for edge in ("discover>fetch", "fetch>parse", "parse>store")}
    stats |= {"duplicates:parse>discover": SITE.repeated}
    return ShardState(0, Counter(stats), settled=Counter((stage, page) for stage in STAGES for page in pages))


def violations(folder: Path, state: ShardState) -> set[str]:
    return {finding.what for finding in verdict(SITE, folder, [state]) if finding.is_fault and finding.n}


def test_an_exact_crawl_is_found_exact(tmp_path: Path) -> None:
    assert violations(tmp_path, perfect(tmp_path)) == set()


def test_a_page_that_is_missing_or_settled_twice_is_found(tmp_path: Path) -> None:
    state = perfect(tmp_path)
    first, second, *_ = SITE.reachable
    del state.settled["store", first]
    state.settled["store", second] += 1

    assert violations(tmp_path, state) == {"lost: never settled", "doubled: settled again"}


def test_what_is_left_in_an_edge_or_between_shards_is_found(tmp_path: Path) -> None:
    state = perfect(tmp_path)
    state.left["edge:parse>store"] = 1
    state.heads[0], state.outboxes["0"] = "5-1 7", 1

    assert violations(tmp_path, state) == {
        "unfinished though drained",
        "outboxes that are not empty",
        "shards out of balance",
    }


def test_a_message_that_was_counted_twice_is_found(tmp_path: Path) -> None:
    state = perfect(tmp_path)
    state.stats["ok:fetch"] += 1

    assert violations(tmp_path, state) == {"counters that are wrong", "shards out of balance"}


def test_starts_that_are_bunched_are_found() -> None:
    on_time = [n / 16 for n in range(64)]
    bunched = sorted(on_time + [1.0] * 10)

    assert (most_in_a_second(on_time), most_in_a_second(bunched)) == (16, 26)
    assert too_hasty({"calm": on_time, "hasty": bunched}, 16.0).keys() == {"hasty"}


def test_two_paces_for_one_host_are_found() -> None:
    twice = sorted([n / 16 for n in range(64)] * 2)

    assert ahead_seconds(twice, 16.0) == 4.0
