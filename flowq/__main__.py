"""`python -m flowq` is the command `flowq`."""

from __future__ import annotations

from flowq.cli.app import main

if __name__ == "__main__":  # a spawned worker process imports this module again
    main()
