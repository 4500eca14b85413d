"""The module that the Python blocks of a page build up: executes each block that it is sent, and answers."""

from __future__ import annotations

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
    for line in blocks:
        block = json.loads(line)
        error = ""
        try:
            exec(compile("\n" * (block["line"] - 1) + block["text"], block["file"], "exec"), module.__dict__)
        except BaseException:  # noqa: BLE001 - SystemExit too: it is the page that fails
            error = traceback.format_exc()
        print(json.dumps(error), file=answers, flush=True)


if __name__ == "__main__":
    main()
