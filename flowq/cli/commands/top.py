"""`flowq top`: watches a pipeline on the whole screen."""

from __future__ import annotations

import asyncio
import sys

from flowq.cli.framework.parameters import Here, PipelineNameOrAll


def command(
    name: PipelineNameOrAll = None,
    *,
    settings: Here,
) -> None:
    """Watch a pipeline, full screen: stages with trends, workers, the slowest messages, dead letters.

    Everything is read from Redis, whether or not workers run. Keys: q quits, p pauses or resumes the pipeline, s sorts
    by the next column, d shows dead letters, tab switches to the next pipeline. Off a terminal it prints a line every
    five seconds.

    Example:
      flowq top scrape
    """
    from flowq.cli.framework.watching import plans_of
    from flowq.cli.views.status_screen import is_terminal, show_on
    from flowq.cli.views.top_screen import show_top

    plans = plans_of(name, settings)
    if not plans:
        return
    if is_terminal(sys.stdout):
        asyncio.run(show_top(plans, settings, sys.stdin, sys.stdout))
    else:
        asyncio.run(show_on(plans, settings, sys.stdout, json=False, alone=name is not None))
