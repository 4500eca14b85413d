"""Fixtures for the tests of the web page: a browser, and the page of the pipeline `lab`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dashboard.browser import chromium as chromium
from tests.dashboard.browser import open_window as open_window
from tests.dashboard.browser import page as page
from tests.dashboard.pipelines import LAB
from tests.dashboard.web_page import WebPage


@pytest.fixture(scope="module")
def dashboard() -> Iterator[WebPage]:
    """`flowq dashboard` on loopback, read-only, before anything has run."""
    with WebPage({"lab": LAB}) as served:
        yield served
