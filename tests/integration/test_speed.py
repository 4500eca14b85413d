"""Guards the speed of the engine: what a message costs in processor time, beside a plain loop in the same run."""

from __future__ import annotations

import sys

import pytest

from benchmarks.drain import drained


def processor_microseconds(subject: str, task: str, n: int) -> float:
    """Of the worker and of Redis together. Unlike a rate it hardly depends on what else the machine is doing."""
    measured = drained(subject, task, n)
    return measured[f"{subject} worker"] + measured[f"{subject} redis"]


@pytest.mark.skipif(sys.platform != "linux", reason="processor time of other processes is read from /proc")
@pytest.mark.parametrize(("task", "n_flowq", "n_loop"), [("drain", 20_000, 5_000), ("chain", 6_000, 2_000)])
def test_a_message_costs_at_most_a_third_of_what_a_plain_loop_takes(task: str, n_flowq: int, n_loop: int) -> None:
    # Measured: a seventh. The margin is for machines, not for changes.
    assert processor_microseconds("flowq", task, n_flowq) * 3 < processor_microseconds("loop", task, n_loop)
