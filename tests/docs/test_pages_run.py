"""Every page of the documentation runs as it stands there, and shows what its commands print."""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path

import pytest

from tests.docs.masks import masked, same
from tests.docs.page import Block
from tests.docs.pages import PAGES, ROOT, read, run


def has_steps(file: Path) -> bool:
    return any(not isinstance(step, Block) or step.is_run for step in read(file.read_text()).steps)


# The page of the first day is run by its own test, from the wheel.
RUN = [page for page in PAGES if has_steps(page) and page.name != "first-day.md"]


@pytest.mark.parametrize("file", RUN, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_page_runs_as_one_session_and_prints_what_it_shows(file: Path, tmp_path: Path) -> None:
    for block, pairs in run(file, tmp_path):
        if "output varies" in block.notes:
            continue
        for command, done in pairs:
            if not same(command.output, done.output, exact="exact" in block.notes):
                difference = "\n".join(unified_diff(masked(command.output), masked(done.output), "page", "run"))
                place = f"{file.relative_to(ROOT)}:{block.line_number}"
                pytest.fail(
                    f"{place}: `{command.line}` prints something else (make record-docs records it):\n"
                    f"{done.output}\n\n{difference}",
                    pytrace=False,
                )
