"""`flowq new`: writes a pipeline with its test, to start from, or sets up a folder as a project."""

from __future__ import annotations

import re
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path
from typing import Annotated

import typer

from flowq.cli.framework.error_screen import note, shown
from flowq.cli.framework.parameters import settings_here
from flowq.cli.framework.scaffold import TEMPLATES, pipeline, project, user_of_name
from flowq.errors import UsageError, did_you_mean
from flowq.settings import Settings

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,63}")


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the pipeline and of its file; . for none.")],
    template: Annotated[
        str,
        typer.Option(
            "--template",
            "-t",
            metavar="|".join(TEMPLATES),
            help="The template.",
            autocompletion=lambda: [*TEMPLATES],
        ),
    ] = "scraping",
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
) -> None:
    """Create a pipeline and its test from a template.

    It runs as it is, and its test passes. Writes pipelines/NAME.py, tests/test_NAME.py, sample data if the template
    needs any, and the settings in pyproject.toml if they are missing. With . instead of a name it writes only the
    settings, as flowq init does.

    Example:
      flowq new shop --template etl
      flowq new news
    """
    if name == ".":
        _set_up_project()
        return
    if template not in TEMPLATES:
        hint = did_you_mean(template, TEMPLATES, f"there are {', '.join(TEMPLATES)}")
        raise UsageError(f'there is no template "{template}"', hint=hint)
    if not _NAME.fullmatch(name) or iskeyword(name) or name.startswith("__"):
        raise UsageError(
            f'"{name}" cannot name a pipeline', hint="a Python name of at most 64 lower-case letters, digits and _"
        )
    if user := user_of_name(name, template):
        hint = f"{name}_pipeline, perhaps"
        raise UsageError(f'"{name}" cannot name a pipeline: it is already {user}', hint=hint)
    settings = settings_here()
    written = pipeline(settings.root, _folder_of_pipelines(settings), name, template).write(force=force)
    print("\n".join(shown(settings.root / path) for path in written))
    needs, does = TEMPLATES[template]
    note(f"{name} {does}:")
    if template == "scraping" and find_spec("selectolax") is None:
        note("  pip install 'flowq-streams[scraping]'")
    note(f"  flowq run {name} {needs.format(name=name)}")


def _set_up_project() -> None:
    settings = settings_here()
    folder = _folder_of_pipelines(settings) if settings.root == Path.cwd() else "pipelines"  # one within another
    written = project(Path.cwd(), folder).write(force=False)
    Path(folder).mkdir(parents=True, exist_ok=True)
    print("\n".join(written) or "this folder is already a project")
    note(f"next:  flowq new NAME --template {'|'.join(TEMPLATES)}")


def _folder_of_pipelines(settings: Settings) -> str:
    """The folder of this project that holds pipelines. Raises UsageError if Python could not import from it."""
    folders = [place.rstrip("/") for place in settings.pipelines if ":" not in place]
    if not folders or not all(part.isidentifier() for part in folders[0].split("/")):
        raise UsageError("this project has no folder of pipelines", hint='set  [tool.flowq] pipelines = "pipelines"')
    return folders[0]
