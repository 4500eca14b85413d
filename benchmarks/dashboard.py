"""The web page and its budget: `python -m benchmarks.dashboard [--seconds 20]`, on Linux.

Real workers run a pipeline of 50 stages with 100,000 dead letters, and twelve pipelines are watched. Times are those of
the processor, so that other programs on the machine count little; first paint is on the clock of the browser.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import orjson
import typer
from rich.console import Console
from rich.table import Table

import flowq
from benchmarks.processes import cpu_seconds, ending_with_this_process, peak_rss_mib
from benchmarks.server import Server

N_LETTERS, N_PAGES, N_PIPELINES = 100_000, 20, 12
LARGE, SMALL = "catalogue", "small0"
GROUPS = 10  # of a stage and the four that follow it
_ADDRESS = re.compile(r" at (http://\S+)")
_STATIC = Path(flowq.__file__).parent / "dashboard" / "static"
_START_SECONDS = 60.0
_PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? -1"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the budget: what was measured, and how much is allowed."""

    what: str
    measured: float | None
    at_most: float
    unit: str

    @property
    def is_kept(self) -> bool:
        return self.measured is not None and self.measured <= self.at_most


def main(
    seconds: Annotated[float, typer.Option(min=5, help="How long each load is measured.")] = 20.0,
) -> None:
    """Measure the web page, and print each figure beside its limit. Exits with 1 if one is above it."""
    with Server() as redis, project(redis) as folder, ExitStack() as stack:
        fill(redis)
        stack.enter_context(started(folder, "run", LARGE, "--forever", "-w", "1", says="runs until stopped"))
        figures = [*of_files(), *of_one_server(redis, folder, seconds), *of_all_pipelines(folder, seconds)]
    table = Table(box=None, header_style="dim")
    for title in ("figure", "measured", "at most", ""):
        table.add_column(title, justify="left" if title == "figure" else "right")
    for figure in figures:
        measured = "N/A" if figure.measured is None else f"{figure.measured:,.1f} {figure.unit}"
        table.add_row(figure.what, measured, f"{figure.at_most:g} {figure.unit}", "✓" if figure.is_kept else "✗")
    Console().print(table)
    raise typer.Exit(any(not figure.is_kept and figure.measured is not None for figure in figures))


# What is measured


def of_files() -> Iterator[Figure]:
    """The sizes of what every page loads."""
    for suffix, at_most in ((".css", 12), (".js", 8)):
        files = [path.read_bytes() for path in sorted(_STATIC.rglob(f"*{suffix}"))]
        yield Figure(f"{suffix[1:].upper()}, packed", sum(map(packed, files)) / 1000, at_most, "kB")


def of_one_server(redis: Server, folder: Path, seconds: float) -> Iterator[Figure]:
    """Pages and patches of a small and a large pipeline, what a look costs, and what 20 pages cost Redis."""
    with (
        started(folder, "run", SMALL, "--forever", "-w", "1", says="runs until stopped"),
        started(folder, "dashboard", LARGE, SMALL, "--listen", "0", says=" at http") as page,
    ):
        for name, n, most_kb, patch_kb in ((SMALL, 4, 15, 2), (LARGE, 50, 40, 12)):
            asyncio.run(seen(page.url, name, n_pages=1, seconds=3))
            text = fetched(f"{page.url}/p/{name}")
            yield Figure(f"page, {n} stages, packed", packed(text) / 1000, most_kb, "kB")
            patches = asyncio.run(seen(page.url, name, n_pages=1, seconds=seconds))
            mean = statistics.fmean(map(len, patches)) if patches else 0.0
            yield Figure(f"patch, {n} stages, not packed", mean / 1000, patch_kb, "kB")
        yield Figure("first paint, 4 stages", first_paint_ms(f"{page.url}/p/{SMALL}"), 300, "ms")
        yield Figure("first paint, 50 stages", first_paint_ms(f"{page.url}/p/{LARGE}"), 300, "ms")
    time.sleep(1)
    without = share_of(lambda: redis.cpu_seconds, lambda: time.sleep(seconds))
    with started(folder, "dashboard", LARGE, "--listen", "0", says=" at http") as page:
        while f" of {N_LETTERS:,}".encode() in fetched(f"{page.url}/p/{LARGE}/dead"):
            asyncio.run(seen(page.url, LARGE, n_pages=1, seconds=2))  # until all dead letters have been read once
        patches: list[bytes] = []

        def one() -> None:
            patches.extend(asyncio.run(seen(page.url, LARGE, n_pages=1, seconds=seconds)))

        spent = share_of(lambda: cpu_seconds(page.pid), one) * seconds
        yield Figure("server, for a look at 50 stages", 1000 * spent / max(1, len(patches)), 3, "ms")
        many = share_of(
            lambda: redis.cpu_seconds, lambda: asyncio.run(seen(page.url, LARGE, n_pages=N_PAGES, seconds=seconds))
        )
        share = 100 * max(0.0, many - without)
        yield Figure(f"Redis, for {N_PAGES} pages of 50 stages and {N_LETTERS:,} dead letters", share, 3, "% of a core")


def of_all_pipelines(folder: Path, seconds: float) -> Iterator[Figure]:
    """The memory of a server that watches many pipelines, with a page open on each of them."""
    with started(folder, "dashboard", "--listen", "0", says=" at http") as page:

        async def all_seen() -> None:
            names = [LARGE, *(f"small{n}" for n in range(N_PIPELINES - 1))]
            await asyncio.gather(*(seen(page.url, name, n_pages=1, seconds=seconds) for name in names))

        asyncio.run(all_seen())
        yield Figure(f"memory, {N_PIPELINES} pipelines", peak_rss_mib(page.pid) * 1.048576, 100, "MB")


# How


def packed(content: bytes) -> int:
    return len(gzip.compress(content, 6))


def share_of(spent: Callable[[], float], doing: Callable[[], None]) -> float:
    """The share of a core that was spent meanwhile."""
    began, before = time.monotonic(), spent()
    doing()
    return (spent() - before) / (time.monotonic() - began)


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        content: bytes = answer.read()
        return content


async def seen(url: str, name: str, *, n_pages: int, seconds: float) -> list[bytes]:
    """Have pages open for some time; the data of all patches that the first of them gets."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_patches(url, name, seconds)) for _ in range(n_pages)]
    return tasks[0].result()


async def _patches(url: str, name: str, seconds: float) -> list[bytes]:
    found: list[bytes] = []
    async with _stream(url, f"/p/{name}/events") as reader:
        kind = b""
        try:
            async with asyncio.timeout(seconds):
                while line := await reader.readline():
                    if line.startswith(b"event:"):
                        kind = line[6:].strip()
                    elif line.startswith(b"data:") and kind == b"patch":
                        found.append(line[5:].strip())
        except TimeoutError:
            pass
    return found


@asynccontextmanager
async def _stream(url: str, path: str) -> AsyncIterator[asyncio.StreamReader]:
    host = urlsplit(url).netloc
    reader, writer = await asyncio.open_connection(*host.split(":"), limit=2**22)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n".encode())
        yield reader
    finally:
        writer.close()


def first_paint_ms(url: str) -> float | None:
    """The median of three; None without a browser."""
    executable = shutil.which("chromium")
    if executable is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(url)  # once before, so that the server has compiled its templates
        times: list[float] = []
        for _ in range(3):
            page.goto(url)
            page.wait_for_function(f"({_PAINTED}) > 0")
            times.append(float(page.evaluate(_PAINTED)))
        browser.close()
    return statistics.median(times)


@dataclass(frozen=True, slots=True)
class Started:
    """A flowq that runs."""

    pid: int
    url: str


@contextmanager
def started(folder: Path, *arguments: str, says: str) -> Iterator[Started]:
    """Run flowq in a project until the end of the block, which begins when it has said something."""
    log = folder / f"{arguments[0]}-{arguments[1]}.log"
    with log.open("wb") as out:
        command = [*ending_with_this_process(), sys.executable, "-m", "flowq", *arguments]
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while says not in (text := log.read_text()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"flowq {' '.join(arguments)} did not start: {text}")
            time.sleep(0.05)
        found = _ADDRESS.search(text)
        yield Started(process.pid, found[1] if found else "")
    finally:
        process.terminate()
        process.wait()


@contextmanager
def project(redis: Server) -> Iterator[Path]:
    """A folder with a pipeline of 50 stages and eleven small ones."""
    with tempfile.TemporaryDirectory(prefix="flowq-bench-page-") as name:
        folder = Path(name)
        (folder / "pyproject.toml").write_text(f'[tool.flowq]\nredis = "{redis.url}"\n')
        (folder / "pipelines").mkdir()
        (folder / "pipelines" / f"{LARGE}.py").write_text(code_of(LARGE, GROUPS))
        for n in range(N_PIPELINES - 1):
            (folder / "pipelines" / f"small{n}.py").write_text(code_of(f"small{n}", 0))
        yield folder


def code_of(name: str, groups: int) -> str:
    """A pipeline fed twenty times a second: of groups of stages, fifty with the source; or of three stages."""
    if not groups:
        shape = "numbers >> fetch >> parse >> store"
        stages = [_STAGE.format(name=each, accepts="int", emits="int", returns="n") for each in ("fetch", "parse")]
        stages.append(_STAGE.format(name="store", accepts="int", emits="None", returns="None"))
        return f"{_HEAD}{''.join(stages)}\n{name} = Pipeline({name!r}, {shape})\n"
    stages, shape = list[str](), "numbers"
    for group in range(groups):
        is_last = group == groups - 1
        kinds = "ABC" if is_last else "ABCD"
        emits, returns = " | ".join(kinds), f"({', '.join(kinds)})[n % {len(kinds)}](n=n)"
        stages.append(_STAGE.format(name=f"split{group}", accepts="int", emits=emits, returns=returns))
        end = ("None", "None") if is_last else ("int", "n.n")
        stages += [
            _STAGE.format(name=f"{kind.lower()}{group}", accepts=kind, emits=end[0], returns=end[1]) for kind in kinds
        ]
        shape += f" >> split{group} >> ({' | '.join(f'{kind.lower()}{group}' for kind in kinds)})"
    return f"{_HEAD}{''.join(stages)}\n{name} = Pipeline({name!r}, {shape})\n"


_HEAD = """
import asyncio, itertools
from collections.abc import AsyncIterator
from pydantic import BaseModel
from flowq import Pipeline, source, stage

class A(BaseModel):
    n: int

class B(A): ...
class C(A): ...
class D(A): ...

@source
async def numbers() -> AsyncIterator[int]:
    for n in itertools.count():
        yield n
        await asyncio.sleep(0.05)
"""
_STAGE = """
@stage(concurrency=4)
async def {name}(n: {accepts}) -> {emits}:
    await asyncio.sleep(0.002)
    return {returns}
"""


def fill(redis: Server) -> None:
    """Put dead letters of some kinds into a stage of the large pipeline."""
    pipe = redis.client.pipeline(transaction=False)
    for n in range(N_LETTERS):
        info = {"reason": "failed", "error": f"ValueError: bad price in field {n % 40}", "died_at": 1.7e9 + n / 50}
        header = f"m{n} r{n} r{n} 1"
        fields = {"h": header, "b": b'{"n": 1}', "e": "numbers>split0", "x": orjson.dumps(info)}
        pipe.xadd(f"flowq:{{{LARGE}}}:dead:split0", fields)
        if n % 5000 == 4999:
            pipe.execute()


if __name__ == "__main__":
    typer.run(main)
