"""`python -m flowq`, and what is installed as the command `flowq`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit, also when Ctrl-C comes before anything has begun."""
    try:
        from flowq.cli.app import main
    except KeyboardInterrupt:
        sys.exit(130)
    main()


if __name__ == "__main__":  # a spawned worker process imports this module again
    main()
