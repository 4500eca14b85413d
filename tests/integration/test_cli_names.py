"""Names of files, folders and arguments that are not UTF-8, or that Python cannot import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.flowq_process import FLOWQ, Project

LONGEST_SECONDS = 60
LATIN_1 = "B\udcfccher"  # "Bücher", as Python sees bytes that are not UTF-8
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
BOOKS = """
    from collections.abc import Iterator
    from pathlib import Path

    from flowq import Pipeline, source, stage


    @source
    def lines(path: Path, title: str = "") -> Iterator[str]:
        yield from path.read_text().splitlines()


    @stage
    def read(line: str) -> None:
        print("read", line)


    books = Pipeline("books", lines >> read)
"""


@pytest.fixture(params=[LATIN_1, "Bücher"], ids=["Latin-1", "UTF-8"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Project]:
    folder = tmp_path / request.param
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    with Project(folder) as project:
        project.write("books", BOOKS)
        (folder / LATIN_1).write_text("one\ntwo\n")
        yield project


def called(project: Project, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        [*FLOWQ, *arguments],
        cwd=project.folder,
        env=project.environ | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )
    assert "FQ900" not in ended.stderr, ended.stderr
    return ended


@pytest.mark.skipif(sys.platform == "darwin", reason="names of files are always UTF-8 there")
@pytest.mark.parametrize("variables", [{}, ASCII], ids=["UTF-8 locale", "ASCII locale"])
def test_in_a_folder_whose_name_is_not_in_the_locale_everything_works(
    variables: dict[str, str], project: Project
) -> None:
    for workers in ("1", "0"):
        ran = called(project, "run", "books", "-a", f"path={LATIN_1}", "--workers", workers, "--fresh", **variables)
        assert (ran.returncode, ran.stdout.splitlines()) == (0, ["read one", "read two"]), ran.stderr
    json.loads(called(project, "ls", "--json", **variables).stdout)
    assert json.loads(called(project, "doctor", "--json", **variables).stdout)["address"]
    assert called(project, "graph", "books", "-o", f"{LATIN_1}.svg", **variables).returncode == 0
    assert (project.folder / f"{LATIN_1}.svg").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense\udcfc",),
        ("run", LATIN_1),
        ("run", "books", "-a", f"path={LATIN_1}/nowhere", "-a", f"title={LATIN_1}"),
        ("run", "books", "--stage", LATIN_1),
        ("run", "books", "--redis", f"redis://{LATIN_1}"),
        ("run", "books", "--namespace", LATIN_1),
        ("push", "books.read", f'"{LATIN_1}"'),
        ("push", "books.read", '"x"', "--id", LATIN_1),
        ("push", "books.read", f"@{LATIN_1}"),
        ("trace", "books", LATIN_1),
        ("dlq", "show", "books", LATIN_1),
        ("dlq", "import", "books", f"{LATIN_1}/nowhere"),
        ("new", LATIN_1),
    ],
    ids=lambda arguments: " ".join(arguments).encode("ascii", "backslashreplace").decode(),
)
def test_an_argument_that_is_not_utf_8_is_refused_in_plain_words(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with Project(tmp_path) as project:
        project.write("books", BOOKS)
        (tmp_path / LATIN_1).write_bytes(b"\xfc\n")
        ended = called(project, *arguments)
        assert ended.returncode == 2, ended.stderr
        assert ended.stderr.startswith("error[FQ2")
        assert os.fsencode(LATIN_1) not in ended.stderr.encode("utf-8", "surrogateescape")
