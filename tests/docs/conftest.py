"""Fixtures for the tests of the documentation: a browser."""

from __future__ import annotations

from tests.dashboard.browser import chromium as chromium
from tests.dashboard.browser import open_window as open_window
