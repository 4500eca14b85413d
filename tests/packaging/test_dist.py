"""The wheel and the source archive: one version, nothing missing, nothing too much."""

from __future__ import annotations

import email
import re
import subprocess
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import flowq
from tests.packaging.environments import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_has_one_place_and_both_archives_have_it(dist: Path) -> None:
    assert "version" not in PROJECT
    assert {file.name for file in dist.glob("flowq*")} == {
        f"flowq_streams-{flowq.__version__}.tar.gz",
        f"flowq_streams-{flowq.__version__}-py3-none-any.whl",
    }
    written = [
        file
        for file in (ROOT / "flowq").rglob("*.py")
        if re.search(r'^(__version__|version) = "', file.read_text(), re.MULTILINE)
    ]
    # The other one is what `flowq new` writes for a project of the user.
    assert {file.name for file in written} == {"version.py", "scaffold.py"}


def test_the_wheel_has_every_file_of_the_package_and_no_others(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "flowq").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert names == files
    assert "flowq/py.typed" in names


def test_the_metadata_name_the_licence_the_command_and_every_extra(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (folder,) = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = email.message_from_bytes(archive.read(f"{folder}/METADATA"))
        assert f"{folder}/licenses/LICENSE" in archive.namelist()
        assert b"flowq = flowq.__main__:main" in archive.read(f"{folder}/entry_points.txt")
    assert metadata["License-Expression"] == "MIT"
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])


def test_the_source_archive_has_every_file_under_version_control(dist: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    missing = set(listed) - names - {".pre-commit-config.yaml"}
    assert missing == set()
