"""`flowq test`: finds what faults do to a pipeline, tells it, and gives real resources to no handler unasked."""

from __future__ import annotations

import json
import re

import pytest
from redis import Redis

from tests.integration.flowq_process import FLOWQ
from tests.integration.project import Project
from tests.integration.terminal import Terminal

SHOP = """
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from flowq import Pipeline, Reject, resource, source, stage, use

class Order(BaseModel):
    number: int
    cents: int

@resource
def till() -> Iterator[dict[int, int]]:
    Path("opened").touch()
    yield {}

@source
def orders(path: Path) -> Iterator[Order]:
    for number, line in enumerate(path.read_text().split()):
        yield Order(number=number, cents=int(line))

@stage
async def check(order: Order) -> Order:
    if order.cents < 0:
        raise Reject("negative")
    return order

@stage
async def charge(order: Order, till: dict[int, int] = use(till)) -> None:
    till[order.number] = order.cents

shop = Pipeline("shop", orders >> check >> charge)
"""
TEST = """
from typing import Any
from flowq import Resource
from pipelines import shop

def fakes() -> dict[Resource[Any], Any]:
    return {shop.till: {}}
"""
COUNTING = """
from flowq import Pipeline, resource, stage, use

@resource
def visits() -> dict[str, int]:
    return {}

@stage
async def count(page: str, visits: dict[str, int] = use(visits)) -> None:
    visits[page] = visits.get(page, 0) + 1

shop = Pipeline("shop", count)
"""
CHECK = """
from typing import Any
from flowq import Resource
from flowq.testing import Harness
from pipelines import shop

def fakes() -> dict[Resource[Any], Any]:
    return {shop.visits: {}}

async def check(h: Harness) -> None:
    pages = h.outputs(shop.count)
    assert h.resource(shop.visits) == {page: pages.count(page) for page in pages}, "counted twice"
"""


@pytest.fixture
def shop(project: Project) -> Project:
    project.write("shop", SHOP)
    project.write("tests/test_shop.py", TEST)
    project.write("cents.txt", "5 -1 7")
    return project


def test_a_correct_pipeline_passes_under_faults(shop: Project) -> None:
    done = shop.flowq("test", "shop", "--seeds", "30", "--json")

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["pipeline"], report["seeds"], report["messages"]) == ("shop", 30, 300)
    assert sum(report["faults"].values()) > 10
    stages = report["stages"]
    assert stages["check"]["calls"] >= 150
    assert stages["check"]["error"] == "Reject: negative"
    assert stages["charge"]["calls"] >= 300 - stages["check"]["dead"]
    assert not (shop.folder / "opened").exists()


def test_the_table_says_what_was_tried(shop: Project) -> None:
    done = shop.flowq("test", "shop", "--seeds", "3", "--count", "2")

    head, *rows, verdict = done.stdout.splitlines()
    assert re.fullmatch(r"shop: 3 seeds with 12 messages in \d+\.\d s", head)
    assert [row.split()[0] for row in rows if row.strip()] == ["stage", "check", "charge", "faults"]
    assert verdict == "nothing lost, nothing doubled, nothing left behind; every balance adds up"


def test_without_a_number_it_ends_within_seconds_and_shows_its_progress(shop: Project) -> None:
    with Terminal((*FLOWQ, "test", "shop"), shop.folder, shop.environ) as screen:
        screen.wait_for(lambda text: re.search(r"shop ━.* [1-9]\d* seeds, \d+ faults", text))
        assert screen.wait(60) == 0
        assert "nothing lost" in screen.text
        assert "━" not in screen.text


def test_an_effect_that_is_not_idempotent_is_found_and_told(project: Project) -> None:
    project.write("shop", COUNTING)
    project.write("tests/test_shop.py", CHECK)

    done = project.flowq("test", "shop", "--seeds", "100", "--count", "2")

    assert (done.returncode, done.stdout) == (1, "")
    assert "error[FQ607]: shop fails with seed " in done.stderr
    assert "AssertionError: counted twice" in done.stderr
    assert "attempt 1  <- again" in done.stderr
    seed = re.findall(r"--seed (\d+) --seeds 1", done.stderr)[0]
    again = project.flowq("test", "shop", "--count", "2", "--seed", seed, "--seeds", "1")
    assert again.stderr == done.stderr


def test_a_real_resource_is_opened_only_if_asked_for(shop: Project) -> None:
    (shop.folder / "tests/test_shop.py").unlink()

    refused = shop.flowq("test", "shop", "--seeds", "1")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "error[FQ224]: " in refused.stderr
    assert "the real till" in refused.stderr
    assert "def fakes(): return {shop.till: ...}" in refused.stderr
    assert not (shop.folder / "opened").exists()

    assert shop.flowq("test", "shop", "--seeds", "1", "--with-real-resources").returncode == 0
    assert (shop.folder / "opened").exists()


def test_fakes_may_be_in_another_file(shop: Project) -> None:
    (shop.folder / "tests/test_shop.py").rename(shop.folder / "tests/replaced.py")

    done = shop.flowq("test", "shop", "--seeds", "1", "--fakes", "tests/replaced.py")
    missing = shop.flowq("test", "shop", "--fakes", "tests/replaced.py:others")

    assert done.returncode == 0, done.stderr
    assert missing.stderr.startswith('error[FQ200]: tests/replaced.py has no function "others"')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_of_that_name\ndef fakes(): return {}", "tests/test_shop.py cannot be imported"),
        ("def fakes(): raise OSError('no fakes')", "fakes() has failed"),
        ("def fakes(): return []", "fakes() does not return fakes"),
    ],
)
def test_fakes_with_an_error_are_named(text: str, said: str, shop: Project) -> None:
    shop.write("tests/test_shop.py", text)

    done = shop.flowq("test", "shop", "--seeds", "1")

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_it_runs_on_a_real_server_and_leaves_nothing_there(shop: Project, redis_url: str) -> None:
    done = shop.flowq("test", "shop", "--seeds", "5", "--redis", redis_url, "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["messages"] == 50
    with Redis.from_url(redis_url) as redis:
        assert redis.dbsize() == 0


def test_a_server_that_does_not_answer_is_named(shop: Project) -> None:
    done = shop.flowq("test", "shop", "--redis", "redis://127.0.0.1:1")

    assert (done.returncode, done.stdout) == (4, "")
    assert "127.0.0.1:1" in done.stderr


def test_messages_come_from_a_file_or_from_the_sources(shop: Project) -> None:
    shop.write("orders.ndjson", '{"number": 1, "cents": 2}\n{"number": 2, "cents": -2}\n')

    of_file = shop.flowq("test", "shop.check", "--messages", "orders.ndjson", "--seeds", "2", "--count", "2", "--json")
    of_source = shop.flowq("test", "shop", "-a", "path=cents.txt", "--seeds", "2", "--json")

    assert json.loads(of_file.stdout)["stages"]["check"]["dead"] == 2
    assert json.loads(of_source.stdout)["stages"]["check"]["dead"] == 2, of_source.stderr
    assert json.loads(of_source.stdout)["stages"]["charge"]["calls"] >= 4
    assert json.loads(of_source.stdout)["messages"] == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nope",), 'error[FQ201]: no pipeline "nope"'),
        (("shop.nope",), 'error[FQ201]: pipeline "shop" has no stage "nope"'),
        (("shop.orders",), 'error[FQ200]: "orders" is a source'),
        (("shop", "-a", "file=x"), "error[FQ200]: no source of shop takes file"),
        (("shop.check", "-a", "path=x"), "error[FQ200]: -a runs sources"),
        (("shop", "--messages", "nowhere"), "error[FQ200]: cannot read nowhere"),
        (("shop.check", "--messages", "cents.txt"), "error[FQ205]: line 1 does not fit check"),
        (("shop", "--fakes", "nowhere.py"), "error[FQ200]: there is no Python file nowhere.py"),
    ],
)
def test_wrong_input_is_said_and_nothing_runs(arguments: tuple[str, ...], said: str, shop: Project) -> None:
    done = shop.flowq("test", *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said), done.stderr


def test_without_its_extra_it_says_what_to_install(shop: Project) -> None:
    shop.write("without/sitecustomize.py", 'import sys\n\nsys.modules["hypothesis"] = None')

    done = shop.flowq("test", "shop", PYTHONPATH=str(shop.folder / "without"))

    assert done.returncode == 2
    assert done.stderr == 'error[FQ200]: flowq test needs hypothesis    pip install "flowq-streams[test]"\n'
