"""Why messages are tried again, in words: what a run says of it and when, and the lines below the stages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowq.broker.inspection.retried_errors import RetriedError
from flowq.broker.records import OTHER, FailureCount, Snapshot
from flowq.cli.views.retry_lines import RetryNews, count_lines, error_lines
from tests.unit.crawl_run import PLAN, START_MS, snapshot

PLACE = "pipelines/shop.py:31"
LONG = "ValueError: bad price: expected a decimal number with two digits after the point"


def failed(kind: str, count: int, error: str = "ValueError: bad price", *, due_seconds: float = 8) -> FailureCount:
    return FailureCount(kind, count, error, PLACE, 2, START_MS + round(due_seconds * 1000))


def seen(at_seconds: float, *counts: FailureCount) -> Snapshot:
    return replace(snapshot(at_seconds), failures={"fetch": counts})


def said(news: RetryNews, at_seconds: float, *counts: FailureCount) -> list[str]:
    return [str(note) for note in news.read(seen(at_seconds, *counts))]


# What a run says


def test_an_error_is_said_when_it_is_new_with_its_place_and_its_next_attempt() -> None:
    assert said(RetryNews(PLAN), 0, failed("a", 3)) == [
        f"retry  3×  fetch  ValueError: bad price  {PLACE}  attempt 2 of 5 in 8s"
    ]


def test_the_same_error_again_is_said_as_a_count_every_half_minute_and_not_if_it_has_ended() -> None:
    news = RetryNews(PLAN)
    said(news, 0, failed("a", 3))

    assert [said(news, second, failed("a", 3 + second)) for second in (1, 15, 29)] == [[], [], []]
    assert said(news, 30, failed("a", 33)) == [f"retry  33×  fetch  ValueError: bad price  {PLACE}"]
    assert said(news, 61, failed("a", 33)) == []


def test_the_last_counts_are_said_at_the_end() -> None:
    news = RetryNews(PLAN)
    said(news, 0, failed("a", 3), failed("b", 1))
    said(news, 1, failed("a", 1000), failed("b", 1))

    assert [str(note).split("  ")[:2] for note in news.rest()] == [["retry", "1,000×"]]
    assert news.rest() == []


def test_an_error_from_before_the_run_is_news_only_when_it_comes_back() -> None:
    news = RetryNews(PLAN)
    news.begin({"fetch": [failed("a", 3)]})

    assert said(news, 0, failed("a", 3)) == []
    assert said(news, 1, failed("a", 4)) == [f"retry  4×  fetch  ValueError: bad price  {PLACE}  attempt 2 of 5 in 7s"]


def test_ten_thousand_snapshots_of_one_error_are_a_line_each_half_minute() -> None:
    news = RetryNews(PLAN)

    lines = [line for tick in range(10_000) for line in said(news, tick / 10, failed("a", tick + 1))]

    assert len(lines) == 34  # 1000 seconds


def test_errors_without_a_counter_of_their_own_are_said_as_others() -> None:
    (line,) = said(RetryNews(PLAN), 0, failed(OTHER, 7))

    assert "other errors, the last: ValueError: bad price" in line


def test_the_password_of_a_url_in_an_error_is_left_out() -> None:
    (note,) = RetryNews(PLAN).read(seen(0, failed("a", 1, "ConnectError: https://user:secret@example.org")))

    assert "secret" not in str(note)
    assert "secret" not in str(note.as_json())


# Below the stages


def retried(error: str = "ValueError: bad price", *, delayed: int = 12) -> RetriedError:
    if not delayed:
        return RetriedError("a", error, PLACE, 37)
    return RetriedError("a", error, PLACE, 37, delayed, 2, 5, 8.0)


def lines_of(width: int, *errors: RetriedError, most: int = 3) -> list[str]:
    return [line.plain for line in error_lines({"price": errors}, width, most=most)]


def test_an_error_is_one_line_where_it_fits_and_two_where_it_does_not() -> None:
    assert lines_of(120, retried()) == [
        f" price  ValueError: bad price  {PLACE}  37 retries, 12 delayed, attempt 2 of 5 in 8s"
    ]
    assert lines_of(80, retried()) == [
        f" price  ValueError: bad price  {PLACE}",
        "        37 retries, 12 delayed, attempt 2 of 5 in 8s",
    ]


def test_an_error_that_delays_nothing_now_says_how_often_it_was_retried() -> None:
    assert lines_of(80, retried(delayed=0)) == [f" price  ValueError: bad price  {PLACE}  37 retries"]


@pytest.mark.parametrize("width", [70, 80, 100])
def test_a_long_error_is_cropped_and_its_place_is_not(width: int) -> None:
    first, _ = lines_of(width, retried(LONG))
    (below_the_table,) = count_lines(PLAN, seen(0, failed("a", 1000, LONG)), width, most=3)

    for line in (first, below_the_table.plain):
        assert len(line) <= width
        assert f"…  {PLACE}" in line


def test_more_errors_than_there_is_room_for_are_counted() -> None:
    assert lines_of(200, *[retried()] * 5, most=3)[3:] == [" price  and 2 other errors"]


def test_a_message_in_the_queue_of_its_pacing_key_is_tried_when_its_turn_comes() -> None:
    waits = replace(retried(), next_try_seconds=None)

    assert lines_of(200, waits)[0].endswith("attempt 2 of 5 when its turn comes")
