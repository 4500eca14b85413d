"""Records docs/pictures/terminal.svg: the live graph of a real crawl, and the balance at its end."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from pyte.screens import Char
from rich.color import ColorParseError
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from examples.scraping.faults import ALL
from examples.scraping.server import serve
from examples.scraping.sites import site
from tests.integration.project import Project
from tests.integration.terminal import Terminal

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "pictures" / "terminal.svg"
COLUMNS, LINES = 96, 26
FLOWQ = (sys.executable, "-m", "flowq")
_THEME = TerminalTheme(
    (13, 17, 23),
    (230, 237, 243),
    [(72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34), (88, 166, 255), (188, 140, 255), (57, 197, 207),
     (177, 186, 196)],
    [(110, 118, 129), (255, 161, 152), (86, 211, 100), (227, 179, 65), (121, 192, 255), (210, 168, 255), (86, 212, 221),
     (255, 255, 255)],
)  # fmt: skip
_BRIGHT = re.compile(r"^bright(?=[a-z])")
# Without the web font of rich's own format: the picture asks no other host for anything.
_SVG = """<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {height}">
<title>A crawl in the terminal: its live graph, and the balance at its end</title>
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; \
font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}</defs>
<rect fill="#0d1117" width="{width}" height="{height}" rx="8" />
<g fill="#333b45"><circle cx="20" cy="20" r="6"/><circle cx="40" cy="20" r="6"/><circle cx="60" cy="20" r="6"/></g>
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g></g></svg>
"""


def main() -> int:
    """Crawl, and draw what two terminals show."""
    with tempfile.TemporaryDirectory() as folder, Project(Path(folder), SCRAPE_RATE="12") as project:
        shutil.copy(ROOT / "pipelines" / "scrape.py", project.folder / "pipelines")
        environ = project.environ | {"PYTHONPATH": str(ROOT), "COLORTERM": ""}
        os.environ.pop("NO_COLOR", None)
        with serve(site("sqlalchemy"), faults=ALL, retry_after=1) as server:
            run = [*FLOWQ, "run", "scrape", "-a", f"url={server.url}", "--workers", "2"]
            live = [*FLOWQ, "graph", "scrape", "--live"]
            with (
                Terminal(run, project.folder, environ, columns=COLUMNS, lines=LINES) as crawl,
                Terminal(live, project.folder, environ, columns=COLUMNS, lines=LINES) as graph,
            ):
                graph.wait_for(lambda text: re.search(r"store .*\d/s", text))
                drawn = _lines(graph.cells)
                graph.press("\x03")
                crawl.wait()
                ended = _lines(crawl.cells)
    shown = [_prompt("flowq graph scrape --live"), *drawn, Text(), _prompt("flowq run scrape -a url=…"), *ended]
    PICTURE.write_text(_svg(shown))
    return 0


def _prompt(command: str) -> Text:
    return Text.assemble(("$ ", "bright_black"), (command, "bold"))


def _lines(cells: Sequence[Sequence[Char]]) -> list[Text]:
    """The lines of a screen with their colours, up to the last that is not empty."""
    lines = [Text.assemble(*((char.data, _style(char)) for char in line)) for line in cells]
    for line in lines:
        line.rstrip()
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _style(char: Char) -> Style:
    name = _BRIGHT.sub("bright_", char.fg).replace("brown", "yellow")
    if name == "default":
        return Style(bold=char.bold)
    try:
        return Style(color=name, bold=char.bold)
    except ColorParseError:
        return Style(color=f"#{char.fg}", bold=char.bold)


def _svg(lines: Iterable[Text]) -> str:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(line, no_wrap=True, crop=True)
    return console.export_svg(theme=_THEME, code_format=_SVG, unique_id="terminal")


if __name__ == "__main__":
    sys.exit(main())
