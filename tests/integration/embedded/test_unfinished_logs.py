"""A log that ends in the middle of a step: the step is there in whole or not at all, also after two restarts."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path

import pytest

from flowq.broker.client.connection import UrlDialer
from flowq.broker.embedded.aof_repair import end_of_last_step, repair
from flowq.broker.embedded.server import EmbeddedRedis
from flowq.broker.keys import Keys
from flowq.broker.publishing import Publishing
from tests.conformance.worker import IN, OUT, Worker, done, output
from tests.integration.embedded.users import alive
from tests.integration.flowq_process import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs flock and unix sockets")

KEYS = Keys("flowq", "lab")
ZEROS = bytes(4096)


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


BEFORE = command(b"SET", b"key", b"*1\r\n$5\r\nMULTI\r\n") + b"#TS:1700000000\r\n"
STEP = command(b"MULTI") + command(b"XACK", b"k", b"g", b"1-1") + command(b"SET", b"k", b"\0\0\r\n") + command(b"EXEC")


@pytest.mark.parametrize("rest", [b"", ZEROS], ids=["cut", "zeros"])
@pytest.mark.parametrize("step", [STEP, command(b"SET", b"key", b"value")], ids=["transaction", "command"])
def test_a_step_that_is_cut_at_any_byte_is_taken_off_in_whole(step: bytes, rest: bytes) -> None:
    for n in range(len(step)):
        assert end_of_last_step(BEFORE + step[:n] + rest) == len(BEFORE), n


def test_a_log_that_is_whole_stays_as_it_is() -> None:
    assert end_of_last_step(b"") == 0
    assert end_of_last_step(BEFORE + STEP) == len(BEFORE + STEP)


@pytest.mark.parametrize(
    "damage", [b"nonsense\r\n", b"*1\r\n$3\r\nSETTLE\r\n", b"*1\r\n$-5\r\n", b"*x\r\n", ZEROS + STEP, STEP[1:]]
)
def test_other_damage_is_left_for_a_person_to_look_at(damage: bytes) -> None:
    assert end_of_last_step(BEFORE + damage + STEP) is None


def test_a_folder_without_a_log_needs_no_repair(tmp_path: Path) -> None:
    assert repair(tmp_path) == 0


def log_of(folder: Path) -> Path:
    (log,) = folder.rglob("*.incr.aof")
    return log


async def settled_once(folder: Path) -> tuple[Path, int]:
    """A pipeline whose last step is a settlement: its log, and where that settlement begins in it."""
    with EmbeddedRedis.acquire(folder) as server:
        worker = await Worker.sign_on(UrlDialer(server.url), KEYS, "first")
        delivery = await worker.given_one()
        log = log_of(folder)
        begins_at = log.stat().st_size
        await worker.settle(done(delivery, output(OUT, b"1"), output(OUT, b"2")))
        await worker.close()
    wait_until(lambda: not alive(server.pid))
    return log, begins_at


async def used(folder: Path, *, write: bool) -> tuple[int, int]:
    """How many messages are on the two edges, after something else was written."""
    with EmbeddedRedis.acquire(folder) as server:
        worker = await Worker.sign_on(UrlDialer(server.url), KEYS, "second")
        snapshot = await worker.snapshot()
        if write:
            await Publishing(worker.broker).publish(OUT, [output(OUT, b"more")])
        await worker.close()
    wait_until(partial(lambda pid: not alive(pid), server.pid))
    return snapshot.edges[IN].length, snapshot.edges[OUT].length


async def test_a_settlement_cut_anywhere_is_whole_or_not_there_after_two_restarts(folder: Path, binary: str) -> None:
    original = folder.with_name("original")
    log, begins_at = await settled_once(original)
    content = log.read_bytes()
    ends = [at for at in range(begins_at + 1, len(content)) if content[at - 2 : at + 1] == b"\r\n*"]
    for cut in [begins_at + 1, ends[1], *(at + 9 for at in ends)]:
        shutil.copytree(original, folder)
        (folder / log.relative_to(original)).write_bytes(content[:cut])

        first = await used(folder, write=True)
        second = await used(folder, write=False)

        assert (first, second) == ((1, 0), (1, 1)), f"cut at {cut - begins_at}"
        shutil.rmtree(folder)
