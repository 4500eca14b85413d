"""Crawls a real site with all faults enabled, and compares the stored rows with the oracle."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

from examples.scraping.faults import ALL
from examples.scraping.oracle import Expected, expected
from examples.scraping.server import serve
from examples.scraping.sites import Site, SiteUnavailable, site
from flowq.cli.framework.invocation import COMMAND

PROJECT = Path(__file__).resolve().parents[2]
DEMO = PROJECT / ".demo"  # a project with its own Redis and database; recreated each time
SETTINGS = '[tool.flowq]\nredis = "embedded"\n'
SERVER = "FLOWQ_REDIS_SERVER"
STOPPED = 130  # by Ctrl-C
DEAD_LETTERS = 3  # exit code of `flowq run` when it is done and there are dead letters


def main() -> int:
    """Run the demo; 0 when every row and every link is as expected."""
    try:
        pages = _small_site()
    except SiteUnavailable as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _prepare()
    with serve(pages, faults=ALL, retry_after=1) as server:
        print(f"demo: {pages.name} documentation at {server.url}, faults {', '.join(ALL)}, Retry-After 1 s")
        exit_code = _run(server.url)
        outcome = expected(pages, url=server.url, faults=ALL)
    if exit_code == STOPPED:
        return exit_code
    if exit_code not in (0, DEAD_LETTERS if outcome.dead else 0):
        print(f"demo: flowq run failed with exit code {exit_code}", file=sys.stderr)
        return exit_code
    return _compare(outcome)


def _small_site() -> Site:
    """The smallest site if its package is available, else the one that needs only pip."""
    with contextlib.suppress(SiteUnavailable):
        return site("sphinx")
    return site("sqlalchemy")


def _prepare() -> None:
    shutil.rmtree(DEMO, ignore_errors=True)
    (DEMO / "pipelines").mkdir(parents=True)
    (DEMO / ".gitignore").write_text("*\n")
    shutil.copy(PROJECT / "pipelines" / "scrape.py", DEMO / "pipelines")
    (DEMO / "pyproject.toml").write_text(SETTINGS)


def _run(url: str) -> int:
    """Run what a user would type, on this terminal, with no user settings except the path of redis-server.

    The commands in hints work where the demo was started: with -C, and with the path of flowq if PATH lacks it.
    """
    settings = [name for name in os.environ if name.startswith(("FLOWQ_", "SCRAPE_", "REDIS_"))]
    ours = {name: value for name, value in os.environ.items() if name not in settings or name == SERVER}
    with subprocess.Popen(
        [sys.executable, "-m", "flowq", "-C", _as_typed(DEMO), "run", "scrape", "-a", f"url={url}"],
        env=ours | {"PYTHONPATH": str(PROJECT), COMMAND: _flowq()},
    ) as run:
        while True:
            try:
                return run.wait()
            except KeyboardInterrupt:
                continue  # the run has received it too, and is finishing its work


def _flowq() -> str:
    script, on_path = Path(sys.executable).with_name("flowq"), shutil.which("flowq")
    if not script.exists() or (on_path and script.samefile(on_path)):
        return "flowq"
    return shlex.quote(_as_typed(script))


def _as_typed(path: Path) -> str:
    """A path for the shell that has started this, which is elsewhere after `make -C`: make then says where it is."""
    is_elsewhere = "w" in os.environ.get("MAKEFLAGS", "").partition(" ")[0]
    return str(path) if is_elsewhere else os.path.relpath(path)


def _compare(outcome: Expected) -> int:
    with contextlib.closing(sqlite3.connect(DEMO / "scrape.db")) as database:
        stored: dict[str, int] = dict(database.execute("select url, links from doc"))
    differences = outcome.differences(stored)
    for line in differences[:10]:
        print(f"demo: {line}", file=sys.stderr)
    if differences:
        print(f"demo: {len(differences)} differences from the oracle", file=sys.stderr)
        return 1
    print(f"demo: {len(stored):,} pages stored, {sum(stored.values()):,} links — matches the oracle")
    return 0


if __name__ == "__main__":
    sys.exit(main())
