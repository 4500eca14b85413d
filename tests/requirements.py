"""What a test needs of the machine: without it the test is skipped, or fails under FLOWQ_REQUIRE_ALL=1."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def unavailable(missing: str, remedy: str) -> NoReturn:
    """End the running test because this machine lacks something; name the remedy.

    With FLOWQ_REQUIRE_ALL=1 the test fails instead of being skipped: CI must not lose a claim in silence.
    """
    reason = f"{missing}; {remedy}"
    if os.environ.get("FLOWQ_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason} (FLOWQ_REQUIRE_ALL=1)", pytrace=False)
    pytest.skip(reason)
