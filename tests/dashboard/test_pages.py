"""Every page is served, complete, and what does not exist is not found."""

from __future__ import annotations

import pytest

from tests.dashboard.web_page import WebPage

PAGES = ["/", "/p/lab", "/p/lab/s/fetch", "/p/lab/dead", "/p/lab/trace", "/p/lab/trace/1-0", "/p/lab/workers"]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_served(dashboard: WebPage, path: str) -> None:
    answer = dashboard.get(path)

    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.text.rstrip().endswith("</html>")


@pytest.mark.parametrize("path", ["/p/nothing", "/p/lab/s/nothing", "/nothing", "/p", "/static/nothing", "/p/lab/x"])
def test_a_page_that_does_not_exist_is_not_found(dashboard: WebPage, path: str) -> None:
    assert dashboard.get(path).status == 404


def test_programs_can_read_what_status_prints(dashboard: WebPage) -> None:
    assert dashboard.get("/p/lab.json").json["pipeline"] == "lab"
