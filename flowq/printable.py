"""Makes untrusted text safe to show: unprintable characters are escaped, and nothing can move the cursor.

Screens, logs, errors, drawings and metrics all use it.
"""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from typing import Any

import orjson


def printable(text: str) -> str:
    r"""Text on one line, with every unprintable character escaped.

    These are control characters, invisible ones such as those that reverse the writing direction, and lone surrogates.

    >>> print(printable("a\x1b[2Jb\n"))
    a\x1b[2Jb\n
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def printable_lines(text: str) -> list[str]:
    """The lines of a text, each made printable, with tabs expanded to spaces."""
    return [printable(line) for line in text.expandtabs(4).splitlines()]


def printable_block(text: str) -> str:
    """The same as one text, its line breaks kept."""
    return "\n".join(printable(line) for line in text.expandtabs(4).split("\n"))


def error_text(error: BaseException) -> str:
    """The text of an exception, even if its `__str__` fails."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001  (the user's __str__)
        return "its __str__ fails"


def error_repr(error: BaseException) -> str:
    """The repr of an exception, even if its `__repr__` fails."""
    try:
        return repr(error)
    except Exception:  # noqa: BLE001  (the user's __repr__)
        return f"{type(error).__name__} ({error_text(error)})"


def json_text(value: Any, *, indent: bool = False) -> str:
    r"""Equivalent JSON without raw control characters, safe to print to a terminal.

    >>> json_text({"title": "\x9b2J"})
    '{"title":"\\u009b2J"}'
    """
    option = orjson.OPT_INDENT_2 if indent else 0
    try:
        text = orjson.dumps(value, option=option)
    except TypeError:  # a file name that is not UTF-8
        text = orjson.dumps(spelled_out(value), option=option)
    return printable_json(text.decode())


def is_unicode(text: str) -> bool:
    """Whether text from the command line or the file system was UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def spelled_out(value: Any) -> Any:
    r"""The same value with lone surrogates escaped, as in file names that are not UTF-8.

    >>> print(spelled_out({"file": "B\udcfccher"})["file"])
    B\udcfccher
    """
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            members: dict[Any, Any] = value  # pyright: ignore[reportUnknownVariableType]
            return {spelled_out(name): spelled_out(member) for name, member in members.items()}
        case list() | tuple():
            items: list[Any] = list(value)  # pyright: ignore[reportUnknownArgumentType]
            return [spelled_out(item) for item in items]
        case _ if is_dataclass(value) and not isinstance(value, type):
            return spelled_out(asdict(value))
        case _:
            return value


def printable_json(text: str) -> str:
    """The same for text that is already JSON; its line breaks are kept."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else _json_escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
