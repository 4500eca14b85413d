"""Asks the user before something is removed permanently."""

from __future__ import annotations

import sys

from flowq.cli.framework.error_screen import note


def is_agreed(name: str, what: str, command: str) -> bool:
    """Whether the user types the pipeline's name. Without a terminal, `command` tells how to confirm."""
    if not sys.stdin.isatty():
        note(f"nothing was removed  ({command})")
        return False
    print(f"type {name} to remove {what} permanently: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != name:
        note("nothing was removed")
        return False
    return True
