"""Messages in a second data folder of a project are reported, and the remedy that is named handles them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from flowq.broker.embedded.other_folders import other_folders, waiting_in
from tests.integration.flowq_process import LONGEST_SECONDS, wait_until
from tests.integration.project import Project, own_redis

ORDERS = """
    from __future__ import annotations

    from collections.abc import Iterator

    from flowq import Pipeline, source, stage


    @source
    def numbers() -> Iterator[int]:
        yield from range(3)


    @stage
    def take(n: int) -> int:
        return n


    @stage
    def keep(n: int) -> None: ...


    orders = Pipeline("orders", numbers >> take >> keep)
"""
PUSH = """
    from flowq import SyncPublisher
    from pipelines.orders import orders, take

    with SyncPublisher(orders, redis="embedded") as publisher:
        publisher.push_many(take, range(40))
        publisher.push_many(take, range(2), delay="1s")
"""

pytestmark = pytest.mark.project({"orders": ORDERS})


@pytest.fixture
def web(project: Project) -> Path:
    """A folder in which a program has pushed, before there was a project around it."""
    program = project.write("web/app.py", PUSH)
    subprocess.run(
        [sys.executable, program], cwd=program.parent, env=project.environ | {"PYTHONPATH": str(project.folder)},
        check=True, timeout=LONGEST_SECONDS,
    )  # fmt: skip
    wait_until(lambda: not project.pids())
    project.write("pyproject.toml", '[tool.flowq]\nredis = "embedded"\n')
    return program.parent


def remedy(text: str) -> list[str]:
    """The arguments of the command that a hint names."""
    found = re.search(r"flowq (run .*?) handles them", text)
    assert found, text
    return shlex.split(found[1])


def test_messages_that_a_program_has_pushed_elsewhere_are_reported_and_the_remedy_handles_them(
    project: Project, web: Path
) -> None:
    seen = project.flowq("status", "orders", "--json")

    assert json.loads(seen.stdout)["stages"]["take"]["waiting"] == 0
    assert "warning[FQ427]: messages wait (42 of orders) in web/.flowq" in seen.stderr
    assert not (web / ".flowq" / "redis.sock").exists()  # no server was started for it
    run = project.ok("run", "orders")
    assert "FQ427" in run.stderr

    done = project.ok(*remedy(seen.stderr), "--json")
    after = project.flowq("status", "orders")

    assert done.summary["stages"]["keep"]["ok"] == 42
    assert "FQ427" not in after.stderr


def test_the_folder_of_the_project_itself_is_reported_where_commands_use_another_redis(
    project: Project, web: Path
) -> None:
    (web / ".flowq").rename(project.folder / ".flowq")
    assert "FQ427" not in project.flowq("status", "orders").stderr

    elsewhere = project.flowq("status", "orders", "--redis", "embedded:new")

    assert "(42 of orders) in .flowq," in elsewhere.stderr


def test_messages_of_other_pipelines_are_not_reported(project: Project, web: Path) -> None:
    project.write("other", ORDERS.replace("orders", "other"))
    project.write("pipelines/orders.py", "")

    assert "FQ427" not in project.flowq("status", "other").stderr


@pytest.fixture
def server(project: Project, web: Path) -> Iterator[redis.Redis]:
    """The server of the other folder, with 42 messages."""
    running = project.start("run", "orders", "--stage", "keep", "--redis", "embedded:web/.flowq")
    running.wait_for(lambda: (web / ".flowq" / "redis.sock").exists())
    with redis.Redis.from_url(own_redis(web)) as client:
        running.wait_for(lambda: not client.info("persistence")["loading"])  # a PING is refused while it loads
        yield client


def test_the_count_is_that_of_the_server_whatever_was_done_to_its_keys(web: Path, server: redis.Redis) -> None:
    stream = "flowq:{orders}:edge:>take"
    assert waiting_in(web / ".flowq") == {"orders": server.xlen(stream) + 2}
    (first, _), *_, (later, _), (latest, _) = server.xrange(stream, count=30)  # type: ignore[misc]

    server.xdel(stream, first, "1-1")
    server.xtrim(stream, minid=later, approximate=False)
    assert waiting_in(web / ".flowq") == {"orders": server.xlen(stream) + 2}
    server.xtrim(stream, maxlen=10, approximate=False)
    server.xdel(stream, latest)
    server.rename(stream, "flowq:{orders}:edge:a>take")
    server.xadd("flowq:{a b}:edge:>x", {"h": "", "b": ""})
    server.delete("flowq:{orders}:parked:>take")

    assert waiting_in(web / ".flowq") == {"orders": 10, "a b": 1}
    server.flushall()
    assert waiting_in(web / ".flowq") == {}


def test_of_a_folder_with_a_snapshot_it_is_only_said_that_messages_may_wait(
    project: Project, web: Path, server: redis.Redis
) -> None:
    server.bgrewriteaof()
    wait_until(lambda: not server.info("persistence")["aof_rewrite_in_progress"])  # type: ignore[index]

    assert waiting_in(web / ".flowq") is None
    assert "messages may wait in web/.flowq" in project.flowq("status", "orders").stderr


def test_folders_that_belong_to_others_or_are_too_deep_are_not_looked_into(tmp_path: Path) -> None:
    for folder in ("", "a/b/c/d", "a/b/c/d/e", ".hidden", "node_modules/x", "env", "inner", "plain"):
        (tmp_path / folder / ".flowq").mkdir(parents=True)
    (tmp_path / "env" / "pyvenv.cfg").touch()
    (tmp_path / "inner" / "pyproject.toml").write_text("[tool.flowq]\n")
    (tmp_path / "plain" / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "link").symlink_to("plain")

    found = [str(folder.relative_to(tmp_path)) for folder in other_folders(tmp_path, tmp_path / ".flowq")]

    assert found == ["plain/.flowq", "a/b/c/d/.flowq"]
    assert [waiting_in(tmp_path / folder) for folder in found] == [{}, {}]


def test_a_log_that_is_none_is_no_reason_to_fail(tmp_path: Path) -> None:
    logs = tmp_path / "appendonlydir"
    logs.mkdir()
    (logs / "appendonly.aof.manifest").write_text("file ../../secret seq 1 type i\nfile log seq 1 type i\n")
    (logs / "secret").write_bytes(b"*3\r\n$4\r\nXADD\r\n$20\r\nflowq:{p}:edge:>a\r\n")
    (logs / "log").write_bytes(b"*1\r\n$5\r\nMULTI\r\n\0\0\0nonsense")

    assert waiting_in(tmp_path) == {}


def test_a_log_eight_times_as_long_takes_eight_times_as_long(tmp_path: Path) -> None:
    short, long = (min(_processor_seconds(tmp_path, n) for _ in range(3)) for n in (5_000, 40_000))

    assert long < 20 * short  # 40 times as long if each id cost as much as all that the log has added so far


def _processor_seconds(folder: Path, n: int) -> float:
    logs = folder / "appendonlydir"
    logs.mkdir(exist_ok=True)
    (logs / "appendonly.aof.manifest").write_text("file log seq 1 type i\n")
    delay = b"*4\r\n$4\r\nHSET\r\n$19\r\nflowq:{p}:parked:>a\r\n$6\r\n%06d\r\n$60\r\n%060d\r\n"
    (logs / "log").write_bytes(b"".join(delay % (number, number) for number in range(n)))
    started = time.process_time()
    assert waiting_in(folder) == {"p": n}
    return time.process_time() - started
