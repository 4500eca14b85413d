"""What may differ between two runs of a page: numbers, times, ids, ports, and the order of concurrent lines."""

from __future__ import annotations

import re

_MASKS = [
    (re.compile(r"[▁-█]+"), "▁"),  # a trend
    (re.compile(r"[─━═]+"), "─"),  # rules are as wide as their columns
    (re.compile(r"\b(?!FQ\d{3}\b)[^\W_]*\d[^\W_]*"), "#"),  # numbers, durations, ids; not the codes of errors
    (re.compile(r"(?<=#:)[a-z]{8}\b"), "#"),  # the last part of a worker's name, without a digit by chance
    (re.compile(r"(?<=#-)[a-z]{1,4}\b"), "#"),  # the number of a message id, likewise
    (re.compile(r"#(?:[.,:/+-]+#)+"), "#"),
    (re.compile(r"# [kMG]?B\b"), "# B"),
    (re.compile(r"#/s\b"), "#"),
    (re.compile(r"(?<!\S)[-–](?!\S)"), "#"),  # no number yet
    (re.compile(r"\s+"), " "),
    (re.compile(r"(?<=attempt # of # )now\b"), "in #"),
]
# Which columns fit beside these depends on how wide the numbers are, and on what was slow enough to have a rate.
_ALWAYS_SHOWN = {"stage", "cause", "ok", "dead", "waiting", "delayed", "running"}
_CELLS = re.compile(r"(?:(?:# B|#|▁)(?: |$)){4,}")  # of a row of such a table
_PROGRESS = re.compile(r"# [a-z].* left #.* dead #")


def masked(output: str) -> list[str]:
    """The lines of an output with `#` for all that may differ, without the lines that only show progress."""
    lines = list[str]()
    for line in output.splitlines():
        for mask, instead in _MASKS:
            line = mask.sub(instead, line)
        if not _PROGRESS.match(line):
            lines.append(line.strip())
    has_stages = any(_are_titles_of_stages(line) for line in lines)
    return [_without_optional_columns(line) for line in lines] if has_stages else lines


def _are_titles_of_stages(line: str) -> bool:
    return set(line.split()) >= _ALWAYS_SHOWN


def _without_optional_columns(line: str) -> str:
    """A row of the table of stages, or its titles, as if only those columns were there that always are."""
    if _are_titles_of_stages(line):
        return " ".join(title for title in line.split() if title in _ALWAYS_SHOWN)
    return _CELLS.sub("# ", line).strip()


def same(shown: str, seen: str, *, exact: bool = False) -> bool:
    """Whether two outputs differ only where two runs may: stages run at once, so lines may also change places."""
    if exact:
        return sorted(shown.splitlines()) == sorted(seen.splitlines())
    return set(masked(shown)) == set(masked(seen))
