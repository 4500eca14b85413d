"""A page of the documentation as the steps of one session: files to write, Python to execute, commands to type.

The format, for authors:

- a fenced block with `title="file"` is written to that file;
- a block of `python` without a title is executed, all of a page in order as one module;
- in a block of `console`, a line that begins with `$ ` is typed into the one bash of the page (lines that begin with
  `> ` continue it), and the lines after it are its output, which `make record-docs` records;
- everything else is only shown.

A comment in front of a block says what is special about it:

- `<!-- exit 3 -->`: the last command of the block ends with this code, instead of 0;
- `<!-- exact -->`: numbers in its output are compared too;
- `<!-- output varies -->`: its output is recorded, and not compared;
- `<!-- not run: reason -->`, `<!-- excerpt of FILE -->`: the block is only shown; an excerpt is in that file.

Comments that are steps of their own, not seen by readers: `<!-- run: command -->` types a command,
`<!-- until: command -->` repeats one until it succeeds, `<!-- port 8000 -->` replaces this number by a free port.
`<!-- continues FILE.md -->` begins with the files that the other page has written, `<!-- folder books -->` names the
folder of the session.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from textwrap import dedent

_ELEMENT = re.compile(
    r"^(?P<indent> *)(?:"
    r"<!--\s*(?P<comment>.*?)\s*-->[ ]*$"
    r"|(?P<fence>`{3,})(?P<language>[\w.-]*)(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=indent)(?P=fence)[ ]*$"
    r")",
    re.MULTILINE | re.DOTALL,
)
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Command:
    """A line of a block of `console`, and the output that is shown after it."""

    line: str
    output: str


@dataclass(frozen=True)
class Block:
    """A fenced block, with what the comments in front of it say."""

    language: str
    title: str
    text: str
    line_number: int
    """The line of the page on which the text begins."""
    span: tuple[int, int]
    """Where the text is in the page."""
    indent: str
    notes: tuple[str, ...]

    @property
    def is_only_shown(self) -> bool:
        return any(note.startswith(("excerpt", "not run:")) for note in self.notes)

    @property
    def is_run(self) -> bool:
        return not self.is_only_shown and (self.title != "" or self.language in ("python", "console"))

    @property
    def exit_code(self) -> int:
        """With which code the last command of the block ends."""
        return next((int(note.removeprefix("exit ")) for note in self.notes if note.startswith("exit ")), 0)

    def commands(self) -> Iterator[Command]:
        """The commands of a block of `console`, each with its output."""
        for part in re.split(r"^(?=\$ )", self.text, flags=re.MULTILINE):
            if found := re.match(r"\$ (.*\n(?:> .*\n)*)", part):
                line = re.sub(r"^> ", "", found[1].rstrip("\n"), flags=re.MULTILINE)
                yield Command(line, part[found.end() :].rstrip("\n"))


@dataclass(frozen=True)
class Hidden:
    """A command that readers do not see."""

    command: str
    until_it_succeeds: bool


@dataclass
class Page:
    """The steps of a page, the ports that it names, its folder, and the page whose files it begins with."""

    steps: list[Block | Hidden] = field(default_factory=list[Block | Hidden])
    ports: list[str] = field(default_factory=list[str])
    folder: str = ""
    continues: str = ""


def read(text: str) -> Page:
    """Take a page of Markdown apart."""
    page, notes = Page(), list[str]()
    for found in _ELEMENT.finditer(text):
        comment = found["comment"]
        if comment is None:
            title = _TITLE.search(found["info"])
            line_number = text.count("\n", 0, found.start("text")) + 1
            page.steps.append(
                Block(
                    found["language"], title[1] if title else "", dedent(found["text"]), line_number,
                    found.span("text"), found["indent"], tuple(notes),
                )
            )  # fmt: skip
            notes = []
        elif step := re.match(r"(run|until):\s*(.*)", comment, re.DOTALL):
            page.steps.append(Hidden(step[2], step[1] == "until"))
        elif port := re.fullmatch(r"port (\d+)", comment):
            page.ports.append(port[1])
        elif folder := re.fullmatch(r"folder (\w+)", comment):
            page.folder = folder[1]
        elif earlier := re.fullmatch(r"continues (\S+)", comment):
            page.continues = earlier[1]
        else:
            notes.append(comment)
    return page
