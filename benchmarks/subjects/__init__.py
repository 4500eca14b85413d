"""The programs that are measured: flowq and the two baselines.

Each module has the same four functions: `work` (what a worker process does), `publish`, `sender` and `outstanding`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def subject(name: str) -> Any:
    """The module of a subject: "flowq", "loop" or "limit"."""
    return import_module(f"{__name__}.{name}")
