"""What is set up in the child processes of `process=True` stages as it is in their parent."""

from __future__ import annotations

from typing import Protocol


class ChildSetup(Protocol):
    """Can be pickled, and so sent to a child."""

    def begin(self) -> None:
        """Before the user's code is imported."""
        ...

    def after_import(self) -> None:
        """When it has been imported."""
        ...
