"""A pipeline full of foreign text, looked at with every command: nothing reaches a terminal, a log or a metric raw."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from base64 import urlsafe_b64encode

import pytest
import redis

from tests.integration.http_client import get
from tests.integration.project import Project
from tests.integration.terminal import Terminal

ODD = "\x1b]0;pwned\x07\x1b[2J\x9b31m\x7f\u202eexe.\u2066\u2028\u200b\u0085"
"""Escape sequences, DEL, C1, marks that turn the direction of writing around, and line breaks of other kinds."""

PIPELINE = f"""
from __future__ import annotations
import logging
from pydantic import BaseModel
from flowq import Pipeline, Rate, Reject, stage

class Row(BaseModel):
    n: int
    key: str = "k"

class Other(BaseModel):
    m: int
    key: str = "k"

Other.__name__ = "Other" + {ODD!r}

@stage(rate=Rate(1000, by="key", keys={{{ODD!r}: Rate(5)}}), keep=10)
async def take(row: Row | Other) -> Row | None:
    logging.getLogger("mine").warning("handled %s", {ODD!r})
    if isinstance(row, Row) and row.n == 1:
        raise Reject({ODD!r})
    return row if isinstance(row, Row) else None

@stage
async def store(row: Row) -> None: ...

p = Pipeline("p", take >> store)
"""

# One process for all of them: to start each takes longer than what it does.
DRIVER = """
import json, os, sys
from flowq.cli.app import run
for arguments in json.loads(sys.argv[1]):
    for stream in (sys.stdout, sys.stderr):
        print("\\n=== " + ascii(arguments), file=stream, flush=True)
    run(arguments)
    sys.stdout.flush()
"""
WORD = ODD.split()[0]
PAINTING = re.compile(r"\x1b\[[?0-9;]*[A-HJKfhlm]|[\r\n]")
"""What rich sends: the cursor, colours, lines cleared; OSC and the rest of what foreign text may say is none of it."""
VIEWS = [
    *(["status", "p"], ["status", "p", "--json"], ["peek", "p"], ["peek", "p", "--json"], ["trace", "p", "x"]),
    *(["dlq", "ls", "p"], ["dlq", "ls", "p", "--json"], ["dlq", "export", "p"], ["dlq", "retry", "p", "--dry-run"]),
    *(["dlq", "show", "p", str(n), *json] for n in (1, 2, 3, 4) for json in ([], ["--json"])),
    *(["graph", "p", "-f", form] for form in ("tree", "mermaid", "dot", "svg", "json")),
    *(["check", "p"], ["config", "p"], ["plan", "p"], ["plan", "p", "--json"], ["gc", "p"], ["gc", "p", "--json"]),
    *(["healthcheck", "p"], ["healthcheck", "p", "--json"], ["replay", "p", "--from", "take", "--dry-run"]),
    *(["purge", "p", "--dry-run"], ["doctor", "p"], ["ls"], ["ls", "--json"]),
    *(
        ["pause", "p", "--key", f"key={WORD}"],
        ["status", "p"],
        ["apply", "p", "--yes"],
        ["resume", "p", "--key", f"key={WORD}"],
        ["audit", "p"],
        ["audit", "p", "--json"],
    ),
    *(["run", WORD], ["push", f"p.{WORD}", "1"], ["push", "p.take", WORD], ["dlq", "show", "p", WORD]),
    *(["push", "p.take", json.dumps({"n": WORD, WORD: 1})], ["push", "p.take", '{"n": 7}', "--id", WORD]),
    *(["status", WORD], ["trace", "p", WORD], ["dlq", "ls", "p", "--where", WORD], ["graph", "p", "-f", WORD]),
]


LIVE_VIEWS = [("top", "p"), ("status", "p", "--watch"), ("graph", "p", "--live")]


def shown(project: Project, *arguments: str) -> str:
    """All that a view that stays sends to its terminal, without what paints the screen."""
    command = (sys.executable, "-m", "flowq", *arguments)
    with Terminal(command, project.folder, project.environ, columns=200, lines=50) as terminal:
        terminal.wait_for(lambda text: "take" in text and "store" in text)
        terminal.press("\x03")
        terminal.wait()
        text = terminal.raw.decode()
    return PAINTING.sub("", text)


def completed(project: Project, line: str) -> str:
    """What a shell is offered for the last word."""
    words = {"_FLOWQ_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    offered = project.flowq(**words)
    return offered.stdout + offered.stderr


def raw_in(text: str) -> list[str]:
    """The lines with something in them that does not print."""
    return [ascii(line) for line in text.split("\n") if not line.isprintable()]


pytestmark = pytest.mark.project({"p": PIPELINE, "pyproject.toml": "[tool.flowq]\n"}, redis="bundled")


def test_nothing_that_does_not_print_gets_out(project: Project, unique_namespace: str) -> None:
    client = redis.Redis.from_url(project.variables["FLOWQ_REDIS_URL"])  # pyright: ignore[reportUnknownMemberType]
    key, odd = f"{unique_namespace}:{{p}}:", ODD.encode()
    edge, header = f"{key}edge:>take", b"x%s - - 0 f=1 t=Row%s" % (WORD.encode(), WORD.encode())
    client.xadd(edge, {"h": b"a - - 0 t=Row", "b": b'{"n":1}'})
    client.xadd(edge, {"h": b"b - - 0 t=Row", "b": json.dumps({"n": ODD}).encode()})
    client.xadd(edge, {"h": b"c - - " + b"9" * 400, "b": odd, b"f" + odd: odd})
    client.xadd(edge, {"h": b"d - - 0 t=Row", "b": b'{"n":2,"key":"k"}'})
    client.xadd(edge, {"h": header, "b": odd})
    runs = [project.flowq("run", "p", "--drain", *how) for how in ([], ["--log-format", "json"])]
    record = json.dumps({"worker": ODD, "host": ODD, "stages": [ODD], "pid": 1})
    client.hset(f"{key}workers", mapping={"odd": record, odd: odd})
    client.set(f"{key}lease:{ODD}", "1", ex=600)
    client.set(f"{key}lease:odd", "1 99", ex=600)
    client.hset(f"{key}plan", mapping={odd: odd, ">gone": json.dumps({"accepts": [ODD], "schema": ODD})})
    client.hset(f"{key}holds:take", odd, b"1 2 - " + odd)
    client.zadd(f"{key}held:take", {odd: 9e12})
    client.xadd(f"{key}edge:>gone", {odd: odd})
    client.xadd(f"{key}dead:take", {"e": odd, "h": odd, "b": odd, "x": json.dumps({"reason": ODD, "error": ODD})})
    client.xadd(f"{key}dead:take", {"e": odd, "x": odd})
    client.xadd(edge, {"h": header, "b": odd})
    client.xgroup_create(f"{key}edge:>gone", "flowq", "0")
    failure = urlsafe_b64encode(json.dumps([1, 1, ODD, ODD]).encode())
    counts = {b"failure take " + name: b"7 2 9000000000000 " + failure for name in (b"1", b"other", odd)}
    client.hset(f"{key}failures", mapping={b"run": client.hget(f"{key}run", "id") or b"", odd: odd, **counts})
    client.zadd(f"{key}delayed:>take", {"z": 9e12})
    client.hset(f"{key}parked:>take", "z", b"z - - 0 a=2 l=" + failure + b"\n" + odd)

    views = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(VIEWS)],
        cwd=project.folder, env=project.environ, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    with project.piped("exporter", "--listen", "0") as exporter:
        assert exporter.stderr is not None
        metrics = get(f"{exporter.stderr.readline().split()[-1]}")

    completions = [completed(project, line) for line in ("flowq run ", "flowq peek p.", "flowq dlq ls p -s ")]
    screens = [shown(project, *view) for view in LIVE_VIEWS]

    assert [ended.returncode for ended in runs] == [3, 0], runs
    assert [raw_in(ended.stdout + ended.stderr) for ended in runs] == [[], []]
    assert raw_in(views.stdout.decode()) == []
    assert "7 retries" in views.stdout.decode()
    assert "1 delayed, attempt 2 of" in views.stdout.decode()
    assert raw_in(views.stderr.decode()) == []
    assert "FQ900" not in views.stderr.decode()
    assert [raw_in(text) for text in completions] == [[], [], []]
    assert [raw_in(text) for text in screens] == [[], [], []]
    assert "flowq_worker_silent_seconds" in metrics.text
    assert raw_in(metrics.text) == []
