"""Quantities as people read them: counts, sizes, durations, and trends."""

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


def compact(n: int) -> str:
    """A count for a small label, to three digits.

    >>> compact(950), compact(7_300), compact(12_600), compact(999_700), compact(1_200_000)
    ('950', '7.3k', '12.6k', '1M', '1.2M')
    """
    if n < 1000:
        return str(n)
    amount = n / 1000
    for unit in "kMGT":
        if amount < 999.5:
            return (f"{amount:.1f}".removesuffix(".0") if amount < 99.95 else f"{amount:.0f}") + unit
        amount /= 1000
    return f"{amount:.0f}P"


def rate_words(per_second: float) -> str:
    """
    >>> rate_words(1234.5), rate_words(3.21), rate_words(0)
    ('1,234/s', '3.2/s', '0/s')
    """
    return f"{per_second:,.0f}/s" if per_second >= 9.95 or not per_second else f"{per_second:.1f}/s"


def span_words(seconds: float) -> str:
    """How long something will take, in words: an estimate does not need minutes and seconds.

    >>> [span_words(seconds) for seconds in (0.4, 17.2, 85, 240, 3000, 7560, 200_000)]
    ['1 s', '17 s', '85 s', '4 min', '50 min', '2.1 h', '56 h']
    """
    if seconds < 89.5:
        return f"{max(1, round(seconds))} s"
    if seconds < 89.5 * 60:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    if hours < 9.95:
        return f"{hours:.1f} h".replace(".0 h", " h")
    return f"{hours:.0f} h" if hours < 71.5 else f"{hours / 24:,.0f} days"


def sparkline(values: Sequence[float], width: int) -> str:
    """The last `width` values as bars, the highest of them full.

    >>> sparkline([0, 1, 2, 4, 8], 4)
    '▂▃▅█'
    """
    shown = values[-width:]
    most = max(shown, default=0) or 1
    return "".join(_BARS[min(len(_BARS) - 1, int(value / most * len(_BARS)))] for value in shown)
