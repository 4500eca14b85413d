"""How many seeds the explorations of the test suite try: few by default, more with FLOWQ_SEEDS."""

from __future__ import annotations

import os

SEEDS = int(os.environ.get("FLOWQ_SEEDS", "10"))
