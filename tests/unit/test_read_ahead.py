"""How much a stage reads ahead: by what its process could use, not by what its neighbours took."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from flowq.runtime.stage.core_wait import CoreWait, core_wait_seconds
from flowq.runtime.stage.read_ahead import ReadAhead

SLOTS, MOST, STEP_SECONDS = 10, 1000, 0.01
SAFETY_SECONDS = 60.0


def after(steps: Iterable[tuple[int, float, float]]) -> ReadAhead:
    """A stage that is never idle, after steps of (messages, seconds passed, seconds of them without a core)."""
    now = waited = 0.0

    def core_wait() -> float:
        return waited

    gauge = ReadAhead(core_wait)
    gauge.begin(now)
    for n, passed_seconds, waited_seconds in steps:
        now, waited = now + passed_seconds, waited + waited_seconds
        gauge.count(n, now)
    return gauge


def read(gauge: ReadAhead, in_flight: int = 0) -> int:
    return gauge.room(SLOTS, MOST, in_flight=in_flight)


def test_a_stage_reads_a_tenth_of_a_second_of_work_beyond_its_slots() -> None:
    assert read(after([(20, STEP_SECONDS, 0.0)] * 50)) == SLOTS + 200


def test_a_neighbour_that_takes_the_core_changes_nothing() -> None:
    alone = after([(20, STEP_SECONDS, 0.0)] * 50)
    crowded = after([(20, 3 * STEP_SECONDS, 2 * STEP_SECONDS)] * 50)

    assert read(crowded) == pytest.approx(read(alone), abs=1)
    assert crowded.per_second == pytest.approx(alone.per_second)


def test_a_handler_that_waits_for_the_network_is_slow_however_idle_the_core() -> None:
    assert read(after([(20, 3 * STEP_SECONDS, 0.0)] * 50)) == SLOTS + 66


def test_a_process_that_hardly_runs_keeps_at_most_a_second_of_work_from_others() -> None:
    starved = after([(20, 100 * STEP_SECONDS, 99.9 * STEP_SECONDS)] * 50)
    really_per_second = 20 / (100 * STEP_SECONDS)

    assert read(starved) <= SLOTS + really_per_second


@pytest.mark.parametrize("waited_seconds", [-1.0, 0.0, 1e9], ids=["less than before", "never", "more than passed"])
def test_whatever_the_system_says_of_waiting_a_stage_seems_at_most_ten_times_as_fast(waited_seconds: float) -> None:
    gauge = after([(20, STEP_SECONDS, waited_seconds)] * 50)

    assert 1999 < gauge.per_second < 20_001


def test_a_stopped_process_that_goes_on_reads_less_first_and_soon_as_much_as_before() -> None:
    before = [(20, STEP_SECONDS, 0.0)] * 50
    frozen = [(20, 30.0, 0.0)]

    assert read(after(before + frozen)) <= SLOTS + 101
    assert read(after(before + frozen + before)) == pytest.approx(SLOTS + 200, abs=1)


def test_waiting_for_a_slow_redis_while_all_slots_wait_is_not_the_work_of_the_stage() -> None:
    gauge, now = ReadAhead(lambda: 0.0), 0.0
    gauge.begin(now)
    for _ in range(50):
        gauge.pause(now + STEP_SECONDS)
        gauge.count(20, now + 0.5)
        now += 1.0
        gauge.resume(now)

    assert gauge.per_second == pytest.approx(20 / STEP_SECONDS)


def test_what_was_waited_for_a_core_while_no_slot_had_a_message_is_not_taken_off_the_work() -> None:
    waited = 0.0
    gauge = ReadAhead(lambda: waited)
    for number in range(50):
        gauge.begin(number)
        gauge.pause(number + STEP_SECONDS)
        waited += 0.4
        gauge.count(20, number + 0.5)
        waited += 0.4

    assert gauge.per_second == pytest.approx(20 / STEP_SECONDS)


def test_from_a_few_fast_messages_twenty_times_as_many_are_read_not_thousands() -> None:
    gauge = ReadAhead(lambda: 0.0)
    gauge.begin(0.0)
    gauge.count(3, 0.000_001)

    assert read(gauge) == SLOTS + 60


def test_a_far_redis_is_read_from_in_large_parts_after_a_few_round_trips() -> None:
    gauge, now, in_flight, parts = ReadAhead(lambda: 0.0), 0.0, SLOTS, list[int]()
    for _ in range(4):  # each message takes 20 microseconds, and each round trip a fifth of a second
        gauge.begin(now)
        gauge.pause(now + in_flight * 0.000_02)
        gauge.count(in_flight, now + 0.2)
        in_flight, now = read(gauge), now + 0.4
        parts.append(in_flight)

    assert parts[-1] == SLOTS + MOST


def test_the_wait_for_a_core_is_read_at_most_once_a_millisecond_not_for_each_message() -> None:
    n_readings = 0

    def core_wait() -> float:
        nonlocal n_readings
        n_readings += 1
        return 0.0

    gauge = ReadAhead(core_wait)
    for number in range(10_000):  # one message at a time, each in flight for a tenth of a millisecond
        gauge.begin(number * 0.000_2)
        gauge.pause(number * 0.000_2 + 0.000_1)
        gauge.count(1, number * 0.000_2 + 0.000_1)

    assert n_readings <= 2000


@pytest.mark.parametrize("text", [None, "", "0 0 0\n", "1\n", "no numbers here\n"])
def test_where_the_system_does_not_count_the_wait_for_a_core_none_is_known(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "schedstat"
    if text is not None:
        path.write_text(text)

    assert CoreWait(path).seconds() == 0.0


@pytest.mark.skipif(not Path("/proc/thread-self/schedstat").exists(), reason="needs /proc/thread-self/schedstat")
class TestOnLinux:
    def test_a_thread_that_shares_its_core_waits_for_it(self) -> None:
        core = next(iter(os.sched_getaffinity(0)))
        spin = f"import os\nos.sched_setaffinity(0, [{core}])\nprint(flush=True)\nwhile True: pass"
        with subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) as neighbour:
            try:
                assert neighbour.stdout is not None
                neighbour.stdout.readline()
                assert _waited_on(core, 0.1) >= 0.1
            finally:
                neighbour.kill()

    def test_each_thread_reads_its_own_time(self) -> None:
        assert reads_its_own_time()
        found: list[bool] = []
        thread = threading.Thread(target=lambda: found.append(reads_its_own_time()))
        thread.start()
        thread.join()

        assert found == [True]

    def test_a_forked_child_reads_its_own_time(self) -> None:
        program = """
import os
from tests.unit.test_read_ahead import reads_its_own_time
assert reads_its_own_time()
pid = os.fork()
if not pid:
    os._exit(0 if reads_its_own_time() else 1)
os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def reads_its_own_time() -> bool:
    """Whether it says the same as a file that this thread has just opened: it is not the time of another thread."""
    fresh = CoreWait()
    before, here, after = fresh.seconds(), core_wait_seconds(), fresh.seconds()
    return before <= here <= after


def _waited_on(core: int, least_seconds: float) -> float:
    """How long a new thread has waited for its core, once that is at least so long, or after a minute."""
    found: list[float] = []

    def work() -> None:
        os.sched_setaffinity(0, [core])
        ends = time.monotonic() + SAFETY_SECONDS
        while core_wait_seconds() < least_seconds and time.monotonic() < ends:
            pass
        found.append(core_wait_seconds())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]
