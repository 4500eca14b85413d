"""Where `flowq` was typed, so that the commands in hints work there."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from flowq.errors import UsageError

FOLDER = "_FLOWQ_FOLDER"
"""The variable with the folder of `-C`: worker processes inherit it, for they show hints too."""
_COMMANDS = Path(__file__).parents[1] / "commands"


def enter(folders: Sequence[Path]) -> None:
    """Continue as if flowq had been started in a folder. Each is relative to the one before it.

    Raises UsageError for one that cannot be entered.
    """
    for folder in folders:
        try:
            os.chdir(folder)
        except OSError as error:
            hint = f"relative to {Path.cwd()}" if not folder.is_absolute() else ""
            raise UsageError(f"-C {folder}: {error.strerror or error}", hint=hint) from None
    if folders:
        os.environ[FOLDER] = str(Path(*folders))


def as_typed(text: str) -> str:
    """A hint whose commands work where the user types them: with the folder of `-C`, if there is one."""
    if not (folder := os.environ.get(FOLDER)):
        return text
    names = "|".join(sorted(file.stem.rstrip("_") for file in _COMMANDS.glob("[a-z]*.py")))
    # A function, because the text of a replacement would not be taken as it is.
    return re.sub(rf"\bflowq (?=({names})\b)", lambda _: f"flowq -C {shlex.quote(folder)} ", text)
