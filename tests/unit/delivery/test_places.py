"""Which line of the user's code an error is blamed on."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import flowq
from flowq.delivery.places import TracebackInProcess, place_of_error
from flowq.errors import Place

SITE = "/venv/lib/python3.12/site-packages"


def function_in(file: str, source: str, **names: Any) -> Callable[..., Any]:
    """The function `f` of a file that need not exist."""
    exec(compile(source, file, "exec"), names)
    function: Callable[..., Any] = names["f"]
    return function


def raised_by(function: Callable[[], Any]) -> BaseException:
    try:
        function()
    except BaseException as error:
        trace = error.__traceback__
        return error.with_traceback(trace and trace.tb_next)  # without the line above
    pytest.fail("it raised nothing")


def test_the_deepest_line_of_the_users_own_code_is_named_and_not_the_library_below_it() -> None:
    library = function_in(f"{SITE}/httpx/client.py", "\n\ndef f(): raise OSError('no route')")
    deeper = function_in("/app/lib/prices.py", "\ndef f(): return library()", library=library)
    handler = function_in("/app/pipelines/shop.py", "def f(): deeper()", deeper=deeper)

    assert place_of_error(raised_by(handler)) == Place("/app/lib/prices.py", 2)


def test_the_standard_library_is_not_the_users_code() -> None:
    handler = function_in("/app/shop.py", "def f(): return loads('{')", loads=json.loads)

    assert place_of_error(raised_by(handler)) == Place("/app/shop.py", 1)


def test_a_file_inside_the_current_directory_is_named_relative_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    handler = function_in(str(tmp_path / "pipelines" / "shop.py"), "def f(): return 1 / 0")

    assert place_of_error(raised_by(handler)) == Place("pipelines/shop.py", 1)


def test_a_pipeline_that_is_installed_as_a_package_is_the_users_own() -> None:
    library = function_in(f"{SITE}/httpx/client.py", "def f(): raise OSError")
    deeper = function_in(f"{SITE}/shop/prices.py", "\n\n\ndef f(): library()", library=library)
    handler = function_in(f"{SITE}/shop/pipeline.py", "def f(): deeper()", deeper=deeper)

    assert place_of_error(raised_by(handler)) == Place(f"{SITE}/shop/prices.py", 4)


def test_a_group_is_blamed_on_its_first_error() -> None:
    handler = function_in("/app/shop.py", "def f(): raise ValueError")
    other = function_in("/app/other.py", "def f(): raise ValueError")
    group = BaseExceptionGroup("", [BaseExceptionGroup("", [raised_by(handler)]), raised_by(other)])

    assert place_of_error(group) == Place("/app/shop.py", 1)


def test_an_error_of_another_process_is_blamed_by_the_text_of_its_traceback() -> None:
    error = ValueError("bad price")
    error.__cause__ = TracebackInProcess(
        "\nTraceback (most recent call last):\n"
        '  File "/app/shop.py", line 31, in price\n    check()\n'
        f'  File "{SITE}/money.py", line 7, in check\n    raise ValueError\nValueError: bad price\n'
    )

    assert place_of_error(error) == Place("/app/shop.py", 31)


def test_an_error_that_was_never_in_the_users_code_has_no_place() -> None:
    assert place_of_error(ValueError("never raised")) is None
    assert place_of_error(raised_by(partial(flowq.RetryLater, after="soon"))) is None
