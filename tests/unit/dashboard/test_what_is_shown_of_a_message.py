"""However large, deep or hostile a message or traceback is, what a page shows of it is bounded and plain text."""

from __future__ import annotations

import json
import subprocess
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowq.dashboard.access.shown_fields import MASK
from flowq.dashboard.pages.message_tree import Node, message_tree
from flowq.dashboard.pages.traceback_lines import traceback_lines
from flowq.wording.shell_commands import shell_command

LIMIT = 64_000


def nodes(node: Node) -> Iterator[Node]:
    yield node
    for part in node.parts:
        yield from nodes(part)


def size(node: Node) -> int:
    return sum(len(each.name) + len(each.text) + len(each.more) for each in nodes(node))


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "message",
    [
        *("x" * 2_000_000, "\x1b" * 100_000, ["x" * 50_000] * 50, list(range(200_000)), {"k" * 1_000_000: 1}),
        *({f"field{i}": "v" * 60 for i in range(50_000)}, nested(1000), [[[]] * 1000] * 1000),
    ],
    ids=["text", "unprintable", "long items", "many items", "long name", "many fields", "deep", "wide"],
)
def test_a_tree_is_bounded_and_says_that_it_is_cut(message: Any) -> None:
    tree = message_tree(message)
    assert tree.is_cut
    assert size(tree.root) < LIMIT + 20_000
    assert sum(1 for _ in nodes(tree.root)) <= 2001


def test_an_ordinary_message_is_whole() -> None:
    tree = message_tree({"url": "/a", "n": 1.5, "ok": True, "no": None, "password": MASK, "list": [{"x": 1}], "e": {}})
    assert not tree.is_cut
    assert [(node.name, node.text, node.kind) for node in nodes(tree.root)] == [
        *(("", "7 fields", "parts"), ("url", '"/a"', "str"), ("n", "1.5", "lit"), ("ok", "true", "lit")),
        *(("no", "null", "lit"), ("password", MASK, "hidden"), ("list", "1 item", "parts"), ("0", "1 field", "parts")),
        *(("x", "1", "lit"), ("e", "{}", "lit")),
    ]


@settings(max_examples=50)
@given(st.recursive(st.text(), lambda parts: st.lists(parts) | st.dictionaries(st.text(), parts)))
def test_every_text_of_a_tree_prints(message: Any) -> None:
    assert all((node.name + node.text).isprintable() for node in nodes(message_tree(message).root))


def test_the_lines_of_a_traceback_are_the_users_or_a_librarys_or_the_error() -> None:
    text = (
        "Traceback (most recent call last):\n"
        '  File "/srv/shop/pipelines/shop.py", line 31, in parse\n'
        "    return json.loads(text)\n"
        '  File "/usr/lib/python3.11/json/__init__.py", line 346, in loads\n'
        "    return _default_decoder.decode(s)\n"
        "json.decoder.JSONDecodeError: Expecting value\nsecond line\n    and its indented third\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
        "Traceback (most recent call last):\n"
        '  File "/srv/shop/pipelines/shop.py", line 33, in parse\n'
        "flowq.errors.Reject: not JSON"
    )
    whose = "".join(line.whose[0] for line in traceback_lines(text))
    assert whose == "ooolleeeoooooe"


def test_the_lines_of_a_group_of_exceptions() -> None:
    file = "/srv/shop.py"
    code = compile("def a():\n    raise ValueError('one\\ntwo')", file, "exec")
    names: dict[str, Any] = {}
    exec(code, names)
    errors: list[Exception] = []
    for _ in range(2):
        try:
            names["a"]()
        except ValueError as error:
            errors.append(error)
    lines = traceback_lines("".join(traceback.format_exception(ExceptionGroup("many", errors))))
    assert [line.text.strip(" |") for line in lines if line.whose == "err"] == [
        *("ExceptionGroup: many (2 sub-exceptions)", "ValueError: one", "two", "ValueError: one", "two"),
    ]
    assert sum(file in line.text and line.whose == "own" for line in lines) == 2


def test_a_traceback_is_bounded_and_keeps_both_ends() -> None:
    lines = traceback_lines("first\n" + "x" * 3_000_000 + "\nValueError: last\x1b[2J")
    assert sum(len(line.text) for line in lines) < LIMIT + 1000
    assert lines[0].text == "first"
    assert lines[-1].text == "ValueError: last\\x1b[2J"


@settings(max_examples=30)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_a_copied_command_says_what_it_says(word: str) -> None:
    command = shell_command("printf", "%s", word)
    assert command.isprintable()
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})
    assert done.stdout == word.encode()


def test_a_copied_command_keeps_bytes_that_are_not_text() -> None:
    done = subprocess.run(["bash", "-c", shell_command("printf", "%s", "a\udcff\n'")], capture_output=True, check=True)
    assert done.stdout == b"a\xff\n'"
    assert json.dumps(shell_command("\ud800")).isascii()
