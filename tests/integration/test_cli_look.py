"""`flowq peek`, `trace`, `purge` and `replay` as a user types them, on a real server without a worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from flowq.broker.keys import GROUP, Keys
from tests.integration.project import SCRAPE, Project

Flowq = Callable[..., Any]


pytestmark = pytest.mark.project({"scrape": SCRAPE}, redis="debian", COLUMNS="100")


@pytest.fixture
def flowq(project: Project) -> Flowq:
    return project.flowq


@pytest.fixture
def client(project: Project) -> Iterator[redis.Redis]:
    """Another client of the same Redis, which has given the first of three pages to a worker."""
    client: redis.Redis = redis.Redis.from_url(project.variables["FLOWQ_REDIS_URL"])
    keys = Keys(project.variables["FLOWQ_NAMESPACE"], "scrape")
    for n, lineage in enumerate(("- - 0", "p0 p0 1", "p0 p1 2")):
        client.xadd(keys.edge(">parse"), {"h": f"p{n} {lineage}", "b": json.dumps({"url": f"u{n}", "html": ""})})
    client.xgroup_create(keys.edge(">parse"), GROUP, "0")
    client.xreadgroup(GROUP, "host:1", {keys.edge(">parse"): ">"}, count=1)
    client.zadd(keys.delayed("fetch>parse"), {"p3": 4e12})
    client.hset(keys.delayed_bodies("fetch>parse"), "p3", 'p3 p0 p2 3\n{"url":"u3","html":""}')
    client.hset(keys.stats, mapping={"in:>parse": 3, "in:fetch>parse": 1})
    yield client
    client.close()


@pytest.mark.usefixtures("client")
def test_peek_shows_one_message_a_line(flowq: Flowq) -> None:
    done = flowq("peek", "scrape.parse")

    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [(line[0], line[3]) for line in lines] == [
        ("running", "p0"),
        ("waiting", "p1"),
        ("waiting", "p2"),
        ("delayed", "p3"),
    ]
    assert all(len(line) <= 100 for line in done.stdout.splitlines())
    as_json = [json.loads(line) for line in flowq("peek", "scrape", "--json").stdout.splitlines()]
    assert [(sight["state"], sight["message"]["url"]) for sight in as_json] == [
        ("running", "u0"),
        ("waiting", "u1"),
        ("waiting", "u2"),
        ("delayed", "u3"),
    ]
    assert flowq("peek", "scrape.fetch").stdout == ""


def test_peek_follows_what_is_pushed(project: Project) -> None:
    with project.piped("peek", "scrape.fetch", "-f", "--json") as peeking:
        assert peeking.stdout is not None
        assert project.flowq("push", "scrape.fetch", '{"url": "u9"}').returncode == 0
        seen = json.loads(peeking.stdout.readline())

    assert (seen["state"], seen["message"]["url"]) == ("waiting", "u9")


@pytest.mark.usefixtures("client")
def test_trace_draws_the_family(flowq: Flowq) -> None:
    done = flowq("trace", "scrape", "p2")

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["p0", "p1", "▸", "p3"]
    assert "running on >parse at host:1" in lines[0]
    assert "delayed on fetch>parse until" in lines[3]
    messages = json.loads(flowq("trace", "scrape", "p0", "--json").stdout)["messages"]
    assert [(message["id"], message["parent"]) for message in messages] == [
        ("p0", None),
        ("p1", "p0"),
        ("p2", "p1"),
        ("p3", "p2"),
    ]


def test_purge_asks_and_counts(flowq: Flowq, client: redis.Redis) -> None:
    asked = flowq("purge", "scrape.parse")
    assert (asked.returncode, asked.stdout) == (0, "")
    assert "flowq purge scrape.parse --yes" in asked.stderr
    assert flowq("purge", "scrape", "--dry-run").stdout == "3 messages would be removed from scrape\n"

    done = flowq("purge", "scrape.parse", "-y")

    assert done.stdout == "3 messages removed from scrape.parse\n"
    assert "1 message still running, not removed" in done.stderr
    assert " purged " in flowq("status", "scrape").stdout
    parse = json.loads(flowq("status", "scrape", "--json").stdout)["stages"]["parse"]
    assert (parse["in"], parse["purged"], parse["running"], parse["waiting"]) == (4, 3, 1, 0)


def test_replay_runs_kept_again(project: Project, flowq: Flowq, client: redis.Redis) -> None:
    project.write(
        "pipelines/scrape.py", SCRAPE.replace("    @stage\n    def parse", '    @stage(keep="1h")\n    def parse')
    )
    keys = Keys(project.variables["FLOWQ_NAMESPACE"], "scrape")
    for n in range(4):
        client.xadd(keys.kept("parse"), {"h": f"k{n} - - 0", "b": json.dumps({"url": f"u{n % 2}", "html": ""})})

    assert flowq("replay", "scrape", "--from", "parse", "--dry-run").stdout == "4 messages would run again from parse\n"
    done = flowq("replay", "scrape", "--from", "parse", "--since", "1h", "--where", "url=u1")

    assert done.stdout == "2 messages run again from parse\n"
    assert done.stderr == "no worker is running:  flowq run scrape --drain -x seeds\n"
    assert json.loads(flowq("replay", "scrape", "--from", "parse", "--json").stdout) == {"parse": 2}
    assert client.xlen(keys.kept("parse")) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("peek", "scrape.prase"), 'has no stage "prase"'),
        (("peek", "scrapp"), 'no pipeline "scrapp"'),
        (("trace", "scrape", "nobody"), "no trace of a message nobody"),
        (("purge", "scrape.prase", "-y"), 'has no stage "prase"'),
        (("replay", "scrape", "--from", "parse"), "parse does not keep settled messages"),
        (("replay", "scrape", "--from", "prase"), 'has no stage "prase"'),
    ],
)
def test_wrong_use_is_one_clear_error(flowq: Flowq, arguments: tuple[str, ...], says: str) -> None:
    done = flowq(*arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.count("error[") == 1


@pytest.mark.parametrize("command", ["peek", "trace", "purge", "replay"])
def test_every_command_has_a_help_with_an_example(flowq: Flowq, command: str) -> None:
    done = flowq(command, "--help")

    assert done.returncode == 0
    assert f"flowq {command} " in done.stdout.split("Example:")[1]


def test_trace_cuts_a_large_family_and_all_shows_it_whole(flowq: Flowq, client: redis.Redis, project: Project) -> None:
    edge = Keys(project.variables["FLOWQ_NAMESPACE"], "scrape").edge("fetch>parse")
    for n in range(40):
        client.xadd(edge, {"h": f"q{n:02} p0 p0 1", "b": "{}"})

    cut = flowq("trace", "scrape", "q33").stdout.splitlines()
    whole = flowq("trace", "scrape", "q33", "--all").stdout.splitlines()
    told = json.loads(flowq("trace", "scrape", "q33", "--json").stdout)

    assert any("▸ q33" in line for line in cut)
    assert cut[-1].split("(")[0].strip() == "and 21 more: 21 waiting"
    assert (len(cut), len(whole), len(told["messages"])) == (24, 44, 44)
    assert (told["looked_at"], told["total"], told["is_complete"], told["left_out"]) == (44, 44, True, 0)
    (running,) = next(message["places"] for message in told["messages"] if message["id"] == "p0")
    assert running["appended_ms"] <= running["started_ms"]
