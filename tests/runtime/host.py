"""User programs that use flowq, each run in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

LONGEST_SECONDS = 120


def run_program(folder: Path, text: str, *arguments: str) -> dict[str, str]:
    """Run a program to its end; the lines `name: value` that it prints. Fails when it hangs, fails or complains."""
    program = folder / "program.py"
    program.write_text(dedent(text), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-W", "error", program, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return dict(line.split(": ", 1) for line in ended.stdout.splitlines())
