"""What the files for Kubernetes and Compose have in common: names, commands, and the store of large bodies."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence

from flowq.graph.compilation.plan import StagePlan

GRACE_SECONDS, GRACE_MARGIN_SECONDS = 30, 15
CLAIM_FOLDER = "/claims"
"""Where the volume of large bodies is mounted. The user of the image owns it there."""


def dns_name(*parts: str) -> str:
    """A name that DNS and Kubernetes accept.

    >>> dns_name("scrape", "fetch_all")
    'scrape-fetch-all'
    """
    return "-".join(part.lower().replace("_", "-").strip("-") for part in parts)[:63].strip("-")


def claim_bucket(claim_store: str | None) -> str:
    """The store of large bodies if it is a bucket, which needs no volume; else "".

    >>> claim_bucket("s3://bodies/shop"), claim_bucket("/mnt/bodies")
    ('s3://bodies/shop', '')
    """
    return claim_store if claim_store and "://" in claim_store and not claim_store.startswith("file:") else ""


def quoted(value: str | Sequence[str]) -> str:
    """A string, or a list of them in one line, as YAML reads it, with any content: JSON is YAML.

    >>> quoted("url=CHANGE-ME"), quoted(["run", "scrape"])
    ('"url=CHANGE-ME"', '["run", "scrape"]')
    """
    return json.dumps(value, ensure_ascii=False)


def stage_command(pipeline: str, stage: StagePlan, *more: str) -> list[str]:
    """The arguments of flowq that run one stage until stopped."""
    grace = f"{GRACE_SECONDS}s"
    return ["run", pipeline, "--stage", stage.name, "--quiet", "--log-format", "json", "--grace", grace, *more]


def source_command(pipeline: str, source: StagePlan) -> list[str]:
    """The arguments of flowq that run a source, until all messages that follow from it are done."""
    asked = [word for name in _required_arguments(source) for word in ("--arg", f"{name}=CHANGE-ME")]
    return ["run", pipeline, "--stage", source.name, *asked, "--drain", "--quiet", "--log-format", "json"]


def _required_arguments(source: StagePlan) -> list[str]:
    """The arguments that a source requires; without any, the first whose default is empty."""
    handler = source.handler
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(handler.call).parameters.items()
        if name not in handler.resources and name != handler.context_parameter
    }
    required = [name for name, default in defaults.items() if default is inspect.Parameter.empty]
    return required or [name for name, default in defaults.items() if default in ("", None)][:1]
