"""`flowq doctor` on real servers, and the warnings of `flowq run` before it starts."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import hiredis
import pytest
import redis

import flowq
from flowq.broker.inspection.health import whole_acl
from tests.faults.deployments import primary_with_replica
from tests.integration.flowq_process import FlowqProcess
from tests.integration.project import Project
from tests.redis_server import RedisServer

PIPELINE = """
from __future__ import annotations
from collections.abc import Iterator
from flowq import Pipeline, source, stage

@source
def numbers() -> Iterator[int]: yield from range(3)

@stage
async def store(number: int) -> None: ...

lab = Pipeline("lab", numbers >> store)
"""
SOUND = ("--appendonly", "yes", "--maxmemory-policy", "noeviction")

SCRIPTS = Path(flowq.__file__).parent / "broker" / "scripts"


pytestmark = pytest.mark.project({"lab": PIPELINE}, COLUMNS="200")


def examined(project: Project, url: str, *arguments: str, exit_code: int = 1) -> Any:
    """The report as JSON."""
    done = project.run("doctor", *arguments, "--json", FLOWQ_REDIS_URL=url)
    assert done.wait() == exit_code, done.stderr + done.stdout
    return json.loads(done.stdout)


def codes(report: Any) -> list[str]:
    assert all(finding["hint"] for finding in report["findings"])
    return [finding["code"] for finding in report["findings"]]


def test_a_server_that_is_set_up_well_has_no_findings(project: Project) -> None:
    with RedisServer("bundled", *SOUND) as server:
        report = examined(project, server.url, exit_code=0)

    assert report["findings"] == []
    assert report["health"]["version"][0] == 8
    assert (report["health"]["topology"], report["health"]["replicas"]) == ("single", 0)
    assert 0 < report["latency_seconds"] < 1
    assert report["losses"]["kill of the process"] == "0"
    assert report["losses"]["power loss"] == "up to ~2 s"


@pytest.mark.parametrize(
    ("name", "small", "code"),
    [
        ("client-output-buffer-limit", "normal 1mb 0 0", "FQ424"),
        ("client-output-buffer-limit", "normal 0 1mb 5", "FQ424"),
        ("proto-max-bulk-len", "1mb", "FQ425"),
        ("client-query-buffer-limit", "1mb", "FQ426"),
    ],
)
def test_a_size_limit_that_is_too_small_is_named_and_its_remedy_works(
    name: str, small: str, code: str, project: Project
) -> None:
    with RedisServer("bundled", *SOUND) as server, redis.Redis.from_url(server.url) as client:
        client.config_set(name, small)
        report = examined(project, server.url)
        assert codes(report) == [code]
        (finding,) = report["findings"]
        assert name in json.dumps(finding)
        _, _, _, setting, value = shlex.split(finding["hint"])
        client.config_set(setting, value)
        assert codes(examined(project, server.url, exit_code=0)) == []


def test_the_server_of_flowq_itself_has_no_findings(project: Project) -> None:
    done = project.ok("doctor")
    assert "  may be lost kill of the process: 0\n              power loss: up to ~2 s\n" in done.stdout


def test_each_finding_stands_on_the_screen_with_its_remedy(project: Project) -> None:
    with RedisServer("debian", "--maxmemory-policy", "allkeys-lru") as server:
        done = project.run("doctor", "lab", FLOWQ_REDIS_URL=server.url)

    assert done.wait() == 1
    assert "may be lost kill of the process: everything" in done.stdout
    assert "warning[FQ410]" in done.stderr
    assert "CONFIG SET maxmemory-policy noeviction" in done.stderr
    assert "warning[FQ411]" in done.stderr
    assert "CONFIG SET appendonly yes" in done.stderr


def test_every_way_to_keep_data_has_its_own_loss_window(project: Project) -> None:
    with RedisServer("bundled", *SOUND) as server, redis.Redis.from_url(server.url) as client:
        losses: dict[str, str] = {}
        for fsync in ("always", "no"):
            client.config_set("appendfsync", fsync)
            losses[fsync] = examined(project, server.url, exit_code=int(fsync == "no"))["losses"]["power loss"]
        client.config_set("appendonly", "no")
        client.config_set("save", "60 1")
        snapshots = examined(project, server.url, exit_code=0)["losses"]

    assert losses == {"always": "0", "no": "up to ~30 s"}
    assert snapshots["kill of the process"] == "all since the last snapshot"


def test_a_user_without_all_permissions_learns_what_is_missing(project: Project) -> None:
    with RedisServer("debian", *SOUND) as server, redis.Redis.from_url(server.url) as client:
        client.execute_command(
            *("ACL", "SETUSER", "worker", "on", ">secret", "~flowq:{lab}:*", "+@all"),
            *("-@dangerous", "-xclaim", "-hincrby"),
        )
        url = server.url.replace("unix://", "unix://worker:secret@")
        report = examined(project, url, "lab")
        other = examined(project, url)
        assert client.keys("*") == []

    assert (report["forbidden"], report["keys_forbidden"]) == (["CLIENT UNBLOCK", "HINCRBY", "XCLAIM"], False)
    assert codes(report) == ["FQ415"]
    assert "~flowq:{lab}:* +client|unblock +hincrby +xclaim" in report["findings"][0]["hint"]
    assert (report["health"]["fsync"], report["health"]["snapshots"]) == (None, None)
    assert "secret" not in json.dumps(report)
    assert other["keys_forbidden"], "keys of other pipelines are not allowed"
    assert "~flowq:* +client|unblock +hincrby +xclaim" in other["findings"][0]["hint"]


def test_the_commands_tried_are_all_that_the_scripts_call() -> None:
    scripts = [file.read_text() for file in SCRIPTS.rglob("*.lua")]
    calls = [
        call for text in scripts for call in re.findall(r"(?:redis\.call|attempt)\('([A-Z]+)'(?:, '([A-Z]+)')?", text)
    ]
    called = {" ".join(call) if call[0] in ("XGROUP", "XINFO", "MEMORY", "CLIENT") else call[0] for call in calls}

    assert len(called) > 20
    assert called - {rule.replace("|", " ") for rule in whole_acl("x").upper().replace("+", "").split()} == set()


def test_replicas_are_seen_with_what_a_failover_would_lose(project: Project) -> None:
    with primary_with_replica() as (primary, replica):
        primary.client.config_set("save", "60 1")
        careless = examined(project, primary.url)
        primary.client.config_set("min-replicas-to-write", "1")
        primary.client.config_set("min-replicas-max-lag", "2")
        careful = examined(project, primary.url, exit_code=0)
        confirmed = project.run("doctor", "--json", FLOWQ_REDIS_URL=primary.url, FLOWQ_DURABILITY="replicated")
        from_replica = examined(project, replica.url)

    assert codes(careless) == ["FQ416"]
    assert "cut off" in careless["losses"]["failover"]
    assert careful["losses"]["failover"] == "what the replica did not have yet: up to ~4 s"
    assert json.loads(confirmed.stdout)["losses"]["failover"].startswith("0 of what is pushed")
    assert "FQ414" in codes(from_replica)


def test_a_redis_that_is_not_there_ends_it_with_4(project: Project) -> None:
    done = project.run("doctor", FLOWQ_REDIS_URL="redis://127.0.0.1:1/0")

    assert done.wait() == 4
    assert "cannot reach Redis" in done.stderr


# Before a run


def run(project: Project, url: str, **variables: str) -> FlowqProcess:
    return project.run("run", "lab", "--workers", "0", FLOWQ_REDIS_URL=url, **variables)


def test_a_run_on_a_sound_server_says_nothing(project: Project) -> None:
    with RedisServer("bundled", *SOUND) as server:
        done = run(project, server.url)

    assert done.wait() == 0
    assert "warning" not in done.stderr


def test_a_run_says_once_what_its_server_may_lose(project: Project) -> None:
    with RedisServer("debian", "--maxmemory-policy", "volatile-ttl") as server:
        done = run(project, server.url)

    assert done.wait() == 0
    assert done.stderr.count("warning[FQ410]") == done.stderr.count("warning[FQ411]") == 1
    assert "maxmemory-policy volatile-ttl" in done.stderr


def test_a_run_that_waits_for_replicas_of_a_server_without_any_is_warned(project: Project) -> None:
    with RedisServer("debian", *SOUND) as server:
        done = project.run("run", "lab", "--for", "1s", FLOWQ_REDIS_URL=server.url, FLOWQ_DURABILITY="replicated")

    assert "warning[FQ413]" in done.stderr


async def test_a_clock_that_goes_wrong_is_reported(project: Project) -> None:
    async with pretender({b"redis_version": b"8.0.0"}, seconds_ahead=-7.0) as url:
        done = await asyncio.to_thread(project.run, "doctor", FLOWQ_REDIS_URL=url)

    assert done.wait() == 1
    assert "the clock of Redis is 7s behind the one here" in done.stderr


async def test_a_server_that_is_too_old_is_refused(project: Project) -> None:
    async with pretender({b"redis_version": b"6.0.16"}) as url:
        done = await asyncio.to_thread(run, project, url)

    assert done.wait() == 4
    assert "is Redis 6.0.16; flowq needs 6.2 or newer" in done.stderr


@asynccontextmanager
async def pretender(info: dict[bytes, bytes], *, seconds_ahead: float = 0.0) -> AsyncIterator[str]:
    """A server that cannot be had here: it answers INFO and TIME as told, has no CONFIG, and agrees to all else."""
    text = b"".join(b"%b:%b\r\n" % item for item in info.items())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(65_536):
            parser.feed(data)
            while isinstance(command := parser.gets(), list):
                if command[0] == b"INFO":
                    writer.write(b"$%d\r\n%b\r\n" % (len(text), text))
                elif command[0] == b"TIME":
                    writer.write(b"*2\r\n:%d\r\n:%d\r\n" % divmod((time.time() + seconds_ahead) * 1e6, 1e6))
                elif command[0] == b"CONFIG":
                    writer.write(b"-ERR unknown command\r\n")
                else:
                    writer.write(b"+OK\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"


SPLIT = """
from dataclasses import dataclass
from flowq import Pipeline, Rate, stage

@dataclass
class Link:
    url: str
    host: str

@stage(dedup="url", rate=Rate(20, by="host"))
async def fetch(link: Link) -> None: ...

split = Pipeline("split", fetch, shards=4)
"""


def test_a_deep_look_finds_equal_messages_that_are_handled_in_two_places(project: Project) -> None:
    project.write("split", SPLIT)
    with RedisServer("bundled", *SOUND) as server:
        for host in "abcde":
            message = json.dumps({"url": "same", "host": host})
            project.ok("push", "split.fetch", message, FLOWQ_REDIS_URL=server.url)
        assert "FQ438" not in codes(examined(project, server.url, "split"))
        assert "FQ438" in codes(examined(project, server.url, "split", "--deep"))
        refused = project.run("doctor", "--deep", FLOWQ_REDIS_URL=server.url)

    assert refused.wait() == 2
    assert "flowq doctor NAME --deep" in refused.stderr
