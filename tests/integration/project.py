"""A user's project in its own folder, and the real command line run in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

# Variables that would change what the command line does or how its screens look.
_NOT_INHERITED = ("FLOWQ_", "REDIS_URL", "COLUMNS", "NO_COLOR", "FORCE_COLOR", "PYTHON")
_LONGEST_SECONDS = 120

SCRAPE = """
    from __future__ import annotations

    from collections.abc import Iterator

    from pydantic import BaseModel

    from flowq import Pipeline, source, stage


    class Link(BaseModel):
        url: str
        depth: int = 0


    class Page(BaseModel):
        url: str
        html: str


    class Doc(BaseModel):
        url: str
        title: str


    @source
    def seeds(url: str) -> Iterator[Link]:
        yield Link(url=url)


    @stage(dedup="url", maxsize=2500)
    def fetch(link: Link) -> Page:
        return Page(url=link.url, html="")


    @stage
    def parse(page: Page) -> Iterator[Doc | Link]:
        yield Doc(url=page.url, title="")


    @stage
    def store(item: Doc | Page) -> None: ...


    scrape = Pipeline("scrape", seeds >> fetch >> parse >> (store | fetch))
"""


def own_redis(folder: Path) -> str:
    """The URL of the Redis that flowq runs for a folder itself."""
    password = (folder / ".flowq" / "redis.password").read_text().strip()
    return f"unix://:{password}@{folder}/.flowq/redis.sock"


class Project:
    """A folder with pipelines in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, path: str, text: str) -> Path:
        """Write a file of the project; the text may be indented."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text).lstrip("\n"))
        return file

    def flowq(
        self, *arguments: str, stdin: str = "", environ: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command line to its end."""
        with self.started(*arguments, environ=environ) as process:
            stdout, stderr = process.communicate(stdin, timeout=_LONGEST_SECONDS)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    @contextmanager
    def started(self, *arguments: str, environ: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
        """Start a command line with pipes for all three streams; it is gone when the block ends."""
        with subprocess.Popen(
            [sys.executable, "-m", "flowq", *arguments],
            cwd=self.folder,
            env=clean_environ() | (environ or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


def clean_environ() -> dict[str, str]:
    """The environment of this process without what flowq, Python and terminals are set up with."""
    return {name: text for name, text in os.environ.items() if not name.startswith(_NOT_INHERITED)}
