"""Quantities as people read them: durations, ages, sizes, speeds, and how something went over time."""

from __future__ import annotations

from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"


def brief(seconds: float) -> str:
    """A length of time in a few characters.

    >>> [brief(seconds) for seconds in (0.0004, 0.062, 3.21, 42, 125, 7500, 200_000)]
    ['0.4ms', '62ms', '3.2s', '42s', '2m05s', '2h05m', '2d07h']
    """
    if seconds < 0.9995:
        return f"{seconds * 1000:.1f}ms" if seconds < 0.00095 else f"{seconds * 1000:.0f}ms"
    if seconds < 59.5:
        return f"{seconds:.1f}s" if seconds < 9.95 else f"{seconds:.0f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours < 48 else f"{hours // 24}d{hours % 24:02}h"


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


def sparkline(values: Sequence[float], width: int) -> str:
    """The last `width` values as bars, the highest of them full.

    >>> sparkline([0, 1, 2, 4, 8], 4)
    '▂▃▅█'
    """
    shown = values[-width:]
    most = max(shown, default=0) or 1
    return "".join(_BARS[min(len(_BARS) - 1, int(value / most * len(_BARS)))] for value in shown)
