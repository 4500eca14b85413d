"""Crawls that are interrupted, by `kill -9` and by Ctrl-C, at every level: the next run completes them."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator

import pytest
import redis

from flowq.broker.keys import GROUP, Keys
from pipelines.scrape import scrape
from tests.integration.crawl import Crawl, crawl_of
from tests.integration.flowq_process import FlowqProcess, wait_until
from tests.integration.project import Project, own_redis
from tests.redis_server import RedisServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of a project in /proc")

PER_SECOND, FEW_PER_SECOND = 800, 150
SLOTS = 8  # the concurrency of fetch
READ_AHEAD = 2 * PER_SECOND // 10  # a tenth of a second of work, measured while it varies
GRACE_SECONDS, SHORT_GRACE_SECONDS = 3, 0.3

SLOW = """
    import os, time
    from collections.abc import Iterator
    from pathlib import Path

    from flowq import Context, Pipeline, source, stage

    with Path("imports").open("a") as log:
        print(os.getpid(), file=log)
    if os.environ.get("HOW") == "die" and len(Path("imports").read_text().split()) == 2:
        os._exit(9)


    @source
    def numbers() -> Iterator[int]:
        yield 1


    def work_slowly(ctx: Context) -> None:
        with Path("attempts").open("a") as log:
            print(ctx.attempt, file=log, flush=True)
        if "FAST" not in os.environ:
            time.sleep(600)  # longer than a stop may take


    @stage
    def work(number: int, ctx: Context) -> None:
        work_slowly(ctx)


    @stage(name="work")
    async def block(number: int, ctx: Context) -> None:
        work_slowly(ctx)  # badly: this blocks the loop


    @stage(name="work", process=True)
    def work_elsewhere(number: int) -> None:
        Path("attempts").write_text("1")
        time.sleep(600)  # longer than a stop may take


    slow = Pipeline("slow", numbers >> {"block": block, "process": work_elsewhere}.get(os.environ.get("HOW"), work))
"""


SLOW_RUN = ("run", "slow", "--json")
HERE = ("--workers", "0")


@pytest.fixture
def manual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawl]:
    """The PostgreSQL manual: large enough to be killed in the middle."""
    with crawl_of("postgresql", tmp_path_factory.mktemp("kills"), per_second=PER_SECOND) as crawl:
        yield crawl


@pytest.fixture
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawl]:
    """The manual of Sphinx, slowly enough to be interrupted in the middle."""
    with crawl_of("sphinx", tmp_path_factory.mktemp("kills"), per_second=FEW_PER_SECOND) as crawl:
        yield crawl


pytestmark = pytest.mark.project({"slow": SLOW})


class TestKill9:
    def test_of_a_worker_and_then_of_everything_costs_no_page_and_few_requests(self, manual: Crawl) -> None:
        run = manual.start()
        run.wait_for(lambda: manual.requests >= 400)
        running = _kill_the_worker(run, manual)
        run.wait_for(lambda: manual.requests >= 600)
        id_of_run = json.loads(run.stdout.splitlines()[-1])["run"]
        running |= _kill_everything(manual)

        again = manual.run()

        assert again.wait() == 0, again.stderr
        assert again.summary["run"] == id_of_run
        assert manual.differences() == []
        # Fetched again may be only what was running, in the words of the balance, when a worker was killed. Of that it
        # had fetched what was in its slots, and what had left them and was not settled yet: no more than it holds.
        again_fetched = {path for path, hits in manual.hits.items() if hits > 1}
        assert again_fetched <= running
        assert manual.requests - manual.expected.requests <= 2 * (SLOTS + READ_AHEAD)

    def test_of_everything_is_noticed_by_the_next_run_without_waiting_for_a_lease(self, project: Project) -> None:
        run = project.start(*SLOW_RUN, "--lease", "10m")
        run.wait_for(lambda: _attempts(project))
        project.kill_all()

        project.ok(*SLOW_RUN, *HERE, FAST="1")
        assert _attempts(project) == ["1", "1"]

    def test_of_the_supervisor_ends_its_workers_in_good_order(self, small: Crawl) -> None:
        run = small.start()
        run.wait_for(lambda: small.requests >= 40)
        run.popen.kill()

        again = small.run()

        assert again.wait() == 3
        assert again.summary["drained"]
        assert small.differences() == []
        assert small.hits == dict.fromkeys(small.paths_expected(), 1)

    def test_of_the_supervisor_alone_leaves_no_process_behind(self, small: Crawl) -> None:
        run = small.start()
        run.wait_for(lambda: small.requests >= 40)

        run.popen.kill()

        wait_until(lambda: not small.project.pids())

    def test_of_the_supervisor_ends_a_worker_whose_handler_blocks_its_loop(self, project: Project) -> None:
        run = project.start(*SLOW_RUN, "--grace", f"{SHORT_GRACE_SECONDS}s", HOW="block")
        run.wait_for(lambda: _attempts(project))

        run.popen.kill()

        wait_until(lambda: not project.pids())

    def test_of_a_worker_that_has_just_begun_brings_another(self, project: Project) -> None:
        run = project.ok(*SLOW_RUN, HOW="die", FAST="1")
        assert "worker 1 ended with exit code 9; starting another" in run.stderr
        assert _attempts(project) == ["1"]

    def test_of_a_worker_ends_the_processes_of_its_pool(self, project: Project) -> None:
        run = project.start(*SLOW_RUN, HOW="process")
        run.wait_for(lambda: _attempts(project))
        (worker,) = project.workers()
        pool = [pid for pid, command in project.pids().items() if "multiprocessing.spawn" in command]
        assert pool

        os.kill(worker, signal.SIGKILL)

        wait_until(lambda: not set(pool) & project.pids().keys())


class TestLeases:
    def test_one_with_a_short_lease_does_not_take_one_with_a_long_lease_for_dead(self, project: Project) -> None:
        patient = project.start(*SLOW_RUN, "--lease", "10m")
        patient.wait_for(lambda: _attempts(project))
        hasty = project.start(*SLOW_RUN, "-s", "work", "--lease", "300ms")

        # Its lease is renewed five times as often as it would end: so it has looked around for three leases.
        hasty.wait_for(lambda: max(_beats(project)) >= 15)

        assert _attempts(project) == ["1"]


class TestCtrlC:
    def test_finishes_what_runs_within_the_grace_and_the_next_run_does_the_rest(self, small: Crawl) -> None:
        run = small.start("--grace", f"{GRACE_SECONDS}s")
        run.wait_for(lambda: small.requests >= 60)

        exit_code, _ = _stopped(run, signal.SIGINT)

        assert exit_code == 130
        assert not run.summary["drained"]
        assert [stage["running"] for stage in run.summary["stages"].values()] == [0, 0, 0, 0]
        again = small.run()
        assert again.wait() == 3
        assert again.summary["run"] == run.summary["run"]
        assert small.differences() == []
        assert small.hits == dict.fromkeys(small.paths_expected(), 1)

    @pytest.mark.parametrize("workers", ["1", "0"])
    def test_once_more_hands_back_at_once_and_counts_no_attempt(self, project: Project, workers: str) -> None:
        run = project.start(*SLOW_RUN, "--workers", workers)
        run.wait_for(lambda: _attempts(project))
        run.signal_group(signal.SIGINT)
        run.wait_for(lambda: "stopping" in run.stderr)

        exit_code, _ = _stopped(run, signal.SIGINT)

        assert exit_code == 130
        work = run.summary["stages"]["work"]
        assert (work["waiting"], work["running"], work["retries"]) == (1, 0, 0)
        again = project.run(*SLOW_RUN, *HERE, FAST="1")
        assert again.summary["stages"]["work"]["ok"] == 1
        assert _attempts(project) == ["1", "1"]

    def test_ends_a_handler_that_does_not_finish_when_the_grace_is_over(self, project: Project) -> None:
        run = project.start(*SLOW_RUN, "--grace", f"{SHORT_GRACE_SECONDS}s")
        run.wait_for(lambda: _attempts(project))

        exit_code, seconds = _stopped(run, signal.SIGINT)

        assert exit_code == 130
        assert seconds >= SHORT_GRACE_SECONDS
        assert run.summary["stages"]["work"]["waiting"] == 1

    def test_ends_even_a_worker_whose_handler_blocks_its_loop(self, project: Project) -> None:
        run = project.start(*SLOW_RUN, "--grace", f"{SHORT_GRACE_SECONDS}s", HOW="block")
        run.wait_for(lambda: _attempts(project))

        exit_code, _ = _stopped(run, signal.SIGINT)

        assert exit_code == 130
        project.ok(*SLOW_RUN, *HERE, FAST="1")
        assert _attempts(project) == ["1", "1"]

    @pytest.mark.parametrize(("fate", "workers"), [(signal.SIGKILL, "0"), (signal.SIGSTOP, "1")], ids=["dead", "hung"])
    def test_ends_a_run_whose_redis_does_not_answer(self, project: Project, fate: signal.Signals, workers: str) -> None:
        with RedisServer("bundled") as server:
            options = ("--redis", server.url, "--workers", workers, "--grace", f"{SHORT_GRACE_SECONDS}s")
            run = project.start(*SLOW_RUN, *options)
            run.wait_for(lambda: _attempts(project))
            os.kill(server.pid, fate)

            exit_code, _ = _stopped(run, signal.SIGINT)

            os.kill(server.pid, signal.SIGCONT)
        assert exit_code == 130
        assert "Redis does not answer" in run.stderr


class TestSigterm:
    def test_at_the_very_start_loses_nothing(self, small: Crawl) -> None:
        for milestone in ("nothing", "flowq"):
            run = small.start()
            run.wait_for(lambda run=run, said=milestone: said == "nothing" or said in run.stderr)
            exit_code, _ = _stopped(run, signal.SIGTERM)
            assert exit_code in (0, -signal.SIGTERM)

        again = small.run()

        assert again.wait() == 3
        assert small.differences() == []
        assert small.hits == dict.fromkeys(small.paths_expected(), 1)

    def test_in_the_middle_is_a_success(self, small: Crawl) -> None:
        run = small.start()
        run.wait_for(lambda: small.requests >= 20)

        assert _stopped(run, signal.SIGTERM)[0] == 0

    def test_twice_is_a_forced_end(self, project: Project) -> None:
        run = project.start(*SLOW_RUN)
        run.wait_for(lambda: _attempts(project))
        run.signal_group(signal.SIGTERM)
        run.wait_for(lambda: "stopping" in run.stderr)

        exit_code, _ = _stopped(run, signal.SIGTERM)

        assert exit_code == 143
        assert run.summary["stages"]["work"]["waiting"] == 1


def _stopped(run: FlowqProcess, number: signal.Signals) -> tuple[int, float]:
    """The exit code, and how long it took."""
    signalled_at = time.monotonic()
    run.signal_group(number)
    return run.wait(), time.monotonic() - signalled_at


def _kill_the_worker(run: FlowqProcess, crawl: Crawl) -> set[str]:
    """The paths that were running. The supervisor is frozen meanwhile, so that they are not taken over yet."""
    (worker,) = crawl.project.workers()
    os.kill(run.pid, signal.SIGSTOP)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: worker not in crawl.project.workers())
    running = _running(crawl)
    os.kill(run.pid, signal.SIGCONT)
    return running


def _kill_everything(crawl: Crawl) -> set[str]:
    """The paths that were running. All but the server is frozen before it is asked."""
    pids = [pid for pid, command in crawl.project.pids().items() if "flowq" in command.split()[2:3]]
    for pid in [*pids, *crawl.project.workers()]:
        os.kill(pid, signal.SIGSTOP)
    running = _running(crawl)
    crawl.project.kill_all()
    return running


def _attempts(project: Project) -> list[str]:
    """The attempts that the handler has noted so far."""
    noted = project.folder / "attempts"
    return noted.read_text().split() if noted.exists() else []


def _beats(project: Project) -> list[int]:
    """How often each worker has renewed its lease."""
    with _redis_of(project) as client:
        beats = [client.get(lease) or b"0" for lease in client.scan_iter("flowq:{slow}:lease:*")]
        return [int(beat.split()[0]) for beat in beats]


def _redis_of(project: Project) -> redis.Redis:
    return redis.Redis.from_url(own_redis(project.folder))  # pyright: ignore[reportUnknownMemberType]


def _running(crawl: Crawl) -> set[str]:
    """The paths of the links that are given to a worker and not settled, as Redis has them."""
    keys = Keys("flowq", "scrape")
    paths: set[str] = set()
    with _redis_of(crawl.project) as client:
        for edge in scrape.plan.stage("fetch").in_edges:
            stream = keys.edge(edge)
            pending = {entry["message_id"] for entry in client.xpending_range(stream, GROUP, "-", "+", 10_000)}
            messages = [fields[b"b"] for entry, fields in client.xrange(stream) if entry in pending]
            paths |= {crawl.path(json.loads(message)["url"]) for message in messages}
    return paths
