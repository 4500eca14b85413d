"""What users import, and with which parameters: a change is made on purpose, and read in review."""

from __future__ import annotations

from tests.packaging.public_names import FILE, public_names


def test_public_names_and_their_parameters_are_those_on_record() -> None:
    assert public_names() == FILE.read_text(), "if it is meant: python -m tests.packaging.public_names"
