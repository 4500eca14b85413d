"""A Redis user without all permissions is an error at once, with names; nothing waits and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

import flowq
from flowq.broker.inspection.health import probes, whole_acl
from flowq.errors import BrokerRefused
from tests.eventually import eventually
from tests.integration.project import Project
from tests.redis_server import KINDS, RedisServer
from tests.runtime.lab import Item, Lab, items
from tests.runtime.record import SHORT_LEASE_SECONDS, Record, recorded

SAFETY_SECONDS = 60.0
KINDS_OF_COMMAND = ("CLIENT", "MEMORY", "XGROUP", "XINFO")
N = 100

SCRIPTS = Path(flowq.__file__).parent / "broker" / "scripts"


class Guarded:
    """A server, its administrator, and a user who can be given other rights."""

    def __init__(self, server: RedisServer, admin: redis.Redis) -> None:
        self.admin = admin
        self.url = server.url.replace("unix://", "unix://worker:sesame@")

    def permit(self, *rules: str) -> None:
        self.admin.execute_command("ACL", "SETUSER", "worker", "reset", "on", ">sesame", *rules)

    @property
    def denials(self) -> list[str]:
        """What has been refused since the last call, except CONFIG GET: it tells passwords, and flowq does without."""
        log = self.admin.acl_log()
        self.admin.acl_log_reset()
        return [entry["object"] for entry in log if entry["object"] != "config|get"]


@pytest.fixture(params=KINDS)
def guarded(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    with (
        RedisServer(request.param) as server,
        redis.Redis.from_url(server.url, decode_responses=True) as admin,
    ):
        yield Guarded(server, admin)


def _commands() -> list[str]:
    named = [" ".join(words[: 2 if words[0] in KINDS_OF_COMMAND else 1]) for words in probes("x")]
    return sorted(set(named))


# At the start


async def test_a_run_lacking_a_permission_does_not_begin_and_names_it(guarded: Guarded, unique_namespace: str) -> None:
    record = Record()
    pipeline = recorded(record)
    guarded.permit("~*", "+@all")
    lab = Lab.at(guarded.url, unique_namespace)
    await lab.push(pipeline, "first", *items(3))
    for command in set(_commands()) - {"XREVRANGE", "SISMEMBER", "SPOP", "UNLINK"}:
        guarded.permit("~*", "+@all", f"-{command.lower().replace(' ', '|')}")
        with pytest.raises(BrokerRefused) as refused:
            await flowq.run(pipeline, redis=guarded.url, namespace=unique_namespace)
        assert (refused.value.code, refused.value.exit_code) == ("FQ402", 4), command
        assert command in refused.value.message
        assert f"+{command.lower().replace(' ', '|')}" in refused.value.hint
    assert not record.handled

    guarded.permit("~*", "+@all", "-xrevrange", "-sismember", "-spop", "-unlink")  # what an earlier version needs
    await flowq.run(pipeline, redis=guarded.url, namespace=unique_namespace)
    record.check(3, reruns=0)
    await lab.close()


async def test_a_run_does_not_begin_on_keys_that_its_user_may_not_use(guarded: Guarded, unique_namespace: str) -> None:
    guarded.permit("~elsewhere:*", "+@all")

    with pytest.raises(BrokerRefused, match="use the keys") as refused:
        await flowq.run(recorded(Record()), redis=guarded.url, namespace=unique_namespace)
    assert f"~{unique_namespace}:{{" in refused.value.hint


# In the middle: permissions are taken away while a run is at work


@pytest.mark.parametrize(
    "taken",
    [
        "-xadd",
        "-xdel",
        "-hincrby",
        "-xack",
        "-xpending",
        "-xreadgroup",
        "-evalsha -eval",
        "-xlen",
        "-xtrim",
        "-xrange",
        "-hmget",
        "resetkeys ~other:*",
    ],
)
async def test_a_permission_that_is_taken_away_ends_the_run_and_loses_nothing(
    taken: str, guarded: Guarded, unique_namespace: str
) -> None:
    record = Record()
    pipeline = recorded(record, seconds=0.01, dedup="n")
    guarded.permit("~*", "+@all")
    lab = Lab.at(guarded.url, unique_namespace)
    await lab.push(pipeline, "first", *items(N))

    async with lab.running(pipeline, lease_seconds=SHORT_LEASE_SECONDS) as runner:
        await eventually(lambda: len(record.handled) >= 5)
        guarded.permit("~*", "+@all", *taken.split())
        await eventually(lambda: runner.ended.done() or len(record.arrived) >= N)
        if len(record.arrived) < N:  # else it was not needed
            problem = runner.ended.exception()
            assert isinstance(problem, BrokerRefused)
            assert (problem.code, problem.exit_code) == ("FQ402", 4)

    guarded.permit("~*", "+@all")
    async with lab.running(pipeline, lease_seconds=SHORT_LEASE_SECONDS):
        await eventually(lambda: len(record.arrived) >= N)
    record.check(N, reruns=N)
    await lab.close()


OF_ANY_PUSH = ("-xadd", "-zadd", "-hincrby", "-zremrangebyscore")


@pytest.mark.parametrize(
    ("taken", "dedup"),
    [
        *((taken, None) for taken in OF_ANY_PUSH),
        *((taken, "n") for taken in ("-hmget", "-hget", "-hdel", "-hset", *OF_ANY_PUSH)),
    ],
)
async def test_a_push_that_lacks_a_permission_stores_nothing_and_can_be_repeated(
    taken: str, dedup: str | None, guarded: Guarded, unique_namespace: str
) -> None:
    @flowq.stage
    async def keep(item: Item) -> None: ...

    pipeline = flowq.Pipeline("p", keep.options(dedup=dedup) if dedup else keep)
    guarded.permit("~*", "+@all")
    async with flowq.Publisher(pipeline, redis=guarded.url, namespace=unique_namespace) as publisher:
        await publisher.push("keep", Item(n=0))
        guarded.permit("~*", "+@all", taken)
        with pytest.raises(BrokerRefused) as refused:
            await publisher.push("keep", Item(n=1), id="once")
        guarded.permit("~*", "+@all")
        assert refused.value.code == "FQ402"
        assert (await publisher.push("keep", Item(n=1), id="once")).is_new
        assert not (await publisher.push("keep", Item(n=1), id="once")).is_new

    async with flowq.Inspector(pipeline, redis=guarded.url, namespace=unique_namespace) as inspector:
        overview = await inspector.overview()
    assert overview.stages["keep"].balance.entered == 2


async def test_what_is_refused_within_a_script_is_never_taken_for_an_answer() -> None:
    scripts = [file.read_text() for file in SCRIPTS.rglob("*.lua")]

    assert sum("redis.pcall" in text for text in scripts) == 1, "only attempt() may call it: it raises what is refused"


# The ACL that is suggested

LOOKING_AND_MENDING = (
    *("ls", "status lab", "peek lab", "trace lab 0", "plan lab", "apply lab", "pause lab.fetch", "resume lab.fetch"),
    *("dlq retry lab", "replay lab --stage fetch --all", "purge lab --yes", "gc lab --yes", "audit lab"),
)

PIPELINE = """
from collections.abc import Iterator
from pydantic import BaseModel
from flowq import Dedup, Pipeline, Rate, Reject, Retry, RetryLater, SourceContext, source, stage

class Page(BaseModel):
    n: int
    host: str = "a"

@source
def pages(ctx: SourceContext) -> Iterator[Page]:
    for n in range(int(ctx.cursor or 0), 20):
        yield Page(n=n, host="ab"[n % 2])
        ctx.save(str(n + 1))

TRIES = {}

@stage(rate=Rate(10_000, by="host", concurrency=4), dedup="n", maxsize=100, maxsize_bytes=1_000_000, keep=50,
       retry=Retry(attempts=2, base=0.01))
async def fetch(page: Page) -> Page:
    TRIES[page.n] = TRIES.get(page.n, 0) + 1
    if page.n == 3 and TRIES[3] == 1:
        raise RetryLater("busy", after=0.05, hold="host")
    if page.n == 4:
        raise Reject("bad")
    if page.n == 5:
        raise ValueError("odd")
    return page

@stage(batch=5, dedup=Dedup("n", scope="forever", ttl="7d"))
async def store(pages: list[Page]) -> None: ...

lab = Pipeline("lab", pages >> fetch >> store)
"""


def test_the_rules_in_the_documentation_are_those_that_are_tried() -> None:
    page = Path("docs/deployment.md").read_text(encoding="utf-8")
    written = page.partition("ACL SETUSER flowq on >PASSWORD")[2].partition("```")[0].replace("\\", " ")

    assert written.split() == whole_acl("flowq:*").split()


@pytest.mark.timeout(900)  # many commands, each a process
def test_a_user_with_the_suggested_acl_can_do_everything_and_is_never_refused(guarded: Guarded, tmp_path: Path) -> None:
    guarded.permit(*whole_acl("flowq:*").split())
    with Project(tmp_path, COLUMNS="200", FLOWQ_REDIS_URL=guarded.url) as project:
        project.write("lab", PIPELINE)

        def does(*arguments: str, exit_code: int = 0) -> str:
            done = project.run(*arguments)
            assert done.wait() == exit_code, (arguments, done.stdout, done.stderr)
            assert guarded.denials == [], arguments
            return done.stdout

        does("run", "lab", "--workers", "2", "-q", exit_code=3)
        does("push", "lab.fetch", '{"n": 100}', "--delay", "10ms")
        does("run", "lab", "--workers", "0", "-q")
        assert json.loads(does("doctor", "--json"))["findings"] == []
        for command in LOOKING_AND_MENDING:
            # Some want an argument that there is none of here: what counts is what they ask of Redis.
            project.run(*command.split()).wait()
            assert guarded.denials == [], command
