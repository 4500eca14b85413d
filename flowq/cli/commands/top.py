"""`flowq top`: `flowq status --watch` under the name that people look for."""

from __future__ import annotations

from flowq.cli.commands import status
from flowq.cli.framework.parameters import ByShard, Here, Json, PipelineNameOrAll


def command(name: PipelineNameOrAll = None, by_shard: ByShard = False, json: Json = False, *, settings: Here) -> None:
    """Watch pipelines, full screen: stages with trends, workers, the slowest messages, dead letters.

    The same as flowq status --watch. Everything is read from Redis, whether or not workers are running.

    Keys: q quits; tab switches to the next pipeline; and in the view of one pipeline, p pauses or resumes it, s sorts
    by the next column, d shows dead letters, b a row for each shard.

    Example:
      flowq top scrape
    """
    status.command(name, watch=True, by_shard=by_shard, json=json, settings=settings)
