"""The module that the Python blocks of a page build up: executes each block that it is sent, and answers.

A block may `await`, as a cell of a notebook may.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType


def main() -> None:
    """Execute blocks, which arrive as lines of JSON, until there are no more."""
    blocks, answers = os.fdopen(int(sys.argv[1])), os.fdopen(int(sys.argv[2]), "w")
    module = sys.modules["page"] = ModuleType("page")
    sys.path.insert(0, str(Path.cwd()))
    with asyncio.Runner() as runner:
        for line in blocks:
            block = json.loads(line)
            text, error = "\n" * (block["line"] - 1) + block["text"], ""
            try:
                code = compile(text, block["file"], "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                awaited = eval(code, module.__dict__)
                if inspect.iscoroutine(awaited):
                    runner.run(awaited)
            except BaseException:  # noqa: BLE001 - SystemExit too: it is the page that fails
                error = traceback.format_exc()
            print(json.dumps(error), file=answers, flush=True)


if __name__ == "__main__":
    main()
