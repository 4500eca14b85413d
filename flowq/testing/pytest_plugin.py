"""The plugin for pytest: fixtures for harnesses and explorations, and options for their seeds and their server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest

if TYPE_CHECKING:
    from flowq.graph.pipeline import Pipeline
    from flowq.testing import Harness, Report

__tracebackhide__ = True  # pytest shows the line of the test

# Every run of pytest in an environment with flowq imports this file: what it needs of flowq is imported on first use.

_MAKERS = pytest.StashKey["list[NewHarness]"]()


class NewHarness:
    """Makes the harnesses of one test. The type of the fixture `flowq_harness`; `seeds` lists those it has used."""

    def __init__(self, seed: int, redis: str | None) -> None:
        self._defaults: dict[str, Any] = {"seed": seed} | ({} if redis is None else {"redis": redis})
        self.seeds: list[int] = []

    def __call__(self, pipeline: Pipeline, **options: Any) -> Harness:
        """A harness of this pipeline. Takes what `flowq.testing.harness` takes; what is given here has precedence."""
        from flowq.testing import harness

        chosen = self._defaults | options
        self.seeds.append(chosen["seed"])
        return harness(pipeline, **chosen)


class Explore:
    """Explores pipelines. The type of the fixture `flowq_explore`."""

    def __init__(self, start_seed: int | None, seeds: int | None, redis: str | None) -> None:
        chosen = {"start_seed": start_seed, "seeds": seeds, "redis": redis}
        self._chosen: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}

    async def __call__(self, pipeline: Pipeline, build: Callable[..., Awaitable[None]], **options: Any) -> Report:
        """Explore this pipeline as `flowq.testing.explore` does; the options of pytest have precedence."""
        from flowq.testing import explore

        return await explore(pipeline, build, **options | self._chosen)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("flowq")
    group.addoption(
        "--flowq-seed",
        type=int,
        metavar="N",
        help="The seed of the fixture flowq_harness (default: made of the id of each test), and the first seed of "
        "flowq_explore.",
    )
    group.addoption("--flowq-seeds", type=int, metavar="N", help="How many seeds flowq_explore tries.")
    group.addoption(
        "--flowq-redis",
        metavar="URL",
        help="A Redis for both fixtures (default: a fake one). Each harness uses a namespace of its own.",
    )


@pytest.fixture
def flowq_harness(request: pytest.FixtureRequest) -> NewHarness:
    """Make harnesses: `async with flowq_harness(pipeline, faults=[...]) as h`.

    Works in any async test, whichever plugin runs it. The seed is made of the id of the test, or is that of
    `--flowq-seed`; a failing test shows it.
    """
    config = request.config
    seed: int | None = config.getoption("--flowq-seed")
    maker = NewHarness(crc32(request.node.nodeid.encode()) if seed is None else seed, config.getoption("--flowq-redis"))
    request.node.stash.setdefault(_MAKERS, []).append(maker)
    return maker


@pytest.fixture
def flowq_explore(pytestconfig: pytest.Config) -> Explore:
    """Explore: `await flowq_explore(pipeline, build, seeds=50)`, with the seeds of `--flowq-seeds` if that is given."""
    options = (pytestconfig.getoption(f"--flowq-{name}") for name in ("seed", "seeds", "redis"))
    return Explore(*options)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say with which seed a harness has failed."""
    report = yield
    if report.failed:
        seeds = sorted({seed for maker in item.stash.get(_MAKERS, list[NewHarness]()) for seed in maker.seeds})
        again = [f'seed {seed}; to run it again:  pytest "{item.nodeid}" --flowq-seed {seed}' for seed in seeds]
        if again:
            report.sections.append(("flowq", "\n".join(again)))
    return report
