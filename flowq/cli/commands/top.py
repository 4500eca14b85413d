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
    """Watch a pipeline on the whole screen: stages and their trend, workers, slowest messages, dead letters.

    Everything is read from Redis, whether workers run or not. Keys: q quits, p pauses the pipeline and resumes it, s
    sorts the stages by another column, d shows the dead letters, tab goes to the next pipeline. Off a terminal, a line
    every five seconds.

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
