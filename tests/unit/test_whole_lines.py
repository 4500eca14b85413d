"""What handlers print on several threads at once: whole lines, none lost."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from flowq.runtime.handlers.streams import WholeLines

N_THREADS, N_LINES = 8, 3000
PROGRAM = f"""
import sys, threading
from flowq.runtime.handlers.streams import flush_and_discard, forgiving_stdout, prepare_streams

prepare_streams()
sys.stdout = forgiving_stdout()

def show(thread):
    for line in range({N_LINES}):
        print("line", line, "of", thread)
    print("begun by", thread, end=";")

threads = [threading.Thread(target=show, args=(thread,)) for thread in range({N_THREADS})]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("flushed", end=";", flush=True)
flush_and_discard()
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_lines_printed_by_several_threads_are_whole_and_none_is_lost(unbuffered: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    *lines, last = done.stdout.splitlines()
    assert sorted(lines) == sorted(f"line {line} of {thread}" for line in range(N_LINES) for thread in range(N_THREADS))
    first, *begun, end = last.split(";")
    assert (first, sorted(begun), end) == ("flushed", [f"begun by {thread}" for thread in range(N_THREADS)], "")


def numbers_of_threads(target: Callable[[], object], *, at_most: int, until: int = 0) -> Iterator[int]:
    """Run it in one thread after the other, until one has the number `until`."""
    number = -1
    for _ in range(at_most):
        if number != until:
            thread = threading.Thread(target=target)
            thread.start()
            number = thread.ident or 0
            thread.join()
            yield number


def test_what_an_ended_thread_has_begun_is_not_continued_by_a_thread_with_its_number() -> None:
    written = io.BytesIO()
    stream = WholeLines(written, write_through=True)

    (number,) = numbers_of_threads(lambda: stream.write("begun;"), at_most=1)
    numbers = list(numbers_of_threads(lambda: stream.write("whole\n"), at_most=1000, until=number))

    assert numbers[-1] == number  # else this shows nothing
    assert written.getvalue() == b"whole\n" * len(numbers)
    stream.flush_all()
    assert written.getvalue().endswith(b"whole\nbegun;")


def test_what_many_ended_threads_have_begun_is_not_kept_in_memory() -> None:
    written = io.BytesIO()
    stream = WholeLines(written, write_through=True)

    list(numbers_of_threads(lambda: stream.write("begun;"), at_most=1100))

    assert written.getvalue().count(b"begun;") >= 1000


def test_a_line_that_never_ends_is_not_kept_in_memory() -> None:
    written = io.BytesIO()
    stream = WholeLines(written, write_through=True)
    longest_kept = 0

    for n in range(1, 100_001):
        stream.write(".")
        longest_kept = max(longest_kept, n - len(written.getbuffer()))

    assert longest_kept == 8192
