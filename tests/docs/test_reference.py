"""The generated reference: it is what the code says today, and nothing that is public is missing."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

import flowq
import flowq.testing
from flowq.cli.app import COMMANDS
from flowq.errors import FlowqError
from tools.docs.reference.api import public_names, public_names_of_the_test_kit
from tools.docs.reference.pages import FOLDER, pages

PAGES = pages()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_is_what_the_code_says(name: str) -> None:
    assert (FOLDER / name).read_text() == PAGES[name], "make reference"


def test_every_public_name_is_described() -> None:
    assert public_names() == set(flowq.__all__) - {"__version__"}
    assert public_names_of_the_test_kit() == set(flowq.testing.__all__) - {"Fault"}  # which are the faults


def test_every_command_is_described() -> None:
    assert re.findall(r"^### flowq (\w+)$", PAGES["commands.md"], re.MULTILINE) == [name for name, *_ in COMMANDS]


def test_every_code_of_an_error_has_one_meaning_and_its_own_anchor() -> None:
    anchors = re.findall(r"^### (FQ\d+)$", PAGES["errors.md"], re.MULTILINE)
    meanings = defaultdict[str, set[type]](set)
    for error in _all_errors(FlowqError):
        if "code" in vars(error):
            meanings[error.code].add(error)

    assert [code for code, errors in meanings.items() if len(errors) > 1] == []
    assert len(anchors) == len(set(anchors))
    assert set(meanings) <= set(anchors)


def _all_errors(of: type[FlowqError]) -> set[type[FlowqError]]:
    return {of}.union(*(_all_errors(error) for error in of.__subclasses__()))
