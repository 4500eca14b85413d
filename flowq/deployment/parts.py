"""What the files for each tool have in common: names, commands, and how a stage should be scaled."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence

from flowq.graph.compilation.plan import StagePlan

CHANGE_ME = "CHANGE-ME"
GRACE_SECONDS, GRACE_MARGIN_SECONDS = 30, 15
METRICS_PORT = 9100
CLAIM_FOLDER = "/claims"
"""Where the volume of large bodies is mounted. The user of the image owns it there."""
_ROUNDS_PER_REPLICA = 10


def dns_name(*parts: str) -> str:
    """A name that DNS and Kubernetes take.

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


def quoted(text: str) -> str:
    """A string as YAML reads it, whatever is in it: JSON is YAML.

    >>> quoted("url=CHANGE-ME")
    '"url=CHANGE-ME"'
    """
    return json.dumps(text, ensure_ascii=False)


def words(given: Sequence[str]) -> str:
    """A command as a YAML list in one line."""
    return f"[{', '.join(quoted(word) for word in given)}]"


def stage_command(pipeline: str, stage: StagePlan, *more: str) -> list[str]:
    """The arguments of flowq that run one stage until stopped."""
    grace = f"{GRACE_SECONDS}s"
    return ["run", pipeline, "--stage", stage.name, "--quiet", "--log-format", "json", "--grace", grace, *more]


def source_command(pipeline: str, source: StagePlan, *more: str) -> list[str]:
    """The arguments of flowq that run a source, and end when everything that came of it is done."""
    asked = [word for name in required_arguments(source) for word in ("--arg", f"{name}={CHANGE_ME}")]
    return ["run", pipeline, "--stage", source.name, *asked, "--drain", "--quiet", "--log-format", "json", *more]


def required_arguments(source: StagePlan) -> list[str]:
    """What a source has to be told; where nothing is required, the first that is empty unless told."""
    handler = source.handler
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(handler.call).parameters.items()
        if name not in handler.resources and name != handler.context_parameter
    }
    required = [name for name, default in defaults.items() if default is inspect.Parameter.empty]
    return required or [name for name, default in defaults.items() if default in ("", None)][:1]


def messages_per_replica(stage: StagePlan) -> int:
    """How many ready messages are worth another replica: ten for each handler that a replica runs at once."""
    at_once = stage.concurrency * (stage.batch.size if stage.batch else 1)
    return at_once * _ROUNDS_PER_REPLICA
