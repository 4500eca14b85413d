"""The place of an error is the deepest line of the user's own code, whatever lies below it."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import json
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from flowq.delivery.user_code import place_of_error, place_of_lines
from flowq.errors import Place

ROOT = "/srv/shop"
STDLIB = sysconfig.get_path("stdlib")


def raised(run: Callable[[], object]) -> BaseException:
    """What a call raises."""
    try:
        run()
    except BaseException as error:  # noqa: BLE001
        return error
    raise AssertionError("nothing was raised")


def function(source: str, file: str) -> Callable[[], Any]:
    """`run` of a module that was compiled from a file which does not exist, as after a deployment."""
    names: dict[str, Any] = {}
    exec(compile(source, file, "exec"), names)
    made: Callable[[], Any] = names["run"]
    return made


def stack(*files: str) -> list[tuple[CodeType, int]]:
    """A call stack through these files, each on a line of its own."""
    return [(compile("", file, "exec"), number) for number, file in enumerate(files, 1)]


def test_the_deepest_own_line_is_named_and_not_that_of_a_library() -> None:
    run = function("import json\n\ndef run():\n    return json.loads('{')\n", f"{ROOT}/pipelines/shop.py")

    error = raised(run)

    assert isinstance(error, json.JSONDecodeError)
    assert place_of_error(error, ROOT) == Place("pipelines/shop.py", 4)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(
            (f"{ROOT}/shop.py", f"{ROOT}/.venv/lib/python3.12/site-packages/httpx/_api.py"),
            Place("shop.py", 1),
            id="a virtual environment inside the project",
        ),
        pytest.param(
            (f"{ROOT}/shop.py", f"{ROOT}/prices/parse.py", f"{STDLIB}/decimal.py"),
            Place("prices/parse.py", 2),
            id="a module of the user's that the handler calls",
        ),
        pytest.param(
            ("/usr/lib/python3/dist-packages/tenacity/__init__.py", f"{ROOT}/shop.py", f"{STDLIB}/json/decoder.py"),
            Place("shop.py", 2),
            id="a decorator from a library around the handler",
        ),
        pytest.param(
            (f"{ROOT}/shop.py", "<frozen importlib._bootstrap>", "<attrs generated init shop.Price>"),
            Place("shop.py", 1),
            id="generated and frozen code",
        ),
        pytest.param(("<stdin>", f"{STDLIB}/json/decoder.py"), Place("<stdin>", 1), id="a program on standard input"),
        pytest.param(
            (f"{ROOT}/shop.zip/prices/parse.py", "/usr/lib/python312.zip/json/decoder.py"),
            Place("shop.zip/prices/parse.py", 1),
            id="a zipped module",
        ),
        pytest.param(
            (
                "/opt/venv/lib/python3.13/site-packages/shop/pipelines.py",
                "/opt/venv/lib/python3.13/site-packages/shop/parse.py",
                "/opt/venv/lib/python3.13/site-packages/httpx/_api.py",
            ),
            Place("/opt/venv/lib/python3.13/site-packages/shop/parse.py", 2),
            id="a pipeline that is an installed package",
        ),
        pytest.param(("/srv/shop2/shop.py",), Place("/srv/shop2/shop.py", 1), id="a file outside of the project"),
        pytest.param(
            (f"{STDLIB}/json/__init__.py", f"{STDLIB}/json/decoder.py"),
            Place(f"{STDLIB}/json/decoder.py", 2),
            id="a function of Python's as the handler",
        ),
        pytest.param((), None, id="no code at all"),
    ],
)
def test_the_place_in_a_call_stack(files: tuple[str, ...], expected: Place | None) -> None:
    assert place_of_lines(stack(*files), ROOT) == expected


def test_the_first_error_of_a_task_group_has_the_place() -> None:
    source = """
import asyncio

async def price():
    raise ValueError("no price")

async def run():
    async with asyncio.TaskGroup() as group:
        group.create_task(price())
"""
    run = function(source, f"{ROOT}/shop.py")

    assert place_of_error(raised(lambda: asyncio.run(run())), ROOT) == Place("shop.py", 5)


def test_an_error_that_was_made_elsewhere_has_the_place_of_its_cause() -> None:
    run = function("def run():\n    raise OSError('gone')\n", f"{ROOT}/shop.py")
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = raised(run)

    assert place_of_error(wrapped, ROOT) == Place("shop.py", 2)


def test_an_error_that_the_user_raises_from_another_has_its_own_place() -> None:
    source = (
        "def run():\n    try:\n        int('x')\n    except ValueError as error:\n        raise OSError() from error\n"
    )

    assert place_of_error(raised(function(source, f"{ROOT}/shop.py")), ROOT) == Place("shop.py", 5)


def test_errors_that_cause_each_other_are_read_once() -> None:
    one, other = ValueError(), ValueError()
    one.__cause__, other.__cause__ = other, one

    assert place_of_error(ExceptionGroup("both", [one, other]), ROOT) is None


def test_a_method_that_a_dataclass_generates_is_not_named() -> None:
    @dataclasses.dataclass
    class Price:
        text: str

        def __post_init__(self) -> None:
            int(self.text)

    place = place_of_error(raised(lambda: Price("x")), str(Path(__file__).parent))

    assert place is not None
    assert place.file == "test_user_code.py"


def test_a_module_in_a_zip_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.writestr("zipped_prices.py", "def run():\n    return 1 / 0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "app.zip"), *sys.path])
    run = importlib.import_module("zipped_prices").run

    assert place_of_error(raised(run), str(tmp_path)) == Place("app.zip/zipped_prices.py", 2)


def test_a_timeout_has_the_line_that_was_waited_in_and_not_that_of_the_clock() -> None:
    """asyncio makes a TimeoutError, in a file of its own, of the cancellation of what was waited for."""
    waited = raised(function("def run():\n    raise ZeroDivisionError\n", f"{ROOT}/shop.py"))
    timeout = raised(function("def run():\n    raise TimeoutError\n", f"{STDLIB}/asyncio/timeouts.py"))
    of_asyncio = timeout.__traceback__
    assert of_asyncio is not None
    timeout = timeout.with_traceback(of_asyncio.tb_next)
    timeout.__cause__ = waited

    assert place_of_error(timeout, ROOT) == Place("shop.py", 2)
