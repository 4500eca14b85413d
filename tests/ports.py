"""Ports for servers that start later, or again."""

from __future__ import annotations

import secrets
import socket

LOOPBACK = "127.0.0.1"
_FIRST, _LAST = 10_000, 32_767
"""The kernel gives none of these to a program that asks for any port, or that connects: it would be taken by then."""


def free_port() -> int:
    """A port on which nothing listens. Two workers of pytest have the same seed: that of `random` decides nothing."""
    while True:
        port = _FIRST + secrets.randbelow(_LAST - _FIRST + 1)
        with socket.socket() as listener:
            try:
                listener.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
