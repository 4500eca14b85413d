"""How a program's messages are appended to the inlet of a stage."""

from __future__ import annotations
