"""`flowq init`: makes the current folder a project for pipelines."""

from __future__ import annotations

from pathlib import Path

from flowq.cli.commands.new import folder_of_pipelines
from flowq.cli.framework.error_screen import note
from flowq.cli.framework.scaffold import TEMPLATES, project


def command() -> None:
    """Set up this folder as a project.

    Writes the settings into pyproject.toml, a new one or at the end of yours, and leaves alone what is there.

    Example:
      flowq init && flowq new news
    """
    folder = folder_of_pipelines()
    written = project(Path.cwd(), folder).write(force=False)
    Path(folder).mkdir(parents=True, exist_ok=True)
    print("\n".join(written) or "this folder is already a project")
    note(f"next:  flowq new NAME --template {'|'.join(TEMPLATES)}")
