"""`flowq push`: what it stores, what it refuses, and how it reports its progress."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.conftest import Servers
from tests.integration.project import SCRAPE, Project, clean_environ
from tests.redis_server import RedisServer

LINK = '{"url": "https://example.org/"}'
PREFIX = "push:{scrape}"


pytestmark = pytest.mark.project({"scrape": SCRAPE}, redis="bundled", FLOWQ_NAMESPACE="push")


@pytest.fixture(autouse=True)
def store(redis_server: Servers) -> Iterator[redis.Redis]:
    server = redis_server("bundled")
    server.flush()
    with redis.Redis.from_url(server.url) as client:
        yield client


def bodies(store: redis.Redis, edge: str) -> list[Any]:
    """What waits on an edge, in its order, as JSON values."""
    entries: Any = store.xrange(f"{PREFIX}:edge:{edge}")
    return [json.loads(fields[b"b"]) for _, fields in entries]


def push(project: Project, *arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
    return project.flowq("push", *arguments, **options)


def links(first: int, last: int) -> str:
    return "".join(f'{{"url": "https://example.org/{n}"}}\n' for n in range(first, last + 1))


# One message


def test_a_message_goes_to_the_first_stage_behind_a_source_and_its_id_to_stdout(
    project: Project, store: redis.Redis
) -> None:
    run = push(project, "scrape", LINK)

    assert (run.returncode, run.stderr) == (0, "")
    assert bodies(store, ">fetch") == [{"url": "https://example.org/", "depth": 0}]
    [(_, fields)] = store.xrange(f"{PREFIX}:edge:>fetch")  # type: ignore[misc]
    assert fields[b"h"].split(b" ")[0] == run.stdout.strip().encode()


def test_a_stage_may_be_named(project: Project, store: redis.Redis) -> None:
    run = push(project, "scrape.parse", '{"url": "u", "html": "h"}', "--json")

    assert json.loads(run.stdout)["stage"] == "parse"
    assert bodies(store, ">parse") == [{"url": "u", "html": "h"}]


def test_a_stage_that_takes_a_union_takes_each_of_its_types(project: Project, store: redis.Redis) -> None:
    stdin = '{"url": "a", "title": "t"}\n{"url": "b", "html": "h"}\n'

    run = push(project, "scrape.store", "-", stdin=stdin)

    assert run.returncode == 0
    assert bodies(store, ">store") == [{"url": "a", "title": "t"}, {"url": "b", "html": "h"}]


def test_an_id_of_ones_own_is_stored_once(project: Project, store: redis.Redis) -> None:
    message = '{"url": "u", "html": "h"}'

    first, second = (push(project, "scrape.parse", message, "--id", "order-7") for _ in range(2))
    third = push(project, "scrape.parse", message, "--id", "order-7", "--json")

    assert (first.stdout, first.stderr) == ("order-7\n", "")
    assert (second.stdout, second.stderr) == ("order-7\n", "order-7 was already there: nothing was stored\n")
    assert json.loads(third.stdout) == {"stage": "parse", "id": "order-7", "is_new": False}
    assert len(bodies(store, ">parse")) == 1


def test_a_delayed_message_waits_outside_the_stream(project: Project, store: redis.Redis) -> None:
    before: Any = store.time()
    run = push(project, "scrape", LINK, "--delay", "5m")
    after: Any = store.time()

    [(message_id, due_ms)] = store.zrange(f"{PREFIX}:delayed:>fetch", 0, -1, withscores=True)  # type: ignore[misc]
    assert message_id.decode() == run.stdout.strip()
    assert before[0] + 300 <= due_ms / 1000 <= after[0] + 301
    assert bodies(store, ">fetch") == []


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("{}", "url: Field required"),
        ('{"url": 3}', "url: Input should be a valid string"),
        ("{url: 1}", "Invalid JSON"),
        ("", "Invalid JSON"),
    ],
)
def test_a_message_that_does_not_fit_is_refused_before_redis_is_used(project: Project, message: str, said: str) -> None:
    run = push(project, "scrape", message, FLOWQ_REDIS_URL="redis://nowhere.invalid")

    assert run.returncode == 2
    assert "error[FQ205]: the message does not fit fetch, which accepts Link" in run.stderr
    assert said in run.stderr
    assert run.stdout == ""


@pytest.mark.parametrize(
    ("target", "arguments", "said"),
    [
        ("scrape.fecth", (LINK,), 'has no stage "fecth"'),
        ("scrape.seeds", (LINK,), '"seeds" is a source: it accepts no messages'),
        ("scarpe", (LINK,), 'did you mean "scrape"?'),
        ("scrape", (LINK, "--delay", "soon"), "'soon' is not a duration"),
        ("scrape", ("-", "--id", "x"), "--id is for a single message"),
        ("scrape", ("@no-such-file",), "cannot read no-such-file"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    project: Project, target: str, arguments: tuple[str, ...], said: str
) -> None:
    run = push(project, target, *arguments, FLOWQ_REDIS_URL="redis://nowhere.invalid")

    assert (run.returncode, run.stdout) == (2, "")
    assert said in run.stderr


def test_a_pipeline_without_sources_and_several_heads_asks_which(project: Project) -> None:
    project.write("scrape", SCRAPE.replace("seeds >> fetch >> parse >> (store | fetch)", "parse, fetch"))

    run = push(project, "scrape", LINK, FLOWQ_REDIS_URL="redis://nowhere.invalid")

    assert run.returncode == 2
    assert "one of scrape.parse, scrape.fetch" in run.stderr or "one of scrape.fetch, scrape.parse" in run.stderr


# Many messages


def test_a_stream_is_pushed_in_order_and_counted(project: Project, store: redis.Redis) -> None:
    run = push(project, "scrape", "-", stdin=links(1, 2400).rstrip("\n"))

    assert (run.returncode, run.stdout, run.stderr) == (0, "2,400 pushed to fetch\n", "")
    assert [body["url"] for body in bodies(store, ">fetch")] == [f"https://example.org/{n}" for n in range(1, 2401)]


def test_a_thousand_messages_cost_one_call(project: Project) -> None:
    project.write("links.ndjson", links(1, 2000))
    with RedisServer("bundled") as server, redis.Redis.from_url(server.url) as client:  # with no calls but these
        push(project, "scrape", "@links.ndjson", "--redis", server.url)
        commands: Any = client.info("commandstats")

    scripts = sum(commands.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval"))
    assert scripts == 2 + 1, "one call for each thousand, and one more to load the script"


def test_what_was_seen_before_is_counted_apart(project: Project) -> None:
    push(project, "scrape", "-", stdin=links(1, 3))

    text = push(project, "scrape", "-", stdin=links(2, 5))
    data = push(project, "scrape", "-", "--json", stdin=links(5, 6))

    assert text.stdout == "2 pushed to fetch, 2 seen before\n"
    assert json.loads(data.stdout) == {"stage": "fetch", "valid": 2, "pushed": 1, "duplicates": 1}


def test_all_before_a_bad_line_are_stored_and_none_after_it(project: Project, store: redis.Redis) -> None:
    stdin = links(1, 1203) + "\n" + '{"url": 5}\n' + links(1204, 1300)

    run = push(project, "scrape", "-", stdin=stdin)

    assert run.returncode == 2
    assert run.stdout == "1,203 pushed to fetch\n"
    assert run.stderr.splitlines() == [
        "error[FQ205]: line 1205 does not fit fetch, which accepts Link",
        "  url: Input should be a valid string",
        "  1,203 before it were pushed, none after it",
    ]
    assert len(bodies(store, ">fetch")) == 1203


def test_a_message_that_is_too_large_is_a_bad_line_too(project: Project, store: redis.Redis) -> None:
    large = json.dumps({"url": "x" * 1_000_001})

    run = push(project, "scrape", "-", stdin=links(1, 2) + large + "\n")

    assert run.returncode == 2
    assert "line 3" in run.stderr
    assert "accepts at most 1,000,000" in run.stderr
    assert len(bodies(store, ">fetch")) == 2


def test_lines_that_come_slowly_are_pushed_at_once(project: Project, store: redis.Redis) -> None:
    with project.piped("push", "scrape", "-") as process:
        assert process.stdin is not None
        last_id: Any = "0"
        for n in (1, 2):
            process.stdin.write(links(n, n))
            process.stdin.flush()
            [(_, [(last_id, fields)])] = store.xread({f"{PREFIX}:edge:>fetch": last_id}, block=30_000)  # type: ignore[misc]
            assert json.loads(fields[b"b"])["url"].endswith(f"/{n}")
        stdout, _ = process.communicate(timeout=120)

    assert stdout == "2 pushed to fetch\n"


def test_a_full_stage_is_waited_for(project: Project, store: redis.Redis) -> None:
    push(project, "scrape", "-", stdin=links(1, 2500))
    with project.piped("push", "scrape", "-") as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(links(2501, 2501))
        process.stdin.flush()
        assert "waiting for workers to make room" in process.stderr.readline()
        store.xtrim(f"{PREFIX}:edge:>fetch", maxlen=0, approximate=False)
        stdout, _ = process.communicate(timeout=120)

    assert stdout == "1 pushed to fetch\n"


def test_a_full_stage_need_not_be_waited_for(project: Project) -> None:
    run = push(project, "scrape", "-", "--no-wait", stdin=links(1, 5000))

    assert run.returncode == 1
    assert run.stdout == "3,000 pushed to fetch\n", "a call is stored whole, and refused once 2,500 are there"
    assert 'error[FQ404]: edge ">fetch" holds 3,000 messages, its maxsize is 2,500' in run.stderr


# Without Redis, and with flowq's own


def test_a_dry_run_checks_everything_and_needs_no_redis(project: Project) -> None:
    nowhere = {"FLOWQ_REDIS_URL": "redis://nowhere.invalid"}

    good = push(project, "scrape", "-", "--dry-run", stdin=links(1, 1500), **nowhere)
    bad = push(project, "scrape", "-", "--dry-run", stdin=links(1, 3) + "nonsense\n", **nowhere)
    one = push(project, "scrape", LINK, "-n", **nowhere)

    assert (good.returncode, good.stdout) == (0, "1,500 valid for fetch\n")
    assert (bad.returncode, bad.stdout) == (2, "3 valid for fetch\n")
    assert "line 4" in bad.stderr
    assert (one.returncode, one.stdout) == (0, "valid\n")


@pytest.mark.project({"scrape": SCRAPE})
def test_without_a_url_messages_are_kept_by_the_redis_of_the_project(project: Project) -> None:
    first = project.flowq("push", "scrape", "-", stdin=links(1, 3))
    again = project.flowq("push", "scrape", "-", stdin=links(1, 3))

    assert first.stdout == "3 pushed to fetch\n"
    assert again.stdout == "0 pushed to fetch, 3 seen before\n"
    assert (project.folder / ".flowq").is_dir()


def test_memory_stays_flat_over_a_long_stream(project: Project) -> None:
    line = json.dumps({"url": "x" * 1000}) + "\n"
    script = (
        "import resource, sys\nfrom flowq.cli.app import run\n"
        "code = run(['push', 'scrape', '-', '--dry-run'])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)\nsys.exit(code)\n"
    )

    def peak(lines: int) -> int:
        run = subprocess.run(
            [sys.executable, "-c", script], cwd=project.folder, env=clean_environ(), input=line * lines,
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        assert run.stdout == f"{lines:,} valid for fetch\n"
        return int(run.stderr)

    assert peak(40_000) < 1.3 * peak(10), "40 MB of lines were held at once"


def test_large_messages_go_in_calls_of_a_few_and_each_is_stored_once(project: Project, store: redis.Redis) -> None:
    large = "".join(f'{{"url": "{n}", "html": "{"x" * 900_000}"}}\n' for n in range(20))

    run = push(project, "scrape.parse", "-", stdin=large)

    assert (run.returncode, run.stdout) == (0, "20 pushed to parse\n"), run.stderr
    assert [body["url"] for body in bodies(store, ">parse")] == [str(n) for n in range(20)]
    assert store.zcard(f"{PREFIX}:published") >= 3  # one for each call, of up to 8 MB
