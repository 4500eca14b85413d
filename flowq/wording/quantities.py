"""Quantities as people read them: counts, sizes, and how something went over time."""

from __future__ import annotations

from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"


def size(n_bytes: int) -> str:
    """
    >>> size(0), size(950), size(417_000), size(2_500_000)
    ('0 B', '950 B', '417 kB', '2.5 MB')
    """
    amount = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return f"{amount:.1f} {unit}" if unit != "B" and amount < 9.95 else f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def counted(n: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "message"), counted(12_000, "message")
    ('1 message', '12,000 messages')
    """
    return f"{n:,} {noun}{'s' * (n != 1)}"


def sparkline(values: Sequence[float], width: int) -> str:
    """The last `width` values as bars, the highest of them full.

    >>> sparkline([0, 1, 2, 4, 8], 4)
    '▂▃▅█'
    """
    shown = values[-width:]
    most = max(shown, default=0) or 1
    return "".join(_BARS[min(len(_BARS) - 1, int(value / most * len(_BARS)))] for value in shown)
