"""Fixtures for the tests of the web page."""

from __future__ import annotations

from tests.dashboard.browser import chromium as chromium
from tests.dashboard.browser import open_window as open_window
from tests.dashboard.browser import page as page
