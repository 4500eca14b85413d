"""Commands to copy into a shell: whatever their words contain, pasting them does only what they say."""

from __future__ import annotations

import shlex

from flowq.dead_letters.letter import iso
from flowq.dead_letters.selection import Selection


def shell_command(*words: str) -> str:
    r"""A command line for bash and zsh.

    A word with characters that do not print is written with escapes: a terminal would act on the characters themselves.

    >>> print(shell_command("flowq", "dlq", "retry", "scrape", "--error", "*HTTP 503*"))
    flowq dlq retry scrape --error '*HTTP 503*'
    >>> print(shell_command("flowq", "resume", "scrape", "--key", "host=a\x1b[2J\n'b'"))
    flowq resume scrape --key $'host=a\x1b[2J\n\'b\''
    """
    return " ".join(shlex.quote(word) if word.isprintable() else _escaped(word) for word in words)


def selection_words(selection: Selection, since: str = "") -> tuple[str, ...]:
    """The arguments of `flowq dlq` that select the same letters, the ids first.

    since: how far back, such as "2h"; without it, the earliest time of death is written as it is.
    """
    earliest = since or (iso(selection.since) if selection.since else "")
    limit = "" if selection.limit is None else str(selection.limit)
    options = [("--stage", selection.stage), ("--error", selection.error), ("--since", earliest)]
    options += [("--where", f"{each.path}{each.operator}{each.text}") for each in selection.where]
    options.append(("--limit", limit))
    return (*selection.ids, *(word for flag, value in options if value for word in (flag, value)))


def _escaped(word: str) -> str:
    quoted = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(char if char.isprintable() else _escape(char) for char in quoted) + "'"


def _escape(char: str) -> str:
    is_raw_byte = "\udc80" <= char <= "\udcff"
    encoded = char.encode("utf-8", "surrogateescape" if is_raw_byte else "surrogatepass")
    return "\\n" if char == "\n" else "".join(f"\\x{byte:02x}" for byte in encoded)
