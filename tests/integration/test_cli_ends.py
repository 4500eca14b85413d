"""Output without a reader, and Ctrl-C before anything has begun."""

from __future__ import annotations

import signal
import subprocess

import pytest
import redis

from tests.integration.flowq_process import FLOWQ
from tests.integration.project import Project
from tests.redis_server import RedisServer

TALKATIVE = """
    from collections.abc import Iterator

    from flowq import Pipeline, source, stage


    @source
    def numbers() -> Iterator[int]:
        yield from range(300)


    @stage
    async def tell(n: int) -> None:
        print(n, "x" * 1000, flush=True)


    talk = Pipeline("talk", numbers >> tell)
"""
# Sends Ctrl-C to its own process at the moment in which this module is looked for.
INTERRUPTED_AT = """
    import os, signal, sys

    class Interrupting:
        def find_spec(self, name, path=None, target=None):
            if name == os.environ["INTERRUPTED_AT"]:
                sys.meta_path.remove(self)
                os.kill(os.getpid(), signal.SIGINT)

    sys.meta_path.insert(0, Interrupting())
"""


pytestmark = pytest.mark.project({"talk": TALKATIVE})


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_handler_that_prints_does_not_fail_when_its_reader_is_gone(workers: str, project: Project) -> None:
    with RedisServer("bundled") as server:
        run = subprocess.Popen(
            [*FLOWQ, "run", "talk", "--workers", workers, "--redis", server.url],
            cwd=project.folder,
            env=project.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert run.stdout is not None
        assert run.stderr is not None
        assert run.stdout.readline()
        run.stdout.close()
        told = run.stderr.read()
        run.stderr.close()

        assert run.wait(60) in (0, 1), told  # 1: the summary was not read either
        with redis.Redis.from_url(server.url) as client:
            assert client.hget("flowq:{talk}:stats", "ok:tell") == b"300"
    assert "BrokenPipe" not in told


@pytest.mark.parametrize(
    "module", ["flowq.cli", "typer", "flowq.cli.app", "flowq.cli.commands.run", "flowq.cli.run.run_session", "uvloop"]
)
def test_ctrl_c_before_anything_has_begun_ends_it_without_a_traceback(module: str, project: Project) -> None:
    project.write("sitecustomize.py", INTERRUPTED_AT)

    run = project.run("run", "talk", PYTHONPATH=str(project.folder), INTERRUPTED_AT=module)

    assert run.popen.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_resource_that_fails_to_close_gives_exit_code_1_after_its_balance(workers: str, project: Project) -> None:
    project.write(
        "unclosed",
        """
        from collections.abc import Iterator

        from flowq import Pipeline, resource, source, stage, use


        @resource
        def client() -> Iterator[int]:
            yield 1
            raise OSError("gone")


        @source
        def numbers() -> Iterator[int]:
            yield 1


        @stage
        def tell(n: int, client: int = use(client)) -> None: ...


        unclosed = Pipeline("unclosed", numbers >> tell)
        """,
    )

    run = project.run("run", "unclosed", "--workers", workers)

    assert run.wait() == 1, run.stderr
    assert "tell  in 1 = ok 1" in run.stderr
    assert 'FQ301]: resource "client"' in run.stderr
