"""Why messages are tried again: every screen, the output of a run, logs and metrics name error, place and attempt."""

from __future__ import annotations

import json
import re
import signal
import time
from typing import Any

import pytest
import redis

from flowq.broker.keys import Keys
from tests.integration.flowq_process import FLOWQ, FlowqProcess
from tests.integration.http_client import samples, url_of
from tests.integration.project import Project
from tests.integration.terminal import Terminal

SHOP = """
    from __future__ import annotations

    import asyncio

    from pydantic import BaseModel

    from flowq import BatchFailed, Context, Pipeline, Rate, Retry, RetryLater, stage

    AGAIN = Retry(attempts=5, base=3600, max=3600, jitter=False)


    class Call(BaseModel):
        host: str


    def check(order: int) -> None:
        raise ValueError(f"bad price {order}")  # price


    @stage(retry=AGAIN, concurrency=100)
    async def price(order: int, ctx: Context) -> None:
        check(order)  # price handler


    @stage(retry=AGAIN)
    def in_thread(order: int) -> None:
        raise KeyError("price")  # in_thread


    @stage(retry=AGAIN, process=True)
    def in_process(order: int) -> None:
        raise KeyError("price")  # in_process


    @stage(retry=AGAIN, timeout=0.1)
    async def slow(order: int) -> None:
        await asyncio.sleep(60)  # slow


    @stage(retry=AGAIN)
    async def later(order: int) -> None:
        raise RetryLater("the bank is closed", after="1h")  # later


    @stage(retry=AGAIN, rate=Rate(1000, by="host"))
    async def held(call: Call) -> None:
        raise RetryLater("HTTP 429", after="1h", hold="host")  # held


    @stage(retry=AGAIN, batch=2, linger=0.1)
    async def together(orders: list[int]) -> None:
        raise ValueError("bad batch")  # together


    @stage(retry=AGAIN, batch=2, linger=0.1)
    async def partly(orders: list[int]) -> None:
        raise BatchFailed({0: ValueError("no price")})  # partly


    @stage(retry=AGAIN, ack="manual")
    async def manual(order: int, ctx: Context) -> None:
        raise ValueError("not yet acknowledged")  # manual


    shop = Pipeline("shop", price, in_thread, in_process, slow, later, held, together, partly, manual)
"""
TWO_WAYS = """raise RetryLater("closed", after=3600) if ctx.attempt == 3 else ValueError("bad price 7")"""
# The error of each stage, and the number of the attempt that comes next.
EXPECTED = {
    "price": ("ValueError: bad price 7", 2),
    "in_thread": ("KeyError: 'price'", 2),
    "in_process": ("KeyError: 'price'", 2),
    "slow": ("HandlerTimeout: ran longer than 0.1 s", 2),
    "later": ("RetryLater: the bank is closed", 2),
    "held": ("RetryLater: HTTP 429", 1),  # a hold is no attempt
    "together": ("ValueError: bad batch", 2),
    "partly": ("ValueError: no price", 2),
    "manual": ("ValueError: not yet acknowledged", 2),
}

pytestmark = pytest.mark.project({"shop": SHOP}, redis="debian")


def place_of(project: Project, stage: str) -> str:
    """The line with the comment that names this stage, as a person counts lines."""
    lines = (project.folder / "pipelines" / "shop.py").read_text().splitlines()
    return f"pipelines/shop.py:{1 + [line.endswith(f'# {stage}') for line in lines].index(True)}"


def push(project: Project, stage: str, *messages: str) -> None:
    """Add messages to the inlet of a stage as any other program can."""
    url, namespace = project.variables["FLOWQ_REDIS_URL"], project.variables["FLOWQ_NAMESPACE"]
    with redis.Redis.from_url(url) as client, client.pipeline() as together:
        for n, message in enumerate(messages):
            together.xadd(Keys(namespace, "shop").edge(f">{stage}"), {"h": f"{stage}{n} - - 0", "b": message})
        together.hincrby(Keys(namespace, "shop").stats, f"in:>{stage}", len(messages))
        together.execute()


def all_errors(project: Project) -> dict[str, list[dict[str, Any]]]:
    """The errors of each stage that has any."""
    stages = json.loads(project.ok("status", "shop", "--json").stdout)["stages"]
    return {name: stage["errors"] for name, stage in stages.items() if stage["errors"]}


def has_failed(project: Project, stage: str, retries: int) -> bool:
    """Whether as many attempts have failed with the first error of a stage."""
    found = all_errors(project).get(stage)
    return found is not None and found[0]["retries"] == retries


@pytest.fixture
def failing(project: Project) -> FlowqProcess:
    """A run in which twelve messages of `price` have failed once, and wait for an hour."""
    push(project, "price", *map(str, range(12)))
    run = project.start("run", "shop", "--stage", "price", "--forever", "--metrics", ":0")
    run.wait_for(lambda: has_failed(project, "price", 12))
    return run


def test_each_way_to_fail_is_shown_with_its_error_its_place_and_its_attempt(project: Project) -> None:
    for stage in EXPECTED:
        push(project, stage, '{"host": "a.example"}' if stage == "held" else "7")
    run = project.start("run", "shop", "--forever")
    run.wait_for(lambda: all_errors(project).keys() == EXPECTED.keys())

    shown = all_errors(project)
    for stage, (error, attempt) in EXPECTED.items():
        (found,) = shown[stage]
        assert (found["error"], found["place"]) == (error, place_of(project, stage)), stage
        assert (found["retries"], found["delayed"]) == (1, 1), stage
        assert (found["attempt"], found["attempts"]) == (attempt, 5), stage
        assert 3000 < found["next_try_seconds"] <= 3600, stage


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("columns", [80, 120])
def test_status_says_below_the_stages_what_delays_how_many_messages(project: Project, columns: int) -> None:
    shown = project.ok("status", "shop", COLUMNS=str(columns)).stdout

    assert all(len(line) <= columns for line in shown.splitlines())
    place = re.escape(place_of(project, "price"))
    words = rf"price  ValueError: bad price \d+  {place}\s+12 retries, 12 delayed, attempt 2 of 5 in (5\dm\d\ds|1h00m)"
    assert re.search(words, shown), shown


@pytest.mark.usefixtures("failing")
def test_top_shows_the_same(project: Project) -> None:
    with Terminal((*FLOWQ, "top", "shop"), project.folder, project.environ) as top:
        shown = top.wait_for(lambda text: "12 delayed, attempt 2 of 5" in text)

    assert f"  {place_of(project, 'price')}" in shown


@pytest.mark.usefixtures("failing")
def test_peek_and_trace_show_the_failed_attempts_of_each_message(project: Project) -> None:
    place = place_of(project, "price")
    values = json.loads(project.ok("peek", "shop.price", "-n", "1", "--json").stdout)
    last = rf" attempt 1 of 5: {values['error']}  {place}"

    lines = project.ok("peek", "shop.price", "-n", "12", COLUMNS="80").stdout.splitlines()
    traced = project.ok("trace", "shop", values["id"]).stdout.splitlines()
    as_json = json.loads(project.ok("trace", "shop", values["id"], "--json").stdout)

    assert (values["attempt"], values["attempts"], values["place"]) == (2, 5, place)
    assert len(lines) == 24
    assert last in lines[1]
    assert all(line.endswith(place) and len(line) <= 80 for line in lines[1::2])
    assert traced[0].startswith(f"▸ {values['id']}  delayed on >price until ")
    assert last in traced[1]
    assert as_json["messages"][0]["places"][0]["failures"] == [
        {"first": 1, "last": 1, "error": values["error"], "place": place}
    ]


def test_a_message_that_failed_in_two_ways_tells_both(project: Project) -> None:
    project.write("shop", SHOP.replace("base=3600, max=3600", "base=0.001").replace("check(order)", TWO_WAYS))
    push(project, "price", "7")
    run = project.start("run", "shop", "--stage", "price", "--forever")
    run.wait_for(lambda: [found for found in all_errors(project).get("price", ()) if found["attempt"] == 4])

    (message,) = json.loads(project.ok("trace", "shop", "price0", "--json").stdout)["messages"]

    assert [(each["first"], each["last"], each["error"]) for each in message["places"][0]["failures"]] == [
        (1, 2, "ValueError: bad price 7"),
        (3, 3, "RetryLater: closed"),
    ]


def test_a_dead_letter_shows_when_each_attempt_failed_and_with_which_error(project: Project) -> None:
    project.write(
        "shop", SHOP.replace("attempts=5, base=3600", "attempts=3, base=0.001").replace("check(order)", TWO_WAYS)
    )
    push(project, "price", "7")
    began_ms = time.time() * 1000
    project.run("run", "shop", "--stage", "price", "--drain")

    shown = project.ok("dlq", "show", "shop", "1").stdout
    letter = json.loads(project.ok("dlq", "show", "shop", "1", "--json").stdout)
    traced = project.ok("trace", "shop", "price0").stdout

    place = place_of(project, "price handler")
    for attempt in (1, 2):
        words = rf"failed      [\d:]{{8}}  attempt {attempt} of 3: ValueError: bad price 7  {place}"
        assert re.search(words, shown)
    assert re.search(rf"[\d:]{{8}}( to [\d:]{{8}})?  attempts 1–2 of 3: ValueError: bad price 7  {place}", traced)
    assert re.search(r"[\d:]{8}  attempt 3 of 3: RetryLater: closed", traced)
    tried = letter["each_attempt"]
    assert [(each["first"], each["last"], each["error"]) for each in tried] == [
        (1, 1, "ValueError: bad price 7"),
        (2, 2, "ValueError: bad price 7"),
        (3, 3, "RetryLater: closed"),
    ]
    assert began_ms <= tried[0]["at_ms"] <= tried[1]["at_ms"] <= tried[2]["at_ms"] <= time.time() * 1000
    assert letter["failures"] == [{"first": 1, "last": 2, "error": "ValueError: bad price 7", "place": place}]


# What a run says


def test_a_thousand_messages_with_one_error_are_one_line_and_a_count(project: Project) -> None:
    push(project, "price", *map(str, range(1000)))
    run = project.start("run", "shop", "--stage", "price", "--forever")
    run.wait_for(lambda: has_failed(project, "price", 1000))
    run.signal_group(signal.SIGINT)
    run.wait()

    first, *counts = [line for line in run.stderr.splitlines() if line.startswith("retry")]
    words = rf"retry  [\d,]+×  price  ValueError: bad price \d+  {re.escape(place_of(project, 'price'))}"
    assert re.fullmatch(rf"{words}  attempt 2 of 5 in (5\dm\d\ds|1h00m)", first)
    assert re.fullmatch(words, counts[-1] if counts else first.partition("  attempt")[0])
    assert "retry  1,000×" in (counts or [first])[-1]
    assert len(counts) <= 2


def test_a_run_on_a_terminal_says_it_once_and_counts_below_its_table(project: Project) -> None:
    push(project, "price", *map(str, range(30)))

    with Terminal((*FLOWQ, "run", "shop", "--stage", "price", "--forever"), project.folder, project.environ) as run:
        shown = run.wait_for(lambda text: re.search(r"^ price  .*  30 retries$", text, re.MULTILINE))
        run.press("\x03")
        run.wait()

    assert len(re.findall(r"^retry ", shown, re.MULTILINE)) == 1
    assert f"{place_of(project, 'price')}  30 retries" in shown


def test_json_logs_have_the_error_its_place_and_its_attempts_as_fields(project: Project) -> None:
    push(project, "price", "7")
    run = project.start("run", "shop", "--stage", "price", "--forever", "--log-format", "json")
    run.wait_for(lambda: "ValueError" in run.stderr)

    (line,) = [found for line in run.stderr.splitlines() if "error" in (found := json.loads(line))]
    place = place_of(project, "price")
    assert (line["stage"], line["error"], line["place"]) == ("price", "ValueError: bad price 7", place)
    assert (line["attempt"], line["attempts"], line["retries"]) == (2, 5, 1)
    assert 3000 < line["next_try_seconds"] <= 3600


def test_a_run_that_prints_json_counts_the_errors_of_each_stage(project: Project) -> None:
    push(project, "price", "7", "8")
    run = project.start("run", "shop", "--stage", "price", "--forever", "--json")

    def found() -> list[dict[str, Any]]:
        last = run.stdout.rpartition("\n")[0].rpartition("\n")[2]
        values: list[dict[str, Any]] = json.loads(last)["stages"]["price"]["errors"] if last else []
        return values

    run.wait_for(lambda: [error for error in found() if error["retries"] == 2])
    assert [(error["place"], error["attempt"]) for error in found()] == [(place_of(project, "price"), 2)]


def test_metrics_count_retries_by_the_type_of_the_error(project: Project, failing: FlowqProcess) -> None:
    exporter = project.start("exporter", "shop", "--listen", "0")

    for process in (failing, exporter):
        retries = {key[1:]: n for key, n in samples(url_of(process)).items() if key[0] == "flowq_retries_total"}
        assert retries["ValueError", "shop", "price"] == 12
        assert sum(retries.values()) == 12


def test_the_text_of_an_error_moves_no_cursor_and_ends_no_line(project: Project) -> None:
    hostile = '"\\x1b[2J\\x07 \\u202e first\\x85 \\ud800"'
    project.write("shop", SHOP.replace('"not yet acknowledged"', hostile))
    push(project, "manual", "7")
    run = project.start("run", "shop", "--stage", "manual", "--forever")
    run.wait_for(lambda: has_failed(project, "manual", 1))

    shown = [
        project.ok("status", "shop").stdout,
        project.ok("peek", "shop.manual").stdout,
        project.ok("trace", "shop", "manual0").stdout,
        run.stderr,
    ]
    for text in shown:
        assert r"ValueError: \x1b[2J\x07 \u202e first" in text
        assert all(line.isprintable() for line in text.splitlines())


def test_nothing_is_said_where_nothing_fails(project: Project) -> None:
    project.write("shop", SHOP.replace("check(order)", "..."))
    push(project, "price", "7")

    run = project.ok("run", "shop", "--stage", "price", "--drain")

    assert "retry" not in run.stderr
    assert all_errors(project) == {}
