"""Where in the user's code something happens, named as in the folder of the project."""

from __future__ import annotations

from flowq.delivery.user_code import place_of_error
from flowq.errors import Place
from flowq.settings.project_file import current_folder, root_above


def users_place(error: BaseException) -> Place | None:
    """The deepest line of the user's own code that an error passed through."""
    return place_of_error(error, project_root())


def project_root() -> str:
    """The folder of the project."""
    return str(root_above(current_folder()))
