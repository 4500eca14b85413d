"""Writes the pages: `make reference`."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.docs.reference.pages import FOLDER, pages


def main() -> int:
    """Write all pages, and remove those that are gone."""
    FOLDER.mkdir(exist_ok=True)
    written = pages()
    for file in FOLDER.glob("*.md"):
        if file.name not in written:
            file.unlink()
    for name, text in written.items():
        Path(FOLDER, name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
