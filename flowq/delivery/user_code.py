"""Which lines are the user's own: neither Python's, nor a library's, nor flowq's."""

from __future__ import annotations

import itertools
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType

from flowq.delivery.error_groups import leaves_of
from flowq.delivery.fingerprint import frames_in
from flowq.errors import Place

_INSTALLED = re.compile(r"(.*?[/\\](?:site|dist)-packages[/\\][^/\\]+)")
FLOWQ, _PYTHON = f"{Path(__file__).parent.parent}/", f"{Path(traceback.__file__).parent}/"
_COMPILED = (".pyx", ".pxi", ".pxd")
_PYTHON_ELSEWHERE = re.compile(r"[/\\]lib(?:64)?[/\\]python3\.\d+[/\\]|[/\\]python3\d+\.zip[/\\]")


def place_of_error(error: BaseException, root: str) -> Place | None:
    """The deepest line of the user's own code that an error passed through; None if it passed through none.

    For a group it is that of its first error. An error that was not raised in the user's code, such as one that a
    library has made of another, has the place of its cause. `root` is the folder of the project: files inside it are
    named relative to it.

    >>> def parse(text: str) -> int:
    ...     return int(text)
    >>> try:
    ...     parse("x")
    ... except ValueError as error:
    ...     place_of_error(error, "").line
    2
    """
    return _deepest(list(map(_lines_of, _chain(error))), root)


def place_of_lines(lines: Iterable[tuple[CodeType, int]], root: str) -> Place | None:
    """The deepest of the user's own lines in a call stack, the outermost first."""
    return _deepest([lines], root)


def _deepest(stacks: Iterable[Iterable[tuple[CodeType, int]]], root: str) -> Place | None:
    """The deepest of the user's own lines in the first stack that has one."""
    known = [
        [(code.co_filename, line) for code, line in lines if not code.co_filename.startswith(FLOWQ)] for lines in stacks
    ]
    # A pipeline may be installed as a package. Generated code is the user's only where nothing else is.
    packages = (found.group(1) for stack in known for file, _ in stack if (found := _INSTALLED.match(file)))
    package = next(packages, "")
    tests: tuple[Callable[[str], bool], ...] = (
        is_users,
        lambda file: bool(package) and file.startswith(package),
        lambda file: file.startswith("<") and not file.startswith("<frozen"),
        bool,
    )
    for is_own, stack in itertools.product(tests, known):
        for file, line in reversed(stack):
            if is_own(file):
                return Place(relative(file, root), line)
    return None


def is_users(file: str) -> bool:
    """Whether a file of Python code, as its code object names it, is the user's own. It need not exist any more.

    >>> is_users("/srv/shop/pipelines/shop.py"), is_users("/srv/shop/.venv/lib/python3.12/site-packages/httpx/_api.py")
    (True, False)
    >>> is_users("uvloop/loop.pyx")  # compiled: named as where it was built
    False
    """
    is_named = not file.startswith("<") or file.startswith("<ipython-input-")
    return (is_named and not file.endswith(_COMPILED)) and not (
        file.startswith((FLOWQ, _PYTHON)) or _INSTALLED.match(file) or _PYTHON_ELSEWHERE.search(file)
    )


def place_in_traceback(traceback: str) -> Place | None:
    """The deepest of the user's own lines in the text of a traceback, whichever machine it comes from.

    >>> text = '  File "shop.py", line 3, in fetch\\n  File "/usr/lib/python3.12/json/decoder.py", line 5, in decode'
    >>> str(place_in_traceback(text))
    'shop.py:3'
    """
    own = [frame for frame in frames_in(traceback) if is_users(frame.file)]
    return Place(own[-1].file, own[-1].line) if own else None


def relative(file: str, root: str) -> str:
    """A file as it is named inside a folder; unchanged if it is elsewhere.

    >>> relative("/srv/shop/pipelines/shop.py", "/srv/shop"), relative("/srv/shop2/a.py", "/srv/shop")
    ('pipelines/shop.py', '/srv/shop2/a.py')
    """
    return file.removeprefix(root.rstrip("/") + "/") if root else file


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The first error of a group and what it was raised from, then the group and what that was raised from."""
    seen: set[int] = set()
    for start in (next(leaves_of(error)), error):
        each: BaseException | None = start
        while each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def _lines_of(error: BaseException) -> Iterator[tuple[CodeType, int]]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame.f_code, trace.tb_lineno
        trace = trace.tb_next
