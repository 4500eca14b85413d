"""`flowq run --reload`: new code takes over a run, which loses no message, no place in a source, and not its table."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.integration.flowq_process import FLOWQ
from tests.integration.project import Project
from tests.integration.terminal import Terminal

SHOP = """
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from flowq import Pipeline, SourceContext, source, stage
from pricing import priced

@source
async def numbers(ctx: SourceContext[int]) -> AsyncIterator[int]:
    for n in range(ctx.cursor or 0, 6):
        while n > 2 and not Path("go").exists():
            await asyncio.sleep(0.01)
        yield n
        ctx.save(n + 1)

@stage(concurrency=1)
async def take(n: int) -> None:
    with open("taken", "a") as file:
        print(n, priced(n), file=file)

shop = Pipeline("shop", numbers >> take)
"""
PRICING = "def priced(n: int) -> str:\n    return 'old'\n"
TRAILING = "shop = Pipeline("


@pytest.fixture
def shop(project: Project) -> Project:
    project.write("shop", SHOP)
    project.write("pricing.py", PRICING)
    return project


def taken(project: Project) -> list[list[str]]:
    file = project.folder / "taken"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def has_taken(project: Project, count: int) -> Callable[[], bool]:
    return lambda: len(taken(project)) == count


def write_new_prices(project: Project) -> None:
    project.write("pricing.py", PRICING.replace("old", "new"))


def test_a_source_goes_on_where_it_was_with_the_new_code_of_a_neighbour(shop: Project) -> None:
    run = shop.start("run", "shop", "--reload", "--json")
    run.wait_for(has_taken(shop, 3))

    write_new_prices(shop)
    run.wait_for(lambda: "reloaded pricing.py" in run.stderr)
    shop.write("go.txt", "").rename(shop.folder / "go")

    assert run.wait() == 0, run.stderr
    assert taken(shop) == [["0", "old"], ["1", "old"], ["2", "old"], ["3", "new"], ["4", "new"], ["5", "new"]]
    assert (run.summary["drained"], run.summary["stages"]["take"]["ok"]) == (True, 6)


@pytest.mark.project({"shop": """
    import asyncio
    from collections.abc import Iterator
    from pathlib import Path

    from flowq import Pipeline, source, stage

    @source
    def numbers() -> Iterator[int]:
        yield 1

    @stage
    async def take(n: int) -> None:
        Path("began").touch()
        while not Path("go").exists():
            await asyncio.sleep(0.01)
        with open("attempts", "a") as file:
            file.write("ended\\n")

    shop = Pipeline("shop", numbers >> take)
"""})  # fmt: skip
def test_a_running_message_is_finished_by_the_worker_that_began_it(project: Project) -> None:
    run = project.start("run", "shop", "--reload", "--json")
    run.wait_for((project.folder / "began").exists)

    project.write("shop", (project.folder / "pipelines/shop.py").read_text() + "\n# a remark\n")
    run.wait_for(lambda: "shop.py has changed: finishing running messages first" in run.stderr)
    assert "reloaded" not in run.stderr
    (project.folder / "go").touch()

    assert run.wait() == 0, run.stderr
    assert (project.folder / "attempts").read_text() == "ended\n"


def test_the_table_stays_and_code_with_an_error_leaves_the_workers_alone(shop: Project) -> None:
    command = (*FLOWQ, "run", "shop", "--reload", "--forever")
    with Terminal(command, shop.folder, shop.environ, columns=100, lines=40) as screen:
        screen.wait_for(lambda text: "3 done, 0 left" in text)
        workers = shop.workers()

        shop.write("pricing.py", "def priced(n: int -> str:\n")
        text = screen.wait_for(lambda text: "the workers go on with the code they have" in text)
        assert "SyntaxError" in text
        assert "pricing.py:1" in text
        assert shop.workers() == workers

        write_new_prices(shop)
        text = screen.wait_for(lambda text: "reloaded pricing.py" in text)
        assert sum(line.startswith(" stage ") for line in text.splitlines()) == 1
        assert not set(shop.workers()) & set(workers)

        (shop.folder / "go").touch()
        screen.wait_for(lambda text: "6 done, 0 left" in text)
        screen.press("\x03")
        assert screen.wait() == 130
    assert taken(shop)[3:] == [["3", "new"], ["4", "new"], ["5", "new"]]


def test_code_with_other_edges_is_not_taken_into_a_run(shop: Project) -> None:
    run = shop.start("run", "shop", "--reload", "--json")
    run.wait_for(has_taken(shop, 3))

    more = "@stage\ndef other(n: int) -> None: ...\n\n"
    shop.write("shop", SHOP.replace(TRAILING, more + TRAILING).replace("numbers >> take", "numbers >> (take | other)"))
    run.wait_for(lambda: "shop.py has other stages or edges" in run.stderr)
    (shop.folder / "go").touch()

    assert run.wait() == 0, run.stderr
    assert list(json.loads(run.stdout.splitlines()[-1])["stages"]) == ["numbers", "take"]
    assert len(taken(shop)) == 6


@pytest.mark.project({"shop": """
    from collections.abc import Iterator
    from flowq import Pipeline, resource, source, stage, use

    @resource
    def database() -> Iterator[int]:
        raise ConnectionError("no database")
        yield 1

    @source
    def numbers() -> Iterator[int]:
        yield from range(3)

    @stage
    def take(n: int, db: int = use(database)) -> None: ...

    shop = Pipeline("shop", numbers >> take)
"""})  # fmt: skip
def test_a_worker_that_reports_an_error_waits_for_the_next_change(project: Project) -> None:
    run = project.start("run", "shop", "--reload", "--json")
    run.wait_for(lambda: "worker 1 starts again when the code has changed" in run.stderr)
    assert "no database" in run.stderr

    file = project.folder / "pipelines/shop.py"
    file.write_text(file.read_text().replace('    raise ConnectionError("no database")\n', ""))

    assert run.wait() == 0, run.stderr
    assert run.summary["stages"]["take"]["ok"] == 3


@pytest.mark.parametrize("flags", [("--memory",), ("--workers", "0")])
def test_what_runs_in_one_process_cannot_reload(shop: Project, flags: tuple[str, ...]) -> None:
    refused = shop.flowq("run", "shop", "--reload", *flags)

    assert refused.returncode == 2
    assert "--reload restarts worker processes" in refused.stderr


def test_without_watchfiles_the_extra_is_named(shop: Project) -> None:
    shop.write("without/sitecustomize.py", 'import sys\n\nsys.modules["watchfiles"] = None')

    refused = shop.flowq("run", "shop", "--reload", PYTHONPATH=str(shop.folder / "without"))

    assert refused.returncode == 2
    assert refused.stderr == 'error[FQ200]: --reload needs watchfiles    pip install "flowq-streams[reload]"\n'
