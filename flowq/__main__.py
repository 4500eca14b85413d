"""`python -m flowq`, and what is installed as the command `flowq`."""

from __future__ import annotations

import gc
import os
import signal
import sys
from importlib import import_module
from types import FrameType


def main() -> None:
    """Run the command line and exit. Signals work from the first instruction on."""
    if sys.platform == "win32":
        _say_that_it_is_not_supported()
    was_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if not was_ignored:
        signal.signal(signal.SIGINT, _end_at_once)  # else a traceback from the middle of an import
    if os.getpid() == 1:  # the kernel drops signals to the first process of a container that it does not handle
        signal.signal(signal.SIGTERM, _end_at_once)
    from flowq.runtime.process.gc_tuning import START_THRESHOLD

    gc.set_threshold(START_THRESHOLD)
    from flowq.cli.app import main

    try:
        if not was_ignored:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = main()
    except KeyboardInterrupt:
        code = 130
    if not was_ignored:
        signal.signal(signal.SIGINT, _end_at_once)
    sys.exit(code)


def _say_that_it_is_not_supported() -> None:
    from flowq.errors import UnsupportedPlatform

    try:
        import_module("flowq.broker")
    except UnsupportedPlatform as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


def _end_at_once(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)


if __name__ == "__main__":  # a spawned worker process imports this module again
    main()
