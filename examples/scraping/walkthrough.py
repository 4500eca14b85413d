"""Records docs/walkthrough.md: runs every command in it against a small real crawl and records the output."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from examples.scraping.faults import ALL
from examples.scraping.server import serve
from examples.scraping.sites import Site, site
from tests.integration.terminal import Terminal

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "walkthrough.md"
COLUMNS, LINES = 100, 26
LONGEST_SECONDS = 60.0
DEAD_LETTERS = 3  # exit code of `flowq run` when there are dead letters


@dataclass
class Recorder:
    """A project folder in which commands run as a user types them, and the page with their output."""

    folder: Path
    page: list[str] = field(default_factory=list[str])

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment of a user who has set no variables for flowq and has `flowq` on PATH."""
        theirs = {k: v for k, v in os.environ.items() if not k.startswith(("FLOWQ_", "REDIS_", "SCRAPE_", "NO_COLOR"))}
        path = f"{Path(sys.executable).parent}:{theirs['PATH']}"
        return theirs | {"PATH": path, "COLUMNS": str(COLUMNS), "PYTHONPATH": str(ROOT), "SCRAPE_RATE": "12"}

    def say(self, text: str) -> None:
        """Add a paragraph."""
        self.page.append(text)

    def run(self, command: str, *, exit_code: int = 0) -> str:
        """Run a command and add it with its output. Returns the output."""
        done = subprocess.run(
            command, shell=True, cwd=self.folder, env=self.environ, text=True, timeout=LONGEST_SECONDS,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        self._add(command, done.stdout)
        assert done.returncode == exit_code, f"{command} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def quietly(self, command: str) -> str:
        """Run a command without adding it. Returns its output."""
        done = subprocess.run(
            command, shell=True, cwd=self.folder, env=self.environ, text=True, check=True, stdout=subprocess.PIPE
        )
        return done.stdout

    def start(self, command: str) -> Background:
        """Start a command that continues while others run."""
        return Background(self, command)

    def screen(self, command: str, shows: Callable[[str], object], *, keys: str = "") -> None:
        """Run a command on a terminal, add the screen once `shows` accepts it, then press `keys`."""
        with Terminal(command.split(), self.folder, dict(self.environ), columns=COLUMNS, lines=LINES) as terminal:
            self._add(command, terminal.wait_for(shows, seconds=LONGEST_SECONDS))
            terminal.press(keys)
            terminal.wait()

    def _add(self, command: str, output: str) -> None:
        shortened = output.replace(str(self.folder), "~/crawl").replace(sys.prefix, "~/crawl/.venv")
        lines = [line.rstrip() for line in shortened.rstrip().splitlines()]
        self.page.append("\n".join(["```console", f"$ {command}", *lines, "```"]))


class Background:
    """A command in the background."""

    def __init__(self, recorder: Recorder, command: str) -> None:
        self._recorder = recorder
        self._command = command
        self._output = recorder.folder / "output"
        with self._output.open("w") as output:
            self._popen = subprocess.Popen(
                command, shell=True, cwd=recorder.folder, env=recorder.environ, stdout=output, stderr=output
            )

    def is_under_way(self) -> None:
        """Wait until it has fetched some pages."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while not re.search(r"working  fetch \d\d+ of", self._output.read_text()):
            assert time.monotonic() < deadline, self._output.read_text()
            time.sleep(0.05)

    def end(self, *, exit_code: int = 0) -> None:
        """Wait for its end and add it with its output."""
        code = self._popen.wait(LONGEST_SECONDS)
        text = self._output.read_text()
        self._recorder._add(self._command, text)  # pyright: ignore[reportPrivateUsage]
        assert code == exit_code, text


def record(recorder: Recorder, pages: Site) -> None:
    """The walk."""
    say, run = recorder.say, recorder.run
    say("## Before it runs\n\nNothing is running yet, and no Redis is installed: flowq starts its own when needed.")
    run("flowq ls")
    run("flowq check scrape")
    run("flowq graph scrape")
    with serve(pages, faults=ALL, retry_after=1) as server:
        port, url = server.server_address[1], server.url
        _while_it_runs(recorder, url)
    with serve(pages, port=port):
        _afterwards(recorder)
    say("## Settings, and what your Redis may lose")
    run("flowq config scrape --origin")
    run("flowq doctor")


def _while_it_runs(recorder: Recorder, url: str) -> None:
    say, run = recorder.say, recorder.run
    crawl = recorder.start(f"flowq run scrape -a url={url} --workers 2")
    crawl.is_under_way()
    say(
        "## While it runs\n\nIn one terminal `flowq run scrape` crawls a site that answers some requests with 429 and "
        "503, cuts others off, and redirects one page in a loop. In another:"
    )
    run("flowq status scrape")
    say("The same on the full screen, refreshed every second, with keys to sort, show dead letters, and quit:")
    recorder.screen(
        "flowq top scrape", lambda text: "running longest" in text and text.endswith("dead letters"), keys="q"
    )
    say("And on the graph (on a terminal it is refreshed every second):")
    run("flowq graph scrape --live | cat")
    say("Look at the messages on an edge without consuming them:")
    run("flowq peek scrape.fetch -n 2")
    say("Pause while you look into the site. Running messages finish, everything else waits:")
    run("flowq pause scrape")
    run("flowq status scrape")
    run("flowq resume scrape")
    say("## How it ends\n\nThe output of the first terminal. The exit code is 3: there is a dead letter.")
    crawl.end(exit_code=DEAD_LETTERS)


def _afterwards(recorder: Recorder) -> None:
    say, run = recorder.say, recorder.run
    say("## What died\n\nNo worker is running. The dead letter is still there, with everything that is known about it:")
    run("flowq dlq ls scrape")
    run("flowq dlq show scrape 1")
    say("Where it came from:")
    letter = json.loads(recorder.quietly("flowq dlq show scrape 1 --json"))
    run(f"flowq trace scrape {letter['message_id']}")
    say("The site has been repaired meanwhile. Try single stages on a message of your own, without any Redis:")
    page = letter["message"]["via"][0]  # the page that was redirected
    link = f"""'{{"url": "{page}"}}'"""
    run(f"echo {link} | flowq try scrape.fetch | flowq try scrape.parse | tail -n 3")
    say("So put the message back where it came from, with its original URL, and the next run handles it:")
    run("flowq dlq retry scrape --dry-run")
    run(f"flowq dlq retry scrape --set url={page} --set 'via=[]'")
    run("flowq status scrape")
    run("flowq run scrape --stage fetch,parse,store --drain")
    say("## One more page\n\nMessages can be pushed by hand. They are checked against the type that the stage accepts:")
    run(f"flowq push scrape {link}")
    run("""flowq push scrape '{"uri": "http://127.0.0.1/"}'""", exit_code=2)


def main() -> int:
    """Record the page again."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        (project / "pipelines").mkdir(parents=True)
        shutil.copy(ROOT / "pipelines" / "scrape.py", project / "pipelines")
        recorder = Recorder(project)
        recorder.say(
            "# A walk through the terminal\n\n"
            "Every command on this page was run in this order, and is followed by its output: "
            "`make walkthrough` records it again. Only paths are shortened. "
            "The pipeline is [`pipelines/scrape.py`](../pipelines/scrape.py)."
        )
        record(recorder, site("sqlalchemy"))
    PAGE.write_text("\n\n".join(recorder.page) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
