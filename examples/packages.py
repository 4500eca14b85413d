"""Downloads packages from the Python index and from Debian, for the data that ships in them."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


class PackageUnavailable(Exception):
    """A package cannot be fetched; the text, one line, says which step failed and why."""


def from_pip(requirement: str, folder: Path) -> Path:
    """Download the source archive of a package into a folder; nothing is installed or run."""
    pip = [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else [shutil.which("pip3") or ""]
    if not pip[0]:
        raise PackageUnavailable("there is no pip; install it with: python -m ensurepip")
    name = requirement.partition("==")[0]
    # pip reads the metadata of the archive: with --no-binary for everything it would compile the build tools, too
    _run([*pip, "download", "-q", "--no-deps", "--no-binary", name, requirement, "-d", str(folder)])
    return only(folder, "*.tar.gz")


def from_apt(package: str, folder: Path) -> None:
    """Unpack the newest Debian package whose name matches the expression, into a folder."""
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise PackageUnavailable(f"it is a Debian package and there is no {tool}; sqlalchemy needs only pip")
    try:
        _download(package, folder)
    except PackageUnavailable as error:
        if os.geteuid() != 0:
            raise PackageUnavailable(f"{error}; the package lists may be outdated: sudo apt-get update") from error
        _run(["apt-get", "-qq", "update"])
        _download(package, folder)
    _run(["dpkg-deb", "-x", str(only(folder, "*.deb")), str(folder)])


def only(folder: Path, pattern: str) -> Path:
    """The first of the files in a folder that match. Raises PackageUnavailable when there is none."""
    found = sorted(folder.glob(pattern))
    if not found:
        raise PackageUnavailable(f"the package contains no {pattern}")
    return found[0]


def _download(package: str, folder: Path) -> None:
    found = _run(["apt-cache", "search", "--names-only", f"^{package}$"]).splitlines()
    names = sorted((line.split()[0] for line in found), key=_version)
    if not names:
        raise PackageUnavailable(f"apt knows no package {package}")
    # as root, apt would leave the download to the user _apt, who may not write here
    _run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", names[-1]], cwd=folder)


def _version(package: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", package)]


def _run(command: Sequence[str], cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackageUnavailable(str(error)) from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise PackageUnavailable(f"{' '.join(command)}: {said[-1].strip()}")
    return done.stdout
