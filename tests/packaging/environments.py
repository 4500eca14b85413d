"""Virtual environments with the built wheel and nothing else, and the interpreters of this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONGEST_SECONDS = 240
OWN_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


class CannotInstall(Exception):
    """Neither the cache of uv nor an index of packages has what is needed."""


@cache
def interpreter(version: str) -> str | None:
    """A Python of this version, such as "3.12": this one, one on PATH, or one of pyenv."""
    if version == OWN_VERSION:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    every = [shutil.which(f"python{version}"), *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
    return next((python for python in every if python and _says(python) == version), None)


def _says(python: str) -> str:
    """The version of an interpreter; "" for what cannot be run, such as a shim without a Python."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=LONGEST_SECONDS)
    return done.stdout.strip() if done.returncode == 0 else ""


def _uv(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return _done(Path(sys.executable).with_name("uv"), *arguments)


def _done(*command: str | Path) -> subprocess.CompletedProcess[str]:
    # The environment of the tests is not meant.
    environ = {name: text for name, text in os.environ.items() if name != "VIRTUAL_ENV"}
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=LONGEST_SECONDS)


def _locked() -> str:
    """The locked versions, without hashes: the wheel has none."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return "".join(f"{line.removesuffix(chr(92)).strip()}\n" for line in lines if re.match(r"[\w.-]+==", line))


def build(folder: Path) -> Path:
    """Build the source archive, and from that the wheel, as `make build` does. Returns the folder of both."""
    done = _uv("build", "--offline", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder, ROOT)
    assert done.returncode == 0, done.stderr
    return folder


@dataclass(frozen=True)
class Environment:
    """A virtual environment. Commands see nothing else: PATH has its programs only."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, python: str, wheel: Path, *extras: str) -> Environment:
        """Install the wheel with some extras, in the locked versions. Raises CannotInstall."""
        created = _uv("venv", "--no-project", "--python", python, folder)
        assert created.returncode == 0, created.stderr
        constraints = folder / "constraints.txt"
        constraints.write_text(_locked())
        what = f"flowq-streams[{','.join(extras)}] @ {wheel.as_uri()}"
        own = ("--python", folder / "bin" / "python")
        arguments = ("--constraint", constraints, what)
        for install in (
            lambda: _uv("pip", "install", "--offline", *own, *arguments),
            lambda: _uv("pip", "install", *own, *arguments),
            lambda: _done(sys.executable, "-m", "pip", *own, "install", *arguments),  # it may know another index
        ):
            done = install()
            if done.returncode == 0:
                return cls(folder)
        raise CannotInstall(done.stderr)

    def run(self, folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in a folder to its end."""
        program = self.folder / "bin" / command[0]
        environ = {"PATH": str(self.folder / "bin"), "HOME": str(folder), "LANG": "C.UTF-8"} | variables
        return subprocess.run(
            [program, *command[1:]],
            cwd=folder, env=environ, capture_output=True, text=True, timeout=LONGEST_SECONDS,
        )  # fmt: skip

    def ok(self, folder: Path, *command: str, **variables: str) -> str:
        """The same; it must succeed. Returns what it printed."""
        done = self.run(folder, *command, **variables)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr
