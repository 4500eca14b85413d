"""Turns everything that can go wrong into one screen on stderr and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import textwrap
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from traceback import FrameSummary
from typing import TYPE_CHECKING, Any

from typer.exceptions import TyperException

from flowq.cli.framework.invocation import as_typed
from flowq.delivery.user_code import FLOWQ, is_users
from flowq.errors import FlowqError, PipelineError, Place, Problem, UsageError
from flowq.printable import error_text, printable_block

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_MOST_FRAMES = 5
_MOST_MESSAGE_LINES = 8
_WIDEST = 110
_STYLES = {"error": "bold red", "warning": "bold yellow"}


class UserCodeFailed(UsageError):
    """The user's code raised an exception while it was imported. The cause is that exception."""

    code = "FQ203"


def report(error: BaseException, *, debug: bool = False) -> int:
    """Show an exception; returns the exit code that it stands for."""
    if debug:
        sys.stderr.write(_clean("".join(traceback.format_exception(error))) + "\n")
    if isinstance(error, KeyboardInterrupt):
        return 130
    for problem in problems_of(error, hint="" if debug else "--debug shows the whole traceback"):
        show(problem)
    return error.exit_code if isinstance(error, FlowqError | TyperException) else 1


def problems_of(error: BaseException, *, hint: str = "") -> tuple[Problem, ...]:
    """What an exception says, as findings. `hint` is for exceptions that have none of their own."""
    match error:
        case PipelineError():
            return error.problems
        case UserCodeFailed():
            return (Problem(error.code, error.message, None, tuple(explain(error.__cause__ or error)), error.hint),)
        case FlowqError():
            problem = error.problem()
            return (replace(problem, details=(*problem.details, *_in_user_code(error.__cause__))),)
        case TyperException():
            ctx: Any = getattr(error, "ctx", None)
            usage = tuple(ctx.get_usage().splitlines()) if ctx else ()
            help_command = f"{ctx.command_path} --help" if ctx else "flowq --help"
            if getattr(error, "option_name", "") == "-C":
                help_command = f"before the command:  flowq -C FOLDER {ctx.info_name}"
            return (Problem(UsageError.code, error.format_message(), None, usage, help_command),)
        case _:
            return (Problem(FlowqError.code, "unexpected error", None, tuple(explain(error)), hint),)


def _in_user_code(cause: BaseException | None) -> Iterator[str]:
    """The frames of the user's code in which an error of ours has its cause, if it has one there."""
    if cause and any(is_users(frame.filename) for frame in traceback.extract_tb(cause.__traceback__)):
        yield from explain(cause)


def summary(error: FlowqError) -> str:
    """An error in one line, for a table."""
    if isinstance(error, UserCodeFailed) and error.__cause__:
        return _clean(_message_lines(error.__cause__)[0])
    first, *more = problems_of(error)
    return _clean(first.text) + (f" (and {len(more)} more)" if more else "")


def show(problem: Problem) -> None:
    """Print one finding: code and text, where it is, details, and what to do about it."""
    screen = _Screen()
    head = f"{problem.severity}[{problem.code}]: "
    text = _clean(as_typed(problem.text))
    aside = _clean(str(problem.place or ""))
    hint = _clean(as_typed(problem.hint))
    if hint and not problem.place and not problem.details and screen.fits(head, text, hint):
        aside, hint = hint, ""
    screen.head(head, _STYLES[problem.severity], text, aside)
    for line in "\n".join(problem.details).splitlines():
        screen.line(_clean(line))
    if hint:
        screen.line(f"hint: {hint}", style="green")


def note(text: str) -> None:
    """Print a line that is no data on stderr."""
    _Screen().line(_clean(as_typed(text)), indent="")


def explain(error: BaseException) -> Iterator[str]:
    """The frames of the user's code that led to an exception, with their lines, and the exception."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if is_users(frame.filename)]
    if len(theirs) > _MOST_FRAMES:
        theirs = theirs[:1] + theirs[1 - _MOST_FRAMES :]
    for frame in theirs or ([] if isinstance(error, SyntaxError) else frames[-1:]):
        yield f"{_place(frame)} in {frame.name}"
        yield from _source_line(frame.lineno, frame.line)
    if isinstance(error, SyntaxError) and error.filename:
        yield str(Place(shown(error.filename), error.lineno or 0))
        yield from _source_line(error.lineno, error.text, error.offset)
    elif theirs:
        below = frames[frames.index(theirs[-1]) + 1 :]
        of_libraries = [frame for frame in below if not frame.filename.startswith((FLOWQ, "<"))]
        for frame in of_libraries[-1:]:
            yield f"  ... {_place(frame)} in {frame.name}"
    lines = _message_lines(error)
    yield from lines[:_MOST_MESSAGE_LINES]
    if len(lines) > _MOST_MESSAGE_LINES:
        yield "..."


def _message_lines(error: BaseException) -> list[str]:
    message = error.msg if isinstance(error, SyntaxError) else error_text(error)
    return f"{type(error).__name__}: {message}".rstrip(": ").splitlines()


def _source_line(number: int | None, line: str | None, column: int | None = None) -> Iterator[str]:
    if not line or not line.strip():
        return
    yield f"  {number} │ {line.strip()}"
    if column:
        at = len(str(number)) + 5 + max(0, column - 1 - (len(line) - len(line.lstrip())))
        yield f"{' ' * (len(str(number)) + 3)}│{' ' * (at - len(str(number)) - 4)}^"


def _place(frame: FrameSummary) -> str:
    return str(Place(shown(frame.filename), frame.lineno or 0))


def shown(file: Path | str) -> str:
    """A path as a person in the current directory would write it."""
    path = Path(file)
    with contextlib.suppress(OSError, ValueError):  # elsewhere, or the current directory is gone
        return str(path.relative_to(Path.cwd()))
    return str(path)


def redacted(text: str) -> str:
    """Text without the login of any URL in it."""
    if "://" not in text:  # few texts have one, and only those need the import
        return text
    from flowq.broker.client.redis_url import redact_text

    return redact_text(text)


def _clean(text: str) -> str:
    """Text that is safe on a terminal: no escape sequences, no password of a URL."""
    return redacted(printable_block(text))


class _Screen:
    """Lines on stderr: styled and wrapped on a terminal, plain and whole elsewhere."""

    def __init__(self) -> None:
        # Rich is slow to import, and most commands print nothing on stderr.
        self._console: Console = importlib.import_module("rich.console").Console(stderr=True, highlight=False)
        self._text: type[Text] = importlib.import_module("rich.text").Text
        known = self._console.is_terminal or "COLUMNS" in os.environ
        self._width = min(self._console.width, _WIDEST) if known else None

    def fits(self, *parts: str) -> bool:
        """Whether these fit into one line, with a gap before the last."""
        return self._width is None or sum(map(len, parts)) + 4 <= self._width

    def head(self, head: str, style: str, text: str, aside: str) -> None:
        """The first line, with something at its right edge, or below it if there is no room."""
        fits = self.fits(head, text, aside)
        first, *rest = self._wrapped(head + text, "", "  ")
        line = self._text.assemble((head, style), (first[len(head) :], "bold"))
        if aside and fits:
            gap = 4 if self._width is None else self._width - len(head + text + aside)
            line.append(" " * gap).append(aside, style="cyan")
        self._print(line)
        for further in rest:
            self._print(self._text(further, style="bold"))
        if aside and not fits:
            self.line(aside, style="cyan")

    def line(self, text: str, *, indent: str = "  ", style: str = "") -> None:
        """One line below, wrapped with its indent."""
        for line in self._wrapped(text, indent, indent + "  "):
            self._print(self._text(line, style=style))

    def _wrapped(self, text: str, indent: str, further: str) -> list[str]:
        if self._width is None:
            return [indent + text]
        lines = textwrap.wrap(
            text, self._width, initial_indent=indent, subsequent_indent=further, break_on_hyphens=False
        )
        return lines or [""]

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)
