"""Commands and programs in any folder of a project read the same settings, and so meet on the same Redis."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.flowq_process import LONGEST_SECONDS, wait_until
from tests.integration.project import Project
from tests.integration.web_server import WebServer
from tests.runtime.host import run_program

ORDERS = """
    from __future__ import annotations

    from flowq import Pipeline, stage


    @stage
    def take(n: int) -> None: ...


    orders = Pipeline("orders", take)
"""
APP = """
    from flask import Flask

    from flowq import SyncPublisher
    from pipelines.orders import orders, take

    app = Flask(__name__)
    publisher = SyncPublisher(orders)


    @app.post("/<int:n>")
    def order(n: int) -> str:
        return publisher.push(take, n)
"""
EMBEDDED = '[tool.flowq]\nredis = "embedded"\n'

pytestmark = pytest.mark.project({"orders": ORDERS})


def program(project: Project, text: str, folder: str = ".", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder of the project to its end."""
    file = project.write("program.py", text)
    return subprocess.run(
        [sys.executable, file], cwd=project.folder / folder, env=project.environ | variables, text=True,
        capture_output=True, stdin=subprocess.DEVNULL, timeout=LONGEST_SECONDS, check=False,
    )  # fmt: skip


def stage_of(project: Project) -> dict[str, int]:
    """The counters of the only stage, as `flowq status` shows them."""
    status = json.loads(project.flowq("status", "orders", "--json").stdout)
    return dict(status["stages"]["take"])


def test_what_a_web_app_pushes_in_one_folder_is_handled_by_a_run_in_another(project: Project) -> None:
    project.write("pyproject.toml", EMBEDDED)
    app = project.write("web/app.py", APP)
    run = project.start("run", "orders", "--forever")

    with WebServer(project, app.parent, "--workers", "2") as server:
        ids = {server.post(f"/{n}") for n in range(30)}
        run.wait_for(lambda: stage_of(project)["ok"] == 30)

    assert len(ids) == 30
    assert not (app.parent / ".flowq").exists()


PRELOADED = """
    import os

    from flask import Flask

    from flowq import SyncPublisher
    from pipelines.orders import orders, take

    app = Flask(__name__)
    publisher = SyncPublisher(orders)
    publisher.push(take, 0)  # while gunicorn loads it, before it forks its workers


    @app.post("/<int:n>")
    def order(n: int) -> str:
        publisher.push(take, n)
        return str(os.getpid())
"""


def test_workers_of_gunicorn_that_were_forked_from_an_app_with_an_open_publisher_push_as_well(project: Project) -> None:
    project.write("pyproject.toml", EMBEDDED)
    app = project.write("web/app.py", PRELOADED)
    run = project.start("run", "orders", "--forever")

    with WebServer(project, app.parent, "--workers", "3", "--preload") as server:
        pids: list[str] = []
        while len(set(pids)) < 3:
            pids.append(server.post("/1"))
        run.wait_for(lambda: stage_of(project)["ok"] == 1 + len(pids))
        assert server.stop() == 0

    assert "SIGKILL" not in server.log
    assert "Traceback" not in server.log


PUSH = """
    from flowq import SyncPublisher
    from pipelines.orders import orders, take

    with SyncPublisher(orders) as publisher:
        publisher.push(take, 1)
"""


@pytest.mark.parametrize(
    "text",
    [
        PUSH,
        "import asyncio\nfrom flowq import Publisher\nfrom pipelines.orders import orders\n"
        "asyncio.run(Publisher(orders).__aenter__())\n",
        "import asyncio\nfrom flowq import Inspector\nfrom pipelines.orders import orders\n"
        "asyncio.run(Inspector(orders).__aenter__())\n",
        "import asyncio, flowq\nfrom pipelines.orders import orders\nasyncio.run(flowq.run(orders))\n",
    ],
    ids=["SyncPublisher", "Publisher", "Inspector", "flowq.run"],
)
def test_a_program_without_any_redis_is_refused_and_reads_how_to_name_one(project: Project, text: str) -> None:
    done = program(project, text, PYTHONPATH=str(project.folder))

    assert done.returncode == 1
    for part in ("FQ214", "redis=", "FLOWQ_REDIS_URL", "[tool.flowq]", '"embedded"', str(project.folder)):
        assert part in done.stderr
    assert not (project.folder / ".flowq").exists()


@pytest.mark.parametrize("how", ["argument", "variable", "file"])
def test_each_way_to_name_the_server_of_the_project_leads_to_the_same_one(project: Project, how: str) -> None:
    project.write("pyproject.toml", EMBEDDED if how == "file" else "[tool.flowq]\n")
    (project.folder / "deep" / "down").mkdir(parents=True)
    text = PUSH.replace("(orders)", '(orders, redis="embedded")') if how == "argument" else PUSH
    variables = {"FLOWQ_REDIS_URL": "embedded"} if how == "variable" else {}

    done = program(project, text, "deep/down", PYTHONPATH=str(project.folder), **variables)

    assert (done.returncode, done.stderr) == (0, "")
    assert stage_of(project)["waiting"] == 1


def test_in_a_new_project_programs_meet_the_commands(project: Project) -> None:
    (project.folder / "app").mkdir()
    assert project.flowq("init").returncode == 0

    done = program(project, PUSH, "app", PYTHONPATH=str(project.folder))

    assert (done.returncode, done.stderr) == (0, "")
    assert stage_of(project)["waiting"] == 1


FILL = """
    import os
    from flowq import QueueFull, SyncPublisher
    from pipelines.orders import orders, take

    publisher = SyncPublisher(orders)  # no setting is read before it opens
    os.environ.update({variables})
    n = 0
    try:
        with publisher:
            while True:
                publisher.push(take, 1, wait=False)
                n += 1
    except QueueFull:
        print(n)
"""
LIMITS = EMBEDDED + (
    "[tool.flowq.pipelines.orders.stages.take]\nmaxsize = 2\n"
    "[tool.flowq.profiles.prod.pipelines.orders.stages.take]\nmaxsize = 5\n"
)


@pytest.mark.parametrize(
    ("variables", "n"),
    [({}, 2), ({"FLOWQ_PROFILE": "prod"}, 5), ({"FLOWQ_PROFILE": "prod", "FLOWQ_ORDERS__TAKE__MAXSIZE": "7"}, 7)],
)
def test_what_is_set_for_a_stage_holds_in_a_program_that_pushes_to_it(
    project: Project, variables: dict[str, str], n: int
) -> None:
    project.write("pyproject.toml", LIMITS)

    done = program(project, FILL.replace("{variables}", repr(variables)), PYTHONPATH=str(project.folder))

    assert (done.stdout, done.stderr) == (f"{n}\n", "")


def test_the_profile_of_a_push_wins_over_the_one_of_the_environment(project: Project) -> None:
    project.write("pyproject.toml", LIMITS + "[tool.flowq.profiles.small.pipelines.orders.stages.take]\nmaxsize = 1\n")
    for n in range(5):
        pushed = project.flowq("push", "orders", str(n), "--no-wait", "--profile", "prod", FLOWQ_PROFILE="small")
        assert pushed.returncode == 0, pushed.stderr

    full = project.flowq("push", "orders", "5", "--no-wait", "--profile", "prod", FLOWQ_PROFILE="small")

    assert "FQ404" in full.stderr


RUN = """
    import asyncio, flowq
    from pipelines.orders import orders

    asyncio.run(flowq.run(orders, drain=False))
"""


def test_a_run_of_a_program_takes_lease_and_namespace_from_the_project(project: Project) -> None:
    project.write("pyproject.toml", EMBEDDED + 'lease = "7s"\nnamespace = "mine"\n')
    file = project.write("program.py", RUN)
    with subprocess.Popen([sys.executable, file], cwd=project.folder, env=project.environ) as running:
        wait_until(lambda: "1 worker" in project.flowq("status", "orders").stdout)
        done = program(project, LEASE, PYTHONPATH=str(project.folder))
        running.kill()

    assert (done.stdout, done.stderr) == ("7.0\n", "")


LEASE = """
    import asyncio
    from flowq import Inspector
    from pipelines.orders import orders

    async def main() -> None:
        async with Inspector(orders) as inspector:
            (worker,) = (await inspector.workers()).values()
            print(worker["lease_seconds"])

    asyncio.run(main())
"""


IN_NO_FOLDER = """
import os, sys
from flowq import Pipeline, SyncPublisher, stage

@stage
def take(n: int) -> None: ...

pipeline = Pipeline("one", take)

def push():
    with SyncPublisher(pipeline, redis="memory") as publisher:
        return publisher.push(take, 1).is_new

push()  # imports what another user may be unable to read
os.mkdir("private")
os.chdir("private")
if sys.argv[1] == "gone":
    os.rmdir("../private")
else:
    os.chmod(".", 0)
    if os.geteuid() == 0:
        os.seteuid(65534)
print("is_new:", push())
"""


@pytest.mark.parametrize("how", ["gone", "not readable"])
def test_a_program_that_names_its_redis_needs_no_current_folder(how: str, tmp_path: Path) -> None:
    assert run_program(tmp_path, IN_NO_FOLDER, how) == {"is_new": "True"}
