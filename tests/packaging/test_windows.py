"""On Windows flowq says in one sentence that it does not run there, before anything that Windows lacks is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

SENTENCE = "flowq does not run on Windows: use WSL 2, which is Linux, or a container"
# Libraries are there first: they would look for Windows. What Windows lacks is taken away.
AS_ON_WINDOWS = """
import asyncio, multiprocessing, pydantic, signal, socket, subprocess, sys, tempfile, threading, zoneinfo
sys.platform = "win32"
for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty", "uvloop", "select"):
    sys.modules[name] = None
for name in ("SIGKILL", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGWINCH", "SIGCHLD"):
    delattr(signal, name)
"""


def ends_with(code: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", AS_ON_WINDOWS + code], capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", [[], ["run", "shop"], ["--help"]], ids=str)
def test_the_command_says_so_and_nothing_else(arguments: list[str]) -> None:
    code, said = ends_with(f"sys.argv = ['flowq', *{arguments}]\nfrom flowq.__main__ import main\nmain()")
    assert (code, said) == (2, f"error[FQ221]: {SENTENCE}\n")


@pytest.mark.parametrize("name", ["run", "Publisher", "SyncPublisher", "Inspector"])
def test_what_talks_to_redis_says_so_when_it_is_imported(name: str) -> None:
    code, said = ends_with(f"from flowq import {name}")
    assert code == 1
    assert said.rstrip().endswith(SENTENCE)


def test_pipelines_can_be_declared_and_drawn_there() -> None:
    declared = (
        "from flowq import Pipeline, stage\n@stage\ndef show(n: int) -> None: ...\nprint(Pipeline('shop', show).plan)"
    )
    assert ends_with(declared)[0] == 0
