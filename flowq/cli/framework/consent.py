"""Asks a person before something is removed for good."""

from __future__ import annotations

import sys

from flowq.cli.framework.error_screen import note


def is_agreed(name: str, what: str, command: str) -> bool:
    """Whether a person types the pipeline's name. Off a terminal nobody can: `command` says how to do without."""
    if not sys.stdin.isatty():
        note(f"nothing was removed  ({command})")
        return False
    print(f"type {name} to remove {what} permanently: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != name:
        note("nothing was removed")
        return False
    return True
