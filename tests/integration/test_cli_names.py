"""Names of files, folders and arguments that are not UTF-8, or that Python cannot import."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.integration.flowq_process import ASCII
from tests.integration.project import Project

LATIN_1 = "B\udcfccher"  # "Bücher", as Python sees bytes that are not UTF-8
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


pytestmark = pytest.mark.project({"books": BOOKS})


@pytest.fixture(params=[LATIN_1, "Bücher"], ids=["Latin-1", "UTF-8"])
def oddly_named(project: Project, request: pytest.FixtureRequest) -> Project:
    """The project in a folder of this name."""
    folder = project.folder / request.param
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    (project.folder / "pipelines").rename(folder / "pipelines")
    (folder / LATIN_1).write_text("one\ntwo\n")
    project.folder = folder
    return project


@pytest.mark.skipif(sys.platform == "darwin", reason="names of files are always UTF-8 there")
@pytest.mark.parametrize("variables", [{}, ASCII], ids=["UTF-8 locale", "ASCII locale"])
def test_commands_work_in_folders_the_locale_cannot_decode(variables: dict[str, str], oddly_named: Project) -> None:
    for workers in ("1", "0"):
        ran = oddly_named.flowq("run", "books", "-a", f"path={LATIN_1}", "--workers", workers, "--fresh", **variables)
        assert (ran.returncode, ran.stdout.splitlines()) == (0, ["read one", "read two"]), ran.stderr
    json.loads(oddly_named.flowq("ls", "--json", **variables).stdout)
    assert json.loads(oddly_named.flowq("doctor", "--json", **variables).stdout)["address"]
    assert oddly_named.flowq("graph", "books", "-o", f"{LATIN_1}.svg", **variables).returncode == 0
    assert (oddly_named.folder / f"{LATIN_1}.svg").exists()


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
def test_an_argument_that_is_not_utf_8_is_refused_in_plain_words(arguments: tuple[str, ...], project: Project) -> None:
    (project.folder / LATIN_1).write_bytes(b"\xfc\n")
    ended = project.flowq(*arguments)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("error[FQ2")
    assert os.fsencode(LATIN_1) not in ended.stderr.encode("utf-8", "surrogateescape")


# Names that Python cannot import

PLAIN = """
    from flowq import Pipeline, stage


    @stage
    def take(n: int) -> None:
        print("took", n)


    NAME = Pipeline("NAME", take)
"""


@pytest.fixture
def plain(project: Project) -> Project:
    for place in ("good", "my-rows", "2nd", "größe", "package/__init__", "eu/inner", "with-dash/__init__"):
        name = Path(place).parts[0].replace("-", "_").replace("2nd", "second").replace("ö", "oe").replace("ß", "ss")
        (project.folder / "pipelines" / place).parent.mkdir(exist_ok=True)
        project.write(place, PLAIN.replace("NAME", name))
    (project.folder / "pipelines" / "script-without.py").write_text("print('not a pipeline')")
    return project


def test_ignored_files_are_listed_with_the_remedy(plain: Project) -> None:
    for command in ("ls", "check"):
        ended = plain.flowq(command)
        assert ended.returncode == 0
        assert "package" in ended.stdout
        assert ended.stderr.splitlines() == [
            "pipelines/2nd.py is ignored: Python cannot import a file of that name; rename it to _2nd.py",
            "pipelines/größe.py is ignored: Python cannot import a file of that name; rename it to gr__e.py",
            "pipelines/my-rows.py is ignored: Python cannot import a file of that name; rename it to my_rows.py",
            "pipelines/with-dash is ignored: Python cannot import a folder of that name; rename it to with_dash",
        ]


@pytest.mark.parametrize("name", ["my-rows", "my_rows", "my-rows.py", "pipelines/my-rows.py", "with-dash"])
def test_a_run_of_an_ignored_file_fails_with_the_reason(name: str, plain: Project) -> None:
    ended = plain.flowq("run", name, "--memory")
    assert ended.returncode == 2
    assert "is ignored" in ended.stderr


def test_a_package_is_a_pipeline_like_a_file(plain: Project) -> None:
    ended = plain.flowq("push", "package.take", "1", "--dry-run")
    assert (ended.returncode, ended.stdout) == (0, "valid\n")
    pyproject = plain.folder / "pyproject.toml"
    pyproject.write_text('[tool.flowq]\npipelines = ["pipelines", "pipelines/eu"]\n', encoding="utf-8")
    assert plain.flowq("push", "inner.take", "1", "--dry-run").returncode == 0


def test_of_a_file_and_a_package_of_one_name_the_file_is_reported(plain: Project) -> None:
    plain.write("package", PLAIN.replace("NAME", "shadowed"))
    assert (
        "pipelines/package.py is ignored: Python imports the folder of that name; rename it, or pipelines/package"
        in plain.flowq("ls").stderr
    )


def test_a_file_in_the_root_that_is_named_like_a_module_of_python_is_reported(plain: Project) -> None:
    plain.write("pyproject.toml", '[tool.flowq]\npipelines = "."\n')
    plain.write("queue.py", PLAIN.replace("NAME", "line"))
    plain.write("orders.py", PLAIN.replace("NAME", "orders"))

    assert "queue.py is ignored: Python has a module of that name; rename it" in plain.flowq("ls").stderr
    assert plain.flowq("push", "orders.take", "1", "--dry-run").returncode == 0
