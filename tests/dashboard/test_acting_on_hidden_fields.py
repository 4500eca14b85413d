"""A user who may act but not see a field can neither learn its value nor change it unseen."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from flowq.dashboard.access.shown_fields import MASK
from tests.dashboard.acting import ActingPage
from tests.dashboard.pipelines import LAB

SECRET_HOST = "hidden.example.org"


@pytest.fixture(scope="module")
def server() -> Iterator[ActingPage]:
    """Only the field url is shown."""
    with ActingPage({"lab": LAB}, "--allow-actions", "--hide-bodies", FLOWQ_DASHBOARD_SHOW="url") as served:
        yield served


@pytest.fixture
def page(server: ActingPage) -> ActingPage:
    server.clear()
    server.push("fetch", {"url": "/404", "host": SECRET_HOST})
    server.run()
    return server


def edit(page: ActingPage, message: object, *, dry_run: bool) -> str:
    (letter,) = page.letters()
    answer = page.do("edit", letter=letter.id, stage="fetch", message=json.dumps(message), dry_run=dry_run)
    assert SECRET_HOST not in answer.text
    return answer.text


def test_an_edit_keeps_what_is_masked(page: ActingPage) -> None:
    message = {"url": "/404?again=/404", "host": MASK, "depth": MASK}
    shown = json.loads(edit(page, message, dry_run=True))
    edit(page, message, dry_run=False)
    page.run()

    assert [change["path"] for change in shown["changes"]] == ["url"]
    (letter,) = page.letters()
    assert letter.message == {"url": "/404?again=/404", "host": SECRET_HOST, "depth": 0}


@pytest.mark.parametrize(
    "message",
    [
        {"url": MASK, "host": MASK},
        {"url": "/a", "host": [MASK]},
        {"url": "/a", "other": MASK},
        {"url": "/a", "host": 1},
    ],
)
def test_a_mask_elsewhere_or_a_bad_value_reveals_nothing(page: ActingPage, message: object) -> None:
    assert json.loads(edit(page, message, dry_run=True))["errors"]
    assert json.loads(edit(page, message, dry_run=False))["errors"]
    assert len(page.letters()) == 1


@pytest.mark.parametrize("where", [f"host={SECRET_HOST}", "host~h*", "depth>=0", "password=x"])
@pytest.mark.parametrize("action", ["retry", "remove"])
def test_letters_cannot_be_counted_by_a_field_that_is_not_shown(page: ActingPage, action: str, where: str) -> None:
    answer = page.do(action, where=json.dumps([where]), dry_run=True).json

    assert "is not shown here" in answer["error"]
    assert "n" not in answer
    assert page.do(action, where=json.dumps(["url=/404"]), dry_run=True).json["n"] == "1"


def test_the_page_of_a_letter_has_masks_in_its_editor(page: ActingPage) -> None:
    (letter,) = page.letters()
    text = page.get(f"/p/lab/dead/{letter.fingerprint}/{letter.id}").text

    assert SECRET_HOST not in text
    assert "/404" in text
    assert MASK in text
