"""`make demo`: the commands that it prints work where it was started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.scraping import demo
from tests.integration.project import clean_environ

ELSEWHERE = {"MAKEFLAGS": "w"}
PRINT_HINT = """
import sys
from examples.scraping import demo
demo.DEMO = demo.Path(sys.argv[1])
demo._prepare()
demo._run("http://127.0.0.1:9/")
"""


@pytest.mark.parametrize(("variables", "shown"), [({}, "my demo"), (ELSEWHERE, "")], ids=["make", "make -C"])
def test_hints_of_the_demo_work_where_it_was_started(variables: dict[str, str], shown: str, tmp_path: Path) -> None:
    folder = tmp_path / "my demo"
    environ = clean_environ() | {"PYTHONPATH": str(demo.PROJECT), "PATH": "/usr/bin:/bin"}

    ran = subprocess.run(
        [sys.executable, "-c", PRINT_HINT, folder],
        cwd=tmp_path,
        env=environ | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (hint,) = [line for line in ran.stderr.splitlines() if line.startswith("dead letters")]
    command = hint.removeprefix("dead letters").strip()
    typed = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False
    )

    flowq = Path(sys.executable).with_name("flowq")
    path = str(flowq) if variables else os.path.relpath(flowq, tmp_path)
    assert command == f"{path} -C '{shown or folder}' dlq ls scrape"
    assert (typed.returncode, "fetch" in typed.stdout) == (0, True), typed.stderr
