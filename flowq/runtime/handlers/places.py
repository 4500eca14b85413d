"""Where in the user's code something happens, named as in the folder of the project."""

from __future__ import annotations

from pathlib import Path

from flowq.delivery.user_code import place_of_error
from flowq.errors import Place
from flowq.settings.project_file import root_above


def users_place(error: BaseException) -> Place | None:
    """The deepest line of the user's own code that an error passed through."""
    return place_of_error(error, project_root())


def project_root() -> str:
    """The folder of the project; "" if the current folder is gone."""
    try:
        return str(root_above(Path.cwd()))
    except OSError:
        return ""
