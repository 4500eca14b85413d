"""Actions of the web page: what each changes, what it says first, and what a second user at the same time is told."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from flowq import Inspector
from tests.dashboard.acting import ActingPage
from tests.dashboard.pipelines import LAB

BAD = [{"url": f"https://example.org/{n}/404"} for n in range(3)]


@pytest.fixture(scope="module")
def server() -> Iterator[ActingPage]:
    with ActingPage({"lab": LAB}, "--allow-actions") as page:
        yield page


@pytest.fixture
def page(server: ActingPage) -> ActingPage:
    """A pipeline in which three messages have died in fetch, and nothing waits."""
    server.clear()
    server.push("fetch", *BAD)
    server.run()
    return server


# Letters


def test_a_retry_says_first_what_it_would_do_and_changes_nothing(page: ActingPage) -> None:
    before = page.stages()
    shown = page.do("retry", stage="fetch", error="*404", dry_run=True).json

    assert shown["n"] == "3"
    assert shown["text"] == "letters go back to fetch"
    assert shown["command"] == "flowq dlq retry lab --stage fetch --error '*404'"
    assert page.stages() == before


def test_letters_are_put_back_and_the_action_is_recorded(page: ActingPage) -> None:
    kind = page.letters()[0].fingerprint
    done = page.do("retry", kind=kind, expected="3", rate="")

    assert done.json == {"said": "3 messages put back to fetch", "next": "/p/lab/dead"}
    assert page.stages()["fetch"].waiting == 3
    record = page.audit()[0]
    assert (record.action, record.selection, record.n, record.result) == ("retry", kind, 3, "done")
    assert record.actor == "local@127.0.0.1 (web)"


def test_the_list_shows_at_once_what_was_put_back(page: ActingPage) -> None:
    one, *_ = page.letters()
    path = f"/p/lab/dead/{one.fingerprint}/{one.id}"
    page.process.wait_for(lambda: "1 of 3 of this kind" in page.get(path).text)

    page.do("retry", letter=one.id, stage="fetch", expected="1")

    assert "2 letters of 1 kind" in page.get("/p/lab/dead").text


def test_a_rate_spreads_letters_over_time(page: ActingPage) -> None:
    assert page.do("retry", expected="3", rate="0.01").status == 200

    stage = page.stages()["fetch"]
    assert (stage.waiting, stage.delayed) == (1, 2)


def test_the_second_of_two_users_is_told_the_new_number(page: ActingPage) -> None:
    one, *_ = page.letters()
    assert page.do("retry", letter=one.id, stage="fetch", expected="1").status == 200

    second = page.do("retry", stage="fetch", expected="3")

    assert (second.status, second.json["expected"], second.json["n"]) == (409, 2, "2")
    assert second.json["error"] == "2 letters now, not 3: nothing was changed"
    assert len(page.letters()) == 2
    assert page.audit()[0].result == "failed: 2 letters now, not 3: nothing was changed"
    assert page.do("retry", letter=one.id, stage="fetch", expected="1").status == 409


def test_an_edit_shows_what_changes_and_whether_it_fits(page: ActingPage) -> None:
    letter = page.letters()[0]
    url = letter.message["url"]
    edited = {**letter.message, "url": "https://example.org/there", "depth": 1}
    shown = page.do("edit", letter=letter.id, stage="fetch", message=json.dumps(edited), dry_run=True).json

    assert shown["changes"] == [
        {"path": "url", "before": json.dumps(url), "after": '"https://example.org/there"'},
        {"path": "depth", "before": "0", "after": "1"},
    ]
    assert shown["fits"] == "Link"
    assert shown["command"] == (
        f"flowq dlq retry lab {letter.id} --stage fetch --set 'url=\"https://example.org/there\"' --set depth=1"
    )


def test_an_edited_letter_ends_stored_under_its_id(page: ActingPage) -> None:
    letter = page.letters()[0]
    edited = {**letter.message, "url": f"https://example.org/{letter.id}"}
    done = page.do("edit", letter=letter.id, stage="fetch", message=json.dumps(edited))
    stored = page.stages()["store"].ok
    page.run()

    assert done.json["said"] == "1 message put back to fetch, changed"
    assert page.stages()["store"].ok == stored + 1
    assert letter.id not in [each.id for each in page.letters()]
    assert page.do("edit", letter=letter.id, stage="fetch", message="{}").status == 409


@pytest.mark.parametrize(
    ("message", "path"), [('{"url": 7}', "url"), ('{"host": "a"}', "url"), ('{"url"', ""), ('{"url": "••••••"}', "url")]
)
def test_an_edit_that_does_not_fit_says_where_and_changes_nothing(page: ActingPage, message: str, path: str) -> None:
    letter = page.letters()[0]
    refused = page.do("edit", letter=letter.id, stage="fetch", message=message)

    assert refused.status == 422
    assert [error["path"] for error in refused.json["errors"]] == [path]
    assert len(page.letters()) == 3


def test_letters_are_removed_only_with_name_and_number(page: ActingPage) -> None:
    for confirm in ("", "lab", "3", "lab 2", "other 3"):
        assert page.do("remove", stage="fetch", expected="3", confirm=confirm).status == 422
    assert len(page.letters()) == 3

    assert page.do("remove", stage="fetch", dry_run=True).json["unlock"] == "lab 3"
    assert page.do("remove", stage="fetch", expected="3", confirm="lab 3").json["said"] == "3 dead letters removed"
    assert page.letters() == []


@pytest.mark.parametrize(
    "values",
    [
        {"stage": "nothing"},
        {"since": "soon"},
        {"where": '["(1+1)"]'},
        {"where": "url"},
        {"letter": "1-1"},
        {"letter": "../x", "stage": "fetch"},
        {"rate": "-1"},
        {"rate": "inf"},
        {"expected": "many"},
        {"unknown": "x"},
    ],
)
def test_an_invalid_selection_is_refused_with_a_reason(page: ActingPage, values: dict[str, str]) -> None:
    refused = page.do("retry", **values)

    assert refused.status == 422
    assert refused.json["error"]
    assert len(page.letters()) == 3


# Stages and keys


def test_a_stage_is_paused_and_resumed(page: ActingPage) -> None:
    assert page.do("pause", stage="store").json["said"] == "store is paused"
    assert page.do("pause", stage="store").json["said"] == "store was already paused"
    assert list(page.inspect(Inspector.paused)) == ["store"]
    assert page.do("resume", stage="store").json["said"] == "store is resumed"
    assert page.do("resume", stage="store").json["said"] == "store was not paused"


def test_a_stage_of_a_paused_pipeline_does_not_resume_alone(page: ActingPage) -> None:
    page.do("pause")

    assert page.do("resume", stage="store").json["said"] == "all of lab is still paused"
    assert page.do("resume").json["said"] == "all of lab is resumed"


def test_a_key_is_paused_and_released(page: ActingPage) -> None:
    assert page.do("pause-key", stage="fetch", key="example.org").status == 200
    shown = page.do("release", stage="fetch", key="example.org", dry_run=True).json
    assert shown["command"] == "flowq resume lab.fetch --key host=example.org"

    assert page.do("release", stage="fetch", key="example.org").json["said"] == "example.org in fetch is released"
    assert page.do("release", stage="fetch", key="example.org").json["said"].endswith("was not on hold")
    assert page.do("release", stage="store", key="x").status == 422


# Messages


def test_a_message_is_pushed_only_if_it_fits(page: ActingPage) -> None:
    assert page.do("push", stage="fetch", message='{"url": 1}').json["errors"][0]["path"] == "url"
    assert page.do("push", stage="fetch", message='{"url": "/a"}', dry_run=True).json["fits"] == "Link"
    assert page.stages()["fetch"].waiting == 0

    assert page.do("push", stage="fetch", message='{"url": "/pushed"}').json["said"].endswith("was pushed to fetch")
    assert page.stages()["fetch"].waiting == 1
    assert page.do("push", stage="seeds", message="{}").status == 422


def test_waiting_messages_are_purged_only_with_name_and_number(page: ActingPage) -> None:
    page.push("store", {"url": "/x"})
    assert page.do("purge", stage="store", expected="1").status == 422
    assert page.do("purge", stage="store", expected="2", confirm="lab 2").status == 409
    assert page.stages()["store"].waiting == 1

    assert page.do("purge", stage="store", dry_run=True).json["unlock"] == "lab 1"
    assert page.do("purge", stage="store", expected="1", confirm="lab 1").json["said"] == "1 removed from store"
    assert page.stages()["store"].waiting == 0
