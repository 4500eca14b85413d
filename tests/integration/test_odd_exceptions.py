"""Odd exceptions of the user's code, such as no `Exception` at all: told like any other, and without a traceback."""

from __future__ import annotations

import pytest

from tests.integration.project import Project

PIPELINE = """
    import asyncio
    from collections.abc import Iterator

    from flowq import Pipeline, Rate, Retry, resource, source, stage, use


    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise ValueError("cannot be told")

        __repr__ = __str__


    def fail(here: str) -> None:
        if here == "WHERE":
            raise RAISED("of the user")


    fail("at import")


    @resource
    def opened() -> Iterator[int]:
        fail("when a resource opens")
        yield 1
        fail("when a resource closes")


    def key(n: int) -> str:
        fail("in a key")
        return str(n)


    @source
    def numbers() -> Iterator[int]:
        yield 1
        fail("in a source")


    @stage(rate=Rate(100, by=key), dedup=key, retry=Retry(attempts=1))
    def take(n: int, one: int = use(opened)) -> None:
        fail("in a handler")


    odd = Pipeline("odd", numbers >> take)
"""
PLACES = ("at import", "when a resource opens", "when a resource closes", "in a key", "in a handler", "in a source")


def ended(project: Project, where: str, raised: str, *flags: str) -> tuple[int, str]:
    project.write("odd", PIPELINE.replace("WHERE", where).replace("RAISED", raised))
    run = project.run("run", "odd", "-q", *flags)
    return run.wait(), run.stderr


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("raised", ["GeneratorExit", "SystemExit", "Unspeakable"])
def test_it_is_said_in_plain_words(raised: str, where: str, project: Project) -> None:
    code, told = ended(project, where, raised, "--memory")
    assert code in (1, 2, 3), told
    assert "Traceback" not in told
    assert "FQ900" not in told


@pytest.mark.parametrize("where", PLACES)
def test_a_keyboard_interrupt_of_the_users_code_shows_no_traceback_either(where: str, project: Project) -> None:
    code, told = ended(project, where, "KeyboardInterrupt", "--memory")
    assert code in (1, 3, 130), told
    assert "Traceback" not in told
    assert "FQ900" not in told


def test_a_worker_process_tells_it_as_well(project: Project) -> None:
    code, told = ended(project, "when a resource opens", "GeneratorExit", "--workers", "1")
    assert code != 0
    assert "Traceback" not in told
    assert "GeneratorExit" in told
