"""A run over several servers: a worker is killed, a server is away, and both at once."""

from __future__ import annotations

import os
import signal

import pytest

from tests.faults.divided_run import N_ITEMS, N_SHARDS, DividedRun
from tests.integration.http_client import samples, url_of

WORKERS = 2
CRASHED = "crash: died of SIGKILL"
REPLACED = "died of SIGKILL; starting another"


def test_a_worker_that_is_killed_is_replaced_and_its_death_is_known_in_each_of_its_shards(divided: DividedRun) -> None:
    run = divided.start("--workers", str(WORKERS))
    run.wait_for(divided.is_under_way)
    pid = divided.project.workers()[0]
    shards = divided.shards_of(pid)
    assert len(shards) > 2

    os.kill(pid, signal.SIGKILL)
    run.wait_for(lambda: REPLACED in run.stderr)

    divided.assert_is_exact(run)
    assert {shard: divided.deaths_in(shard).get(pid) for shard in shards} == dict.fromkeys(shards, CRASHED)


def test_a_worker_that_is_killed_is_replaced_while_a_shard_is_silent_which_learns_of_it_later(
    divided: DividedRun,
) -> None:
    run, silent = divided.start("--workers", str(WORKERS)), divided.servers.nodes[1]
    run.wait_for(divided.is_under_way)
    pid = divided.project.workers()[0]
    shards = divided.shards_of(pid)
    silent.freeze()
    os.kill(pid, signal.SIGKILL)

    run.wait_for(lambda: REPLACED in run.stderr)
    answering = {shard for shard in shards if divided.server_of(shard) is not silent}
    run.wait_for(lambda: all(divided.deaths_in(shard).get(pid) == CRASHED for shard in answering))

    silent.thaw()
    divided.assert_is_exact(run)
    assert {shard: divided.deaths_in(shard).get(pid) for shard in shards} == dict.fromkeys(shards, CRASHED)


@pytest.mark.parametrize("fault", ["frozen", "killed"])
def test_while_the_server_of_shard_0_is_away_the_others_go_on_and_nothing_is_lost_or_doubled(
    divided: DividedRun, fault: str
) -> None:
    run, first = divided.start("--workers", str(WORKERS)), divided.servers.nodes[0]
    run.wait_for(divided.is_under_way)
    first.freeze() if fault == "frozen" else first.kill()
    before = divided.handled().total()

    is_away = f"{first.url} is not available"
    run.wait_for(lambda: is_away in run.stderr and divided.handled().total() > before + N_ITEMS // 10)
    assert not run.has_ended

    first.thaw() if fault == "frozen" else first.start()
    divided.assert_is_exact(run)
    n_said = run.stderr.count(is_away)
    assert n_said <= WORKERS + 1, f"each process says it once:\n{run.stderr}"
    assert run.stderr.count(f"{first.url} is available again") <= n_said


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_that_is_stopped_while_a_server_hangs_names_it_and_the_next_run_does_the_rest(
    divided: DividedRun, workers: str
) -> None:
    run, hanging = divided.start("--workers", workers, "--grace", "1s"), divided.servers.nodes[1]
    run.wait_for(divided.is_under_way)
    hanging.freeze()
    run.popen.send_signal(signal.SIGTERM)

    assert run.wait() == 0, run.stderr
    assert f"Redis at {hanging.url} does not answer: other workers will reclaim" in run.stderr
    assert divided.project.workers() == []

    hanging.thaw()
    divided.assert_is_exact(divided.start("--workers", workers))


@pytest.mark.parametrize("hanging", [0, 1])
def test_metrics_are_served_while_a_server_hangs_and_say_what_is_down(divided: DividedRun, hanging: int) -> None:
    divided.project.ok("run", "divided", "--workers", "0", "--for", "1s", "--forever")
    exporter = divided.project.start("exporter", "--listen", "127.0.0.1:0")
    url = url_of(exporter)
    samples(url)  # it has found the pipeline
    divided.servers.nodes[hanging].freeze()

    found = samples(url)

    if hanging == 0:  # where the record of the pipeline is
        assert found["flowq_up", "divided"] == 0
    else:
        up = {shard: found["flowq_shard_up", "divided", str(shard)] for shard in range(N_SHARDS)}
        assert up == {0: 1, 1: 0, 2: 1, 3: 1, 4: 0, 5: 1}
