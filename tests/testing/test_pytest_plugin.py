"""The pytest plugin: its fixtures with every plugin that runs async tests, in processes, in any order; its seeds."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from redis import Redis

from tests.integration.project import clean_environ

SHOP = """
from flowq import Pipeline, stage

@stage
async def double(number: int) -> int:
    return 2 * number

@stage
async def store(number: int) -> None: ...

shop = Pipeline("shop", double >> store)
"""
TEST = """
import pytest
from flowq.testing.pytest_plugin import NewHarness
from shop import double, shop, store

{mark}
@pytest.mark.parametrize("number", range(5))
async def test_double(number: int, flowq_harness: NewHarness) -> None:
    async with flowq_harness(shop) as h, flowq_harness(shop) as other:
        await h.feed(double, number)
        await other.feed(double, number, number)
        await h.drain()
        await other.drain()
        assert (h.outputs(store), other.outputs(store)) == ([2 * number], [2 * number] * 2)
"""
FAILS = """
from shop import double, shop

async def test_it(flowq_harness) -> None:
    async with flowq_harness(shop{seed}) as h:
        await h.feed(double, 1)
        assert False

def test_without_a_harness() -> None:
    assert False
"""

Pytest = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run_pytest(tmp_path: Path) -> Pytest:
    (tmp_path / "shop.py").write_text(SHOP)

    def run(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_shop.py").write_text(dedent(text))
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=clean_environ(), capture_output=True, text=True, timeout=120)

    return run


@pytest.mark.parametrize(
    ("mark", "arguments"),
    [
        ("", ("-o", "asyncio_mode=auto")),
        ("@pytest.mark.asyncio", ("-o", "asyncio_mode=strict")),
        ('@pytest.mark.anyio\n@pytest.mark.parametrize("anyio_backend", ["asyncio"])', ("-p", "no:asyncio")),
        ("", ("-o", "asyncio_mode=auto", "-n", "2")),
        ("", ("-o", "asyncio_mode=auto", "-p", "randomly", "-p", "no:xdist")),
    ],
    ids=["pytest-asyncio auto", "pytest-asyncio strict", "anyio", "xdist", "in random order"],
)
def test_a_harness_works_whichever_plugin_runs_the_test(
    mark: str, arguments: tuple[str, ...], run_pytest: Pytest
) -> None:
    done = run_pytest(TEST.format(mark=mark), *arguments)

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"5 passed in", done.stdout)


def test_a_failing_test_says_its_seed_and_how_to_run_it_again(run_pytest: Pytest) -> None:
    first = run_pytest(FAILS.format(seed=""), "-o", "asyncio_mode=auto", "-p", "no:randomly")
    said = re.findall(
        r'seed (\d+); to run it again:  pytest "test_shop.py::test_it" --flowq-seed (\d+)\n', first.stdout
    )
    assert len(said) == 1, first.stdout
    seed, again = said[0]
    assert seed == again

    second = run_pytest(FAILS.format(seed=""), "-o", "asyncio_mode=auto", "-p", "no:randomly")
    assert f"seed {seed};" in second.stdout
    other = run_pytest(FAILS.format(seed=""), "-o", "asyncio_mode=auto", "--flowq-seed", "42")
    assert "seed 42;" in other.stdout


def test_a_seed_in_the_test_has_precedence(run_pytest: Pytest) -> None:
    done = run_pytest(FAILS.format(seed=", seed=7"), "-o", "asyncio_mode=auto", "--flowq-seed", "42")
    assert "seed 7;" in done.stdout
    assert "seed 42;" not in done.stdout


EXPLORES = """
import asyncio
from flowq.testing import Harness
from flowq.testing.pytest_plugin import Explore
from shop import double, shop

async def build(h: Harness) -> None:
    print("seed", h.seed)
    await h.feed(double, 1)
    await h.drain()

def test_it(flowq_explore: Explore) -> None:
    asyncio.run(flowq_explore(shop, build, seeds=3))
    assert False
"""


@pytest.mark.parametrize(
    ("options", "seeds"),
    [
        ((), ["0", "1", "2"]),
        (("--flowq-seeds", "4"), ["0", "1", "2", "3"]),
        (("--flowq-seed", "7", "--flowq-seeds", "2"), ["7", "8"]),
    ],
)
def test_the_seeds_of_an_exploration_are_those_of_the_command(
    options: tuple[str, ...], seeds: list[str], run_pytest: Pytest
) -> None:
    done = run_pytest(EXPLORES, *options)
    assert re.findall(r"^seed (\d+)$", done.stdout, re.MULTILINE) == seeds, done.stdout


def test_harnesses_share_a_real_server_and_leave_nothing_there(run_pytest: Pytest, redis_url: str) -> None:
    done = run_pytest(TEST.format(mark=""), "-o", "asyncio_mode=auto", "--flowq-redis", redis_url, "-n", "2")

    assert done.returncode == 0, done.stdout + done.stderr
    with Redis.from_url(redis_url) as redis:
        assert redis.info("commandstats")["cmdstat_xadd"]["calls"] >= 15
        assert redis.dbsize() == 0


def test_a_run_of_pytest_that_uses_no_fixture_imports_nothing_heavy(run_pytest: Pytest) -> None:
    done = run_pytest("""
        import sys

        def test_imports() -> None:
            assert "flowq.testing.pytest_plugin" in sys.modules
            assert not {"redis", "fakeredis", "pydantic", "hypothesis.strategies", "flowq.broker"} & {*sys.modules}
        """, "-p", "no:randomly", "-p", "no:hypothesispytest")  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
