"""A newcomer goes from an empty folder to a deployment by the commands of one page, with the wheel in a new venv."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.masks import same
from tests.docs.page import Block, Page, read
from tests.docs.pages import ROOT
from tests.docs.session import Session
from tests.requirements import unavailable

PAGE = ROOT / "docs" / "how-to" / "first-day.md"
DEPLOY = ROOT / "examples" / "deploy"
UV = str(Path(sys.executable).with_name("uv"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the wheel that a release would publish."""
    folder = tmp_path_factory.mktemp("dist")
    build = [UV, "build", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(folder), ROOT]
    subprocess.run(build, check=True, capture_output=True)
    return folder


def type_all(session: Session, block: Block, *, last_exit_code: int = 0) -> None:
    """Type the commands of a block, and compare what they print with the page."""
    commands = list(block.commands())
    for command in commands:
        done = session.type(command.line)
        expected = last_exit_code if command is commands[-1] else 0
        assert done.exit_code == expected, f"`{command.line}` ended with {done.exit_code}:\n{done.output}"
        if "output varies" not in block.notes and not block.is_only_shown:
            assert same(command.output, done.output), f"`{command.line}` prints:\n{done.output}"


def install(session: Session, block: Block, wheel: Path, tmp_path: Path) -> None:
    """Install as the page says, with nothing on PATH but the system and a Python; from a cache where there is one."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    cache = subprocess.run([UV, "cache", "dir"], check=True, capture_output=True, text=True).stdout.strip()
    variables = {
        "UV_CACHE_DIR": cache, "UV_FIND_LINKS": wheel, "UV_CONSTRAINT": ROOT / "requirements.lock",
        "PATH": f"{tmp_path / 'bin'}:/usr/local/bin:/usr/bin:/bin",
    }  # fmt: skip
    session.type("export " + " ".join(f"{name}='{value}'" for name, value in variables.items()))
    # `pip` of the page, from the cache of the tests
    session.type(f'pip() {{ {UV} pip "$@" --quiet --offline || {UV} pip "$@" --quiet; }}')
    *others, last = block.commands()
    session.type(f"cd ..; rmdir {session.folder.name}")  # the page makes it
    for command in others:
        done = session.type(command.line)
        assert done.exit_code == 0, done.output
    if session.type(last.line).exit_code:
        unavailable("the packages are neither in the cache of uv nor to be had", "allow the tests to use the network")
    assert session.type("command -v flowq").output == "~/orders/.venv/bin/flowq"


@pytest.fixture
def page() -> Page:
    return read(PAGE.read_text())


def test_the_first_day_goes_as_the_page_says_with_the_wheel_in_a_fresh_environment(
    page: Page, wheel: Path, tmp_path: Path
) -> None:
    n_installed = 0
    with Session(tmp_path / "home", page.folder, page) as session:
        for step in page.steps:
            if not isinstance(step, Block) or (step.is_run and step.language != "console"):
                session.do(step, PAGE)
            elif "not run: the tests install the wheel themselves" in step.notes:
                install(session, step, wheel, tmp_path)
                n_installed += 1
            elif step.is_run:
                type_all(session, step, last_exit_code=step.exit_code)
        assert n_installed == 1
        _judge(session.folder)


def _judge(folder: Path) -> None:
    """The files for the deployment fit the schema of Compose, and together they start the app and each stage once."""
    files = [folder / name for name in ("compose.yaml", "compose.override.yaml", "compose.web.yaml")]
    schema = ["--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *schema, *files], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
    services = [dict[str, Any](yaml.safe_load(file.read_text())["services"]) for file in files]
    names = [name for each in services for name in each]
    assert sorted(names) == ["exporter", "load", "redis", "rows", "transform", "validate", "web"]
    urls = {
        service["environment"]["FLOWQ_REDIS_URL"]
        for each in services
        for name, service in each.items()
        if name != "redis"
    }
    assert urls == {"redis://redis:6379/0"}


def test_the_files_for_the_deployment_are_those_of_the_examples(page: Page) -> None:
    files = {step.title: step.text for step in page.steps if isinstance(step, Block)}

    assert files["compose.yaml"] == (DEPLOY / "compose.yaml").read_text()
    assert files["Dockerfile"].replace("COPY app.py ./\n", "") == (DEPLOY / "Dockerfile").read_text()
