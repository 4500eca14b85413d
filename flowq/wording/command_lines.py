"""Commands as they would be typed: what the web page offers to copy, and what the audit says an action was about."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from flowq.dead_letters.letter import iso
from flowq.dead_letters.selection import Selection


def command_line(*words: str) -> str:
    r"""A command of flowq that a shell takes as these words, whatever is in them; empty ones are left out.

    >>> command_line("pause", "scrape", "--key", "host=it's")
    'flowq pause scrape --key \'host=it\'"\'"\'s\''
    """
    return typed(("flowq", *words))


def typed(words: Iterable[str]) -> str:
    """These words, quoted for a shell where they need it; empty ones are left out."""
    return " ".join(_quoted(word) for word in words if word)


def selection_words(selection: Selection, since: str = "") -> tuple[str, ...]:
    """The arguments of `flowq dlq` that select the same letters, the ids first.

    since: how far back, such as "2h"; without it the earliest time of death is written as it is.
    """
    options = {"--stage": selection.stage, "--error": selection.error}
    earliest = since or (iso(selection.since) if selection.since else "")
    where = [f"{each.path}{each.operator}{each.text}" for each in selection.where]
    pairs = [*((name, value) for name, value in options.items() if value), *(("--where", each) for each in where)]
    if earliest:
        pairs.append(("--since", earliest))
    if selection.limit is not None:
        pairs.append(("--limit", str(selection.limit)))
    return (*selection.ids, *(word for pair in pairs for word in pair))


def _quoted(word: str) -> str:
    """A word for a shell. Unprintable characters are escaped: pasted as they are, a terminal would act on them."""
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(map(_escaped, word)) + "'"


def _escaped(char: str) -> str:
    if char in "\\'":
        return "\\" + char
    return char if char.isprintable() else f"\\U{ord(char):08x}"
