"""The page on testing tells a story for each planted bug, and no other."""

from __future__ import annotations

import re

from tests.testing.planted import BUGS, WHAT
from tools.docs.stories import BEGIN, END, PAGE, with_stories


def told() -> str:
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0]


def test_each_planted_bug_has_its_story_on_the_page() -> None:
    stories = re.findall(r"^\*\*(.+)\*\*: (.+)\n\n```text\nseed \d+, ", told(), re.MULTILINE)

    assert stories == [(name.replace("_", " ").capitalize(), WHAT[name]) for name in BUGS]


def test_writing_stories_leaves_the_rest_of_the_page_alone() -> None:
    page = PAGE.read_text()

    written = with_stories(page, {"charged_twice": "seed 1, no fault"})

    assert "seed 1, no fault" in written
    assert written.partition(BEGIN)[0] + written.partition(END)[2] == page.partition(BEGIN)[0] + page.partition(END)[2]
