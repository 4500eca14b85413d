"""What is said of the shards of a pipeline: who does not answer, what no worker serves, what has moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from flowq.broker.inspection.merging.shards_seen import ShardFigures, ShardsOverview
from flowq.broker.inspection.worker_overview import WorkerOverview
from flowq.broker.migration.shards_change import ShardsChange, ShardsMoved
from flowq.broker.shards.every_shard import SilentShard
from flowq.cli.views.overview_view import overview_text
from flowq.cli.views.run_screen import choose_screen
from flowq.cli.views.run_text import end_lines, first_lines
from flowq.cli.views.shards_change_view import show_moved
from flowq.errors import BrokerUnavailable
from flowq.runtime.stage.consumer import BLOCK_MS
from flowq.wording.attention import attention
from flowq.wording.shard_words import silent_words, trouble_words, unserved_words
from tests.unit.crawl_run import ABOUT, PLAN, snapshot, summary
from tests.unit.overviews import overview_of


def figures(shard: int, waiting: int, workers: int) -> ShardFigures:
    return ShardFigures(shard, f"redis://***@one:{shard}/0", waiting, waiting, 0, 0, 0, None, 0, workers)


def seen(*by_shard: ShardFigures, silent: Sequence[SilentShard] = ()) -> ShardsOverview:
    return ShardsOverview({each.shard: each for each in by_shard}, silent, {}, {})


def silent(shard: int, address: str) -> SilentShard:
    return SilentShard(shard, address, BrokerUnavailable("gone"))


def test_the_silent_shards_of_one_server_share_a_line() -> None:
    away = [silent(1, "redis://***@two:6379/0"), silent(4, "redis://***@two:6379/0"), silent(2, "three:6379")]

    assert [*silent_words(away)] == [
        "shards 1, 4 at two:6379 do not answer",
        "shard 2 at three:6379 does not answer",
    ]
    assert [*trouble_words(seen(silent=away[:2]))] == [
        "shards 1, 4 at two:6379 do not answer: missing in these numbers"
    ]


def test_shards_that_no_worker_serves_are_named_while_others_are_served() -> None:
    served, empty, left = figures(0, 7, 2), figures(1, 0, 0), figures(2, 3, 0)

    assert unserved_words(seen(served, empty, left)) == "no worker serves shard 2: 3 messages left there"
    assert unserved_words(seen(served, empty)) == ""
    assert unserved_words(seen(replace(served, workers=0), left)) == ""  # then no worker is running at all


def test_lost_messages_are_called_lost_while_another_shard_is_silent() -> None:
    shards = replace(seen(figures(0, 0, 1), silent=[silent(1, "two:6379")]), lost={(2, 0): 3})
    overview = replace(overview_of(PLAN, snapshot(1, known=10, fetched=4)), shards=shards)

    assert [(line.title, line.text) for line in attention(overview)[:2]] == [
        ("Incomplete:", "shard 1 at two:6379 does not answer: missing in these numbers"),
        ("Lost:", "shard 0 has lost 3 messages from shard 2, which its Redis had confirmed"),
    ]


def test_a_reader_that_waits_for_messages_is_not_called_silent() -> None:
    longest_seconds = BLOCK_MS / 1000 + 0.1  # and the way to the server and back

    assert not WorkerOverview("w", silent_seconds=longest_seconds).is_silent
    assert WorkerOverview("w", silent_seconds=2 * longest_seconds).is_silent


def test_a_run_tells_what_is_in_transit() -> None:
    at_work = replace(snapshot(1, known=10, fetched=4), in_transit=5)
    stderr = StringIO()
    screen = choose_screen(PLAN, json=False, quiet=False, stdout=StringIO(), stderr=stderr)
    screen.begin(ABOUT)
    screen.update(at_work)

    assert "left 11: 6 waiting, 5 in transit" in stderr.getvalue()

    end = replace(summary(at_work), in_transit=5)
    headline, *_ = end_lines(PLAN, end, dead_before=0, stopped=True, width=120)
    assert headline.plain.endswith("11 left, 5 of them in transit between shards")


def test_a_run_of_some_shards_says_so_in_its_first_line() -> None:
    (line,) = first_lines(replace(ABOUT, shards=(0, 3)), PLAN, Console(width=200).width)

    assert "all 4 stages of shards 0, 3 only, 2 workers" in line.plain


def test_a_move_without_remembered_values_does_not_speak_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    change = ShardsChange(1, 6, False, (), (), ())
    moved = ShardsMoved()
    moved.messages["parse>fetch"] = 1

    show_moved(change, moved)
    assert capsys.readouterr().out == "moved 1 message from 1 shard to 6\n"
    moved.values = 2
    show_moved(change, moved)
    assert capsys.readouterr().out == "moved 1 message and 2 remembered values from 1 shard to 6\n"


def test_who_asks_for_the_shards_of_an_undivided_pipeline_is_told_that_there_is_one() -> None:
    console = Console(width=120, file=StringIO(), record=True)
    overview = overview_of(PLAN, snapshot(1, known=10, fetched=4))

    console.print(overview_text(overview, 120, by_shard=True))
    assert "scrape has one shard" in console.export_text(clear=False)
    console.export_text()
    console.print(overview_text(overview, 120))
    assert "one shard" not in console.export_text()
