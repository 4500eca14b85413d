"""The page is small: what a browser loads besides the page itself stays within its budget."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

import flowq.dashboard

STATIC = Path(flowq.dashboard.__file__).parent / "static"


@pytest.mark.parametrize(("kind", "most_bytes"), [("css", 12_000), ("js", 8_000)])
def test_what_every_page_loads_is_small(kind: str, most_bytes: int) -> None:
    sizes = {file.name: len(gzip.compress(file.read_bytes(), 9, mtime=0)) for file in STATIC.rglob(f"*.{kind}")}

    assert sum(sizes.values()) <= most_bytes, sizes
