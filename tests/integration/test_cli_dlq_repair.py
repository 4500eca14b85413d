"""Repairs with `flowq dlq`: retry, rm, export and import, on a real server."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from flowq.broker.keys import Keys
from tests.faults.proxy import Proxy
from tests.integration.project import Project

FLIGHTS = """
    from __future__ import annotations

    from pydantic import BaseModel
    from flowq import Pipeline, stage


    class Flight(BaseModel):
        line: int
        dest: str


    @stage
    async def enrich(flight: Flight) -> Flight:
        return flight


    @stage
    async def load(flight: Flight) -> None: ...


    flights = Pipeline("flights", enrich >> load)
"""

Flowq = Callable[..., Any]
RUN = "r1"


class Letters:
    """The dead letters of a pipeline, as another client of the same Redis sees them."""

    def __init__(self, url: str, namespace: str) -> None:
        self.client: redis.Redis = redis.Redis.from_url(url)
        self.keys = Keys(namespace, "flights")

    def bury(self, n: int) -> None:
        """Let `n` messages die in enrich, the even ones on their way to SJV, the odd ones to BQN."""
        pipe = self.client.pipeline()
        pipe.hset(self.keys.run, "id", RUN)
        for line in range(n):
            dest = ("SJV", "BQN")[line % 2]
            info = {"reason": "rejected", "error": f"Reject: unknown airport {dest}", "run": RUN, "attempts": 1}
            body = {"line": line, "dest": dest}
            fields = {"e": ">enrich", "h": f"m{line} - - 0", "x": json.dumps(info), "b": json.dumps(body)}
            pipe.xadd(self.keys.dead("enrich"), fields)
        pipe.hset(self.keys.stats, mapping={"in:>enrich": n, "dead:enrich": n})
        pipe.execute()

    def bury_bytes(self, body: bytes) -> None:
        """Let one more message die in enrich, whatever its bytes are."""
        info = json.dumps({"reason": "undecodable", "error": "DecodeError: not valid JSON", "run": RUN, "attempts": 1})
        self.client.xadd(self.keys.dead("enrich"), {"e": ">enrich", "h": "bytes - - 0", "x": info, "b": body})

    @property
    def n_dead(self) -> int:
        return int(self.client.xlen(self.keys.dead("enrich")))  # type: ignore[arg-type]

    def waiting(self, stage: str = "enrich") -> list[tuple[str, dict[str, Any]]]:
        """Id and body of every message put back."""
        entries: Any = self.client.xrange(self.keys.edge(f">{stage}"))
        return [(fields[b"h"].decode().split()[0], json.loads(fields[b"b"])) for _, fields in entries]


@pytest.fixture
def letters(project: Project) -> Iterator[Letters]:
    letters = Letters(project.variables["FLOWQ_REDIS_URL"], project.variables["FLOWQ_NAMESPACE"])
    letters.bury(10)
    yield letters
    letters.client.close()


pytestmark = pytest.mark.project({"flights": FLIGHTS}, redis="debian", COLUMNS="110")


@pytest.fixture
def flowq(project: Project) -> Flowq:
    return lambda *arguments, **options: project.flowq("dlq", *arguments, **options)


# retry


def test_retry_sets_fields_of_what_matches_and_leaves_the_rest_dead(flowq: Flowq, letters: Letters) -> None:
    done = flowq("retry", "flights", "--where", "dest=SJV", "--set", "dest=SJU", "-n", "3")

    assert (done.returncode, done.stdout) == (0, "3 dead letters put back to enrich\n")
    expected = [(f"m{line}", {"line": line, "dest": "SJU"}) for line in (0, 2, 4)]
    assert letters.waiting() == expected
    assert letters.n_dead == 7


def test_retry_that_would_not_fit_is_one_error_and_changes_nothing(flowq: Flowq, letters: Letters) -> None:
    done = flowq("retry", "flights", "--set", "line=many")

    assert (done.returncode, done.stdout) == (2, "")
    assert "does not fit enrich, which accepts Flight" in done.stderr
    assert letters.n_dead == 10


def test_retry_to_another_stage_at_a_rate_and_of_a_kind(flowq: Flowq, letters: Letters) -> None:
    kinds = json.loads(flowq("ls", "flights", "--json").stdout)
    assert [(kind["count"], kind["error"][-3:]) for kind in kinds] == [(5, "SJV"), (5, "BQN")]

    done = flowq("retry", "flights", kinds[1]["fingerprint"], "--to", "load", "--rate", "1/m", "--json")

    assert json.loads(done.stdout) == {"load": 5}
    assert [message["line"] for _, message in letters.waiting("load")] == [1]
    assert letters.client.zcard(letters.keys.delayed(">load")) == 4


def test_retry_edit_puts_back_what_the_editor_left_in_the_file(flowq: Flowq, letters: Letters, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    script = """
        import pathlib, sys
        file = pathlib.Path(sys.argv[1])
        _, first, second = file.read_text(encoding="utf-8").split("\\n# enrich ")
        file.write_text("# enrich " + first.replace("SJV", "SJ" + chr(0x2028) + "U"), encoding="utf-8")
    """
    editor.write_text(f"#!{sys.executable}\n" + "\n".join(line.strip() for line in script.splitlines()))
    editor.chmod(stat.S_IRWXU)

    done = flowq("retry", "flights", "--edit", "-n", "2", EDITOR=str(editor))

    assert (done.returncode, done.stdout) == (0, "1 dead letter put back to enrich\n"), done.stderr
    assert letters.waiting() == [("m0", {"line": 0, "dest": "SJ\u2028U"})], "JSON text may contain line separators"
    assert letters.n_dead == 9


async def test_a_retry_that_is_killed_and_repeated_puts_each_back_once(project: Project, letters: Letters) -> None:
    letters.client.delete(letters.keys.dead("enrich"))
    letters.bury(1000)
    async with Proxy(project.variables["FLOWQ_REDIS_URL"]) as proxy:
        environ = {"FLOWQ_REDIS_URL": proxy.url}

        def retry() -> Any:
            return project.flowq("dlq", "retry", "flights", **environ)

        with project.piped("dlq", "retry", "flights", **environ) as process:
            while not letters.waiting():  # noqa: ASYNC110  (no event: another process does it)
                await asyncio.sleep(0)  # the proxy runs in this loop: between two looks it passes on little
            proxy.stall()
            process.kill()
            await asyncio.to_thread(process.wait, 30)
        assert process.returncode == -signal.SIGKILL
        proxy.kill_connections()
        proxy.resume()
        n_before = len(letters.waiting())
        assert 0 < n_before < 1000
        assert n_before + letters.n_dead == 1000
        assert (await asyncio.to_thread(retry)).returncode == 0

    assert sorted(message["line"] for _, message in letters.waiting()) == list(range(1000))
    assert letters.n_dead == 0
    assert letters.client.hget(letters.keys.stats, "dead:enrich") == b"0"


# export, import


def test_export_fix_import_retry_puts_fixed_messages_back(flowq: Flowq, letters: Letters) -> None:
    exported = flowq("export", "flights", "--error", "*SJV").stdout
    lines = [json.loads(line) for line in exported.splitlines()]
    assert len(lines) == 5
    fixed = "".join(json.dumps({**line, "message": {**line["message"], "dest": "SJU"}}) + "\n" for line in lines)

    done = flowq("import", "flights", "-", "--retry", stdin=fixed)

    assert (done.returncode, done.stdout) == (0, "5 dead letters put back to enrich\n"), done.stderr
    assert letters.waiting() == [(f"m{line}", {"line": line, "dest": "SJU"}) for line in range(0, 10, 2)]
    again = flowq("import", "flights", "-", "--retry", stdin=fixed)
    assert (again.returncode, again.stdout) == (0, "")
    assert "5 dead letters skipped: no longer there" in again.stderr


def test_the_messages_of_letters_alone_go_into_try_and_push(flowq: Flowq, letters: Letters) -> None:
    exported = flowq("export", "flights", "--error", "*SJV", "--messages").stdout

    assert [json.loads(line) for line in exported.splitlines()] == [{"line": n, "dest": "SJV"} for n in range(0, 10, 2)]


def test_a_letter_without_json_is_left_out_of_the_messages_and_named(flowq: Flowq, letters: Letters) -> None:
    letters.bury_bytes(b"\xff")

    done = flowq("export", "flights", "--messages")

    assert done.stdout.count("\n") == 10
    assert "is left out: its message is not JSON" in done.stderr


def test_import_fixes_in_place_and_retry_uses_it(flowq: Flowq, letters: Letters, tmp_path: Path) -> None:
    first = json.loads(flowq("export", "flights", "-n", "1").stdout)
    fixed = json.dumps({"stage": "enrich", "id": first["id"], "message": {"line": 0, "dest": "SJU"}})
    (tmp_path / "fixed.ndjson").write_text(fixed)

    done = flowq("import", "flights", "fixed.ndjson")

    assert done.stdout == "1 dead letter changed in enrich\n"
    assert "the message has been changed since it died" in flowq("show", "flights", "1").stdout
    assert "1 dead letter unchanged" in flowq("import", "flights", "fixed.ndjson").stderr
    flowq("retry", "flights", first["id"])
    assert letters.waiting() == [("m0", {"line": 0, "dest": "SJU"})]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2 is not JSON"),
        ("[]", "line 2 is not a JSON object"),
        ('{"id": "1-1", "message": 1}', "line 2 has no stage"),
        ('{"id": "1-1", "stage": "enrich"}', "line 2 has no message"),
    ],
)
def test_a_line_that_is_no_letter_is_named(flowq: Flowq, letters: Letters, line: str, says: str) -> None:
    whole = flowq("export", "flights", "-n", "1").stdout

    done = flowq("import", "flights", "-", stdin=f"{whole}{line}\n")

    assert done.returncode == 2
    assert says in done.stderr


def test_exported_and_removed_letters_are_restored_once(flowq: Flowq, letters: Letters) -> None:
    exported = flowq("export", "flights").stdout
    assert flowq("rm", "flights", "-y").stdout == "10 dead letters removed from enrich\n"

    assert flowq("import", "flights", "-", "--restore", stdin=exported).stdout == "10 dead letters restored to enrich\n"
    again = flowq("import", "flights", "-", "--restore", stdin=exported)

    assert (again.stdout, again.stderr.splitlines()) == ("", ["10 dead letters skipped: already restored"])
    assert letters.n_dead == 10
    assert flowq("export", "flights").stdout.count("\n") == 10


# rm


def test_rm_off_a_terminal_removes_nothing_without_yes(flowq: Flowq, letters: Letters) -> None:
    done = flowq("rm", "flights", "--error", "*SJV")

    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing was removed" in done.stderr
    assert "--yes removes 5 dead letters" in done.stderr
    assert letters.n_dead == 10


def test_rm_removes_what_was_chosen(flowq: Flowq, letters: Letters) -> None:
    assert (
        flowq("rm", "flights", "--error", "*SJV", "--dry-run").stdout == "5 dead letters would be removed from enrich\n"
    )
    assert flowq("rm", "flights", "--error", "*SJV", "--yes").stdout == "5 dead letters removed from enrich\n"
    assert flowq("rm", "flights", "--error", "*SJV", "--yes").stdout == "no dead letters match\n"
    assert letters.n_dead == 5


# What is wrong


@pytest.mark.usefixtures("letters")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("ls", "flights", "--since", "yesterday"), "--since"),
        (("ls", "flights", "--where", "dest"), "is not a condition"),
        (("retry", "flights", "--rate", "fast"), "is not a rate"),
        (("retry", "flights", "--set", "dest"), "is not FIELD=VALUE"),
        (("retry", "flights", "--set", "a=1", "--edit"), "cannot be combined"),
        (("retry", "flights", "--to", "lod"), 'has no stage "lod"'),
        (("retry", "flights", "--edit"), "failed; nothing was put back"),
        (("rm", "flights", "1-1", "-y"), "has no dead letter 1-1"),
        (("import", "flights", "no-such-file"), "cannot read no-such-file"),
        (("import", "flights", "-", "--retry", "--restore"), "cannot be combined"),
    ],
)
def test_wrong_use_is_one_clear_error(flowq: Flowq, arguments: tuple[str, ...], says: str) -> None:
    done = flowq(*arguments, EDITOR="no-such-editor")

    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.count("error[") == 1


@pytest.mark.parametrize("command", ["ls", "show", "retry", "rm", "export", "import"])
def test_every_command_has_a_help_with_an_example(flowq: Flowq, command: str) -> None:
    done = flowq(command, "--help")

    assert done.returncode == 0
    assert f"flowq dlq {command} " in done.stdout.split("Example:")[1]
