"""`flowq init`: `flowq new .` under a second name."""

from __future__ import annotations

from flowq.cli.commands import new


def command() -> None:
    """Set up this folder as a project.

    Writes the settings to pyproject.toml, which is created or appended to; settings that exist are left alone. The same
    as flowq new .

    Example:
      flowq init && flowq new news
    """
    new.command(".")
