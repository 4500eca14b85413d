"""Places in the user's code: of a line, and of an error."""

from __future__ import annotations

import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from flowq.delivery.error_groups import leaves_of
from flowq.delivery.fingerprint import frames_in
from flowq.errors import Place

_FLOWQ = str(Path(__file__).parents[1]) + "/"
_STANDARD_LIBRARY = tuple({f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib")})
_INSTALLED = ("/site-packages/", "/dist-packages/")

_Line = tuple[str, int]


class TracebackInProcess(Exception):
    """The traceback of an error in another process: it cannot be pickled, its text can."""


def place_at(file: str, line: int) -> Place:
    """A place. Its file is relative to the current directory if it is inside."""
    try:
        return Place(str(Path(file).relative_to(Path.cwd())), line)
    except (ValueError, OSError):
        return Place(file, line)


def place_of_error(error: BaseException) -> Place | None:
    """The deepest line of the user's own code that an error passed through; of a group, that of its first error.

    The user's own code is what is neither flowq, nor Python, nor an installed package. If the handler itself is
    installed as a package, that package is the user's own. None for an error that passed through no such line.
    """
    error = next(leaves_of(error))
    lines = _lines_of(error.__traceback__)
    if not lines and isinstance(error.__cause__, TracebackInProcess):
        lines = [(frame.file, frame.line) for frame in frames_in(str(error.__cause__))]
    installed = next((package for file, _ in lines if (package := _package_of(file))), None)
    own = [line for line in lines if _is_own(line[0])]
    own = own or [line for line in lines if installed and line[0].startswith(installed)]
    return place_at(*own[-1]) if own else None


def is_users_own(file: str) -> bool:
    """Whether code in this file is neither flowq, nor Python, nor an installed package."""
    return not file.startswith(_FLOWQ) and _is_own(file)


def _lines_of(trace: TracebackType | None) -> Sequence[_Line]:
    lines: list[_Line] = []
    while trace is not None:
        if not (file := trace.tb_frame.f_code.co_filename).startswith(_FLOWQ):
            lines.append((file, trace.tb_lineno))
        trace = trace.tb_next
    return lines


def _is_own(file: str) -> bool:
    is_made_up = file.startswith("<") and not file.startswith(("<stdin>", "<ipython"))
    return not (is_made_up or _package_of(file) or file.startswith(_STANDARD_LIBRARY))


def _package_of(file: str) -> str:
    """The folder or file of the installed package that a file belongs to; "" for any other file."""
    for folder in _INSTALLED:
        before, found, inside = file.rpartition(folder)
        if found:
            return f"{before}{found}{inside.partition('/')[0]}"
    return ""
