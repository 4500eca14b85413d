"""`flowq export`: writes what other tools need, from the plan: Kubernetes manifests, a compose file, a dashboard."""

from __future__ import annotations

import re
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowq.cli.framework.error_screen import note
from flowq.cli.framework.help import App
from flowq.cli.framework.parameters import PipelineName
from flowq.errors import UsageError

if TYPE_CHECKING:
    from flowq.graph.compilation.plan import Plan

command = App(help="Write manifests and dashboards for other tools.")

Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to FILE instead of stdout.")]
Image = Annotated[str, typer.Option(metavar="IMAGE", help="The image with flowq and your pipelines.")]
_DEFAULT_IMAGE = "flowq-app:latest"
_IMAGE = re.compile(r"[a-z0-9][\w.:/@-]*")
_DNS_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@command.command("k8s")
def k8s(
    name: PipelineName,
    image: Image = _DEFAULT_IMAGE,
    kube_namespace: Annotated[str, typer.Option(metavar="NAME", help="The namespace it will run in.")] = "default",
    replicas: Annotated[int, typer.Option(min=1, metavar="N", help="The most pods of each stage.")] = 10,
    output: Output = None,
) -> None:
    """Write Kubernetes manifests: a Deployment per stage, scaled by KEDA.

    KEDA scales each stage on the messages that are ready: waiting, or delayed and due. A source becomes a Job. The
    Redis URL comes from the secret "flowq-redis".

    Example:
      flowq export k8s scrape --image registry.example.org/scrape:1.4 -o k8s.yaml
    """
    from flowq.deployment.kubernetes import kubernetes

    _check(_IMAGE, "--image", image)
    _check(_DNS_NAME, "--kube-namespace", kube_namespace)
    plan, store = _plan(name)
    text = kubernetes(plan, image=image, namespace=kube_namespace, replicas=replicas, claim_store=store)
    _write(text, output)


@command.command("compose")
def compose(
    name: PipelineName,
    image: Image = _DEFAULT_IMAGE,
    output: Output = None,
) -> None:
    """Write a compose file: Redis, a service per stage, an exporter.

    Example:
      flowq export compose scrape -o compose.yaml
    """
    from flowq.deployment.compose import compose

    _check(_IMAGE, "--image", image)
    plan, store = _plan(name)
    _write(compose(plan, image=image, claim_store=store), output)


@command.command("grafana")
def grafana(output: Output = None) -> None:
    """Write a Grafana dashboard for all pipelines.

    It reads the metrics of flowq exporter, or of flowq run --metrics, from Prometheus.

    Example:
      flowq export grafana -o flowq-dashboard.json
    """
    _write(files("flowq.monitoring").joinpath("dashboard.json").read_text(encoding="utf-8"), output)


def _plan(name: str) -> tuple[Plan, str | None]:
    """The plan of a pipeline, and where its large bodies are stored."""
    from flowq.cli.framework.loading import load
    from flowq.settings import Settings

    settings = Settings.load()
    plan = load(name, settings).pipeline.plan
    for taken in ("exporter", "redis"):
        if taken in plan.stage_by_name:
            raise UsageError(f'the stage "{taken}" would clash with the service of that name', hint="rename the stage")
    return plan, settings.claim_store


def _check(form: re.Pattern[str], flag: str, given: str) -> None:
    if not form.fullmatch(given):
        raise UsageError(f'{flag}: "{given}" is not valid')


def _write(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {output}", detail=error.strerror or str(error)) from error
    note(f"wrote {output}")
