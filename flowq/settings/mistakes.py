"""What is said about a setting that is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from flowq.errors import UsageError


class SettingsError(UsageError):
    """A setting that does not exist, or a value that cannot be used."""

    code = "FQ202"


def nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The hint for a name that is not known: the one that was meant, or all there are."""
    known = list(known)
    near = get_close_matches(name.lower(), known, 1)
    return f'did you mean "{near[0]}"?' if near else otherwise or f"settings: {', '.join(known)}"
