"""Records the outputs in the pages of the documentation anew: `make record-docs`, for all pages or for those named."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from textwrap import indent

from tests.docs.page import Block, Command
from tests.docs.pages import PAGES, ROOT, run
from tests.docs.session import Done


def main(names: list[str]) -> None:
    """Run the pages, and write what their commands print into them."""
    for file in [Path(name).resolve() for name in names] or PAGES:
        with tempfile.TemporaryDirectory() as home:
            typed = run(file, Path(home))
        text = file.read_text()
        for block, pairs in reversed(typed):  # so that places further up stay where they are
            start, end = block.span
            text = text[:start] + _recorded(block, pairs) + text[end:]
        if text != file.read_text():
            file.write_text(text)
            print(f"recorded {file.relative_to(ROOT)}")


def _recorded(block: Block, pairs: list[tuple[Command, Done]]) -> str:
    lines = list[str]()
    for command, done in pairs:
        lines.append("$ " + re.sub(r"\n(?!> )", "\n> ", command.line))
        lines += [done.output] if done.output else []
    return indent("\n".join(lines) + "\n", block.indent)


if __name__ == "__main__":
    main(sys.argv[1:])
