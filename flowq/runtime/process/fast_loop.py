"""The event loop of the processes of `flowq run`."""

from __future__ import annotations

from typing import Any


def fast_loop_factory() -> Any:
    """uvloop's event loop where there is one, else None for asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
