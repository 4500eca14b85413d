"""`flowq export`: writes what depends on the plan of a pipeline: Kubernetes manifests, a compose file."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowq.cli.framework.connect import plan_of
from flowq.cli.framework.error_screen import note
from flowq.cli.framework.help import App
from flowq.cli.framework.parameters import PipelineName
from flowq.errors import UsageError
from flowq.settings import Settings

if TYPE_CHECKING:
    from flowq.graph.compilation.plan import Plan

command = App(help="Write manifests for Kubernetes or Compose.")

Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to FILE instead of stdout.")]
Image = Annotated[str, typer.Option(metavar="IMAGE", help="The image with flowq and your pipelines.")]
_DEFAULT_IMAGE = "flowq-app:latest"
_IMAGE = re.compile(r"[a-z0-9][\w.:/@-]*")
_DNS_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@command.command("k8s")
def k8s(
    name: PipelineName,
    image: Image = _DEFAULT_IMAGE,
    kube_namespace: Annotated[
        str, typer.Option(metavar="NAME", help="The Kubernetes namespace of the pipeline.")
    ] = "default",
    replicas: Annotated[int, typer.Option(min=1, metavar="N", help="The maximum number of pods per stage.")] = 10,
    output: Output = None,
) -> None:
    """Write Kubernetes manifests: a Deployment per stage, scaled by KEDA.

    KEDA scales each stage on the messages that are ready: waiting, or delayed and due. A source becomes a Job. The
    Redis URL comes from the secret "flowq-redis". The exporter that KEDA reads, the alerts and the dashboard are the
    same for all pipelines: see examples/deploy in the flowq repository.

    Example:
      flowq export k8s scrape --image registry.example.org/scrape:1.4 -o k8s.yaml
    """
    from flowq.deployment.kubernetes import kubernetes

    _check(_IMAGE, "--image", image)
    _check(_DNS_NAME, "--kube-namespace", kube_namespace)
    plan, store = _plan(name)
    text = kubernetes(plan, image=image, namespace=kube_namespace, replicas=replicas, claim_store=store)
    write(text, output)


@command.command("compose")
def compose(
    name: PipelineName,
    image: Image = _DEFAULT_IMAGE,
    output: Output = None,
) -> None:
    """Write a compose file: a service per stage and source.

    Redis and an exporter are in examples/deploy/compose.yaml in the flowq repository. Docker Compose reads compose.yaml
    and compose.override.yaml together.

    Example:
      flowq export compose scrape -o compose.override.yaml
    """
    from flowq.deployment.compose import compose

    _check(_IMAGE, "--image", image)
    plan, store = _plan(name)
    for service in ("exporter", "redis"):
        if service in plan.stage_by_name:
            hint = "rename the stage"
            raise UsageError(f'the stage "{service}" would clash with the service of that name', hint=hint)
    write(compose(plan, image=image, claim_store=store), output)


def _plan(name: str) -> tuple[Plan, str | None]:
    """The plan of a pipeline, and where its large bodies are stored."""
    settings = Settings.load()
    return plan_of(name, settings), settings.claim_store


def _check(form: re.Pattern[str], flag: str, given: str) -> None:
    if not form.fullmatch(given):
        raise UsageError(f'{flag}: "{given}" is not valid')


def write(text: str, output: Path | None) -> None:
    """Write to a file, or to standard output. Raises UsageError for a file that cannot be written."""
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {output}", detail=error.strerror or str(error)) from error
    note(f"wrote {output}")
