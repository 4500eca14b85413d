"""The pages of the documentation, and the sessions in which they are run."""

from __future__ import annotations

from pathlib import Path

from tests.docs.page import Block, Command, Page, read
from tests.docs.session import Done, Session

ROOT = Path(__file__).parents[2]
ALL = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("README.md")),
]
PAGES = [page for page in ALL if page.name != "walkthrough.md"]  # it is recorded by `make walkthrough`


def earlier_files(file: Path, page: Page) -> list[Block]:
    """The files that the pages which this one continues have written, in order."""
    if not page.continues:
        return []
    earlier = file.parent / page.continues
    before = read(earlier.read_text())
    written = [step for step in before.steps if isinstance(step, Block) and step.is_run and step.title]
    return earlier_files(earlier, before) + written


def run(file: Path, home: Path) -> list[tuple[Block, list[tuple[Command, Done]]]]:
    """Run a page; return its blocks of `console`, with what was typed and what it has done.

    Raises AssertionError where a step fails, or a command ends with another exit code than the page says.
    """
    page: Page = read(file.read_text())
    typed: list[tuple[Block, list[tuple[Command, Done]]]] = []
    with Session(home, page.folder or (file.stem if file.stem != "README" else "project"), page) as session:
        for step in [*earlier_files(file, page), *page.steps]:
            done = session.do(step, file)
            if not isinstance(step, Block) or not done:
                continue
            pairs = list(zip(step.commands(), done, strict=True))
            codes = [0] * (len(done) - 1) + [step.exit_code]
            for (command, result), code in zip(pairs, codes, strict=True):
                place = f"{file.relative_to(ROOT)}:{step.line_number}: `{command.line}`"
                assert result.exit_code == code, f"{place} ended with {result.exit_code}:\n{result.output}"
            typed.append((step, pairs))
    return typed
