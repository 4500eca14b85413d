"""`flowq run --reload`: watches the Python files of the project, checks new code, and has the workers restarted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import Collection, Sequence
from pathlib import Path

from watchfiles import awatch  # pyright: ignore[reportUnknownVariableType]  # it may take events of trio

from flowq.cli.run.code_check import shape_of
from flowq.cli.run.instructions import Instructions
from flowq.cli.run.run_watch import Watch
from flowq.cli.views.run_screen import Screen
from flowq.graph.compilation.plan import Plan
from flowq.runtime.process.supervisor import Supervisor

_PATIENCE_SECONDS = 2.0
_MOST_NAMES = 3
_FOREIGN = ("site-packages", "node_modules")


class Reloading:
    """Restarts the workers of a run whenever their code has changed.

    New code is imported by a process of its own first. What cannot be imported, or has other stages or edges than this
    run, leaves the workers as they are, and the next change is tried again.
    """

    def __init__(
        self, job: Instructions, plan: Plan, python: Sequence[str], workers: Supervisor, screen: Screen
    ) -> None:
        self._job = job
        self._shape = shape_of(plan)
        self._python = python
        self._workers = workers
        self._screen = screen

    async def until_the_end(self, watch: Watch) -> int:
        """Reload while the run lasts. Returns what the run does."""
        reloading = asyncio.create_task(self._reload_again_and_again())
        try:
            return await watch.until_the_end(self._workers)
        finally:
            reloading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reloading

    async def _reload_again_and_again(self) -> None:
        roots = {self._job.project, self._job.root}
        try:
            async for changes in awatch(*roots, watch_filter=lambda _, path: is_code(Path(path), roots)):
                await self._reload(_names({path for _, path in changes}))
        except OSError as error:  # such as the limit of inotify
            self._screen.note(f"changes of the code are not seen any more: {error}")

    async def _reload(self, what: str) -> None:
        if not await self._is_fit(what):
            return
        restarting = asyncio.create_task(self._workers.restart())
        await asyncio.wait([restarting], timeout=_PATIENCE_SECONDS)
        if not restarting.done():
            self._screen.note(f"{what} has changed: finishing running messages first")
        await restarting
        self._screen.note(f"reloaded {what}")

    async def _is_fit(self, what: str) -> bool:
        """Whether the code can take over this run; if not, says why."""
        checking = await asyncio.create_subprocess_exec(
            *self._python, "-m", "flowq.cli.run.code_check", stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        try:
            stdout, stderr = await checking.communicate(self._job.encode() + b"\n")
        finally:
            if checking.returncode is None:
                checking.kill()
        if checking.returncode:
            self._print(stderr.decode(errors="backslashreplace").splitlines())
            self._screen.note(f"{what} is not reloaded: the workers go on with the code they have")
            return False
        if json.loads(stdout.splitlines()[-1]) != self._shape:
            self._screen.note(f"{what} has other stages or edges: stop this run and start it again to use them")
            return False
        return True

    def _print(self, lines: Sequence[str]) -> None:
        if self._screen.print_lines is not None:
            self._screen.print_lines(lines)
        else:
            sys.stderr.write("".join(f"{line}\n" for line in lines))


def is_code(path: Path, roots: Collection[str]) -> bool:
    """Whether a changed file may be code of the project: not that of a virtual environment, nor a hidden file.

    >>> is_code(Path("/shop/pipelines/shop.py"), ["/shop"]), is_code(Path("/shop/.venv/lib/x.py"), ["/shop"])
    (True, False)
    """
    for root in roots:
        if path.is_relative_to(root):
            parts = path.relative_to(root).parts
            return path.suffix == ".py" and not any(part.startswith(".") or part in _FOREIGN for part in parts)
    return False


def _names(paths: Collection[str]) -> str:
    names = sorted({Path(path).name for path in paths})
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
