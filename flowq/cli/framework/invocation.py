"""Where `flowq` was typed, so that the commands in hints work there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from flowq.errors import UsageError

FOLDER = "_FLOWQ_FOLDER"
"""The variable with the folder of `-C`: worker processes inherit it, for they show hints too."""
COMMAND = "_FLOWQ_COMMAND"
"""The variable with what a user types for `flowq`: a path, or what a program says that has started it for them."""
_COMMANDS = Path(__file__).parents[1] / "commands"


def remember(script: str) -> None:
    """Note how flowq was started, if it was by a path and the shell would not find it otherwise."""
    if os.sep in script and Path(script).name == "flowq":
        found = shutil.which("flowq")
        if not found or not Path(found).samefile(script):
            os.environ[COMMAND] = shlex.quote(script)


def enter(folders: Sequence[Path] | None) -> None:
    """Continue as if flowq had been started in the last of these folders, each relative to the one before it.

    Raises UsageError for one that cannot be entered.
    """
    for folder in folders or ():
        try:
            os.chdir(folder)
        except OSError as error:
            hint = f"relative to {Path.cwd()}" if not folder.is_absolute() else ""
            raise UsageError(f"-C {folder}: {error.strerror or error}", hint=hint) from None
    if folders:
        os.environ[FOLDER] = str(Path(*folders))


def as_typed(text: str) -> str:
    """A hint whose commands work where the user types them: with the folder of `-C`, if there is one."""
    folder, command = os.environ.get(FOLDER), os.environ.get(COMMAND, "flowq")
    if not folder and command == "flowq":
        return text
    typed = f"{command} -C {shlex.quote(folder)} " if folder else f"{command} "
    # A function, because the text of a replacement would not be taken as it is.
    return _hinted().sub(lambda _: typed, text)


@cache
def _hinted() -> re.Pattern[str]:
    """A command in a hint. Read once: every log line is searched for it."""
    names = "|".join(sorted(file.stem.rstrip("_") for file in _COMMANDS.glob("[a-z]*.py")))
    return re.compile(rf"(?<!\S/)\bflowq (?=({names})\b)")
