"""The process that imports changed code first: prints what is wrong with it, or the shape of its pipeline."""

from __future__ import annotations

import json
import os
import sys

from flowq.cli.framework.error_screen import report
from flowq.cli.run.instructions import Instructions
from flowq.cli.run.worker_process import plan_in, print_as_on_a_terminal
from flowq.graph.compilation.plan import Plan
from flowq.runtime.handlers.streams import prepare_streams


def shape_of(plan: Plan) -> list[str]:
    """What a run that is under way cannot change: the stages and edges of its pipeline."""
    return [*(stage.name for stage in plan.stages), *(edge.name for edge in plan.edges)]


def main() -> int:
    """Entry point of `python -m flowq.cli.run.code_check`. The shape is the last line of standard output."""
    prepare_streams()
    job = Instructions(**json.loads(sys.stdin.buffer.readline()))
    if job.columns is not None:
        print_as_on_a_terminal(job.columns)
    try:
        print(json.dumps(shape_of(plan_in(job))))
    except BaseException as error:  # noqa: BLE001  (the border of the process: whatever it is, the user must see it)
        report(error, debug=bool(os.environ.get("FLOWQ_DEBUG")))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
