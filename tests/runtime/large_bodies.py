"""Pages that are worth a file of their own, and what lies in the claim store of a test."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from flowq import Pipeline, Retry
from flowq.broker.orphaned_bodies import orphaned_bodies
from tests.runtime.lab import Lab

MEGABYTE = 1_000_000
QUICKLY = Retry(attempts=3, base=0.01, max=0.01)


class Page(BaseModel):
    n: int = 0
    host: str = "a"
    html: str = "x"


def page(n: int = 0, *, size: int = 20_000, host: str = "a") -> Page:
    """A page that no compression makes much smaller."""
    return Page(n=n, host=host, html=random.Random(n).randbytes(size // 2).hex())


def with_claims(lab: Lab, tmp_path: Path) -> Lab:
    """The laboratory with a folder for large bodies."""
    lab.claims = tmp_path / "claims"
    lab.claims.mkdir()
    return lab


def files(lab: Lab) -> list[Path]:
    assert lab.claims is not None
    return sorted(file for file in lab.claims.rglob("[!.]*") if file.is_file())


def age(lab: Lab, *, days: float = 2) -> None:
    """Make all files look as if they had been written so long ago."""
    for file in files(lab):
        then = file.stat().st_mtime - days * 86_400
        os.utime(file, (then, then))


async def entries(lab: Lab, key: str) -> list[Any]:
    found: list[Any] = await lab.command(b"XRANGE", f"{lab.namespace}:{{p}}:{key}", b"-", b"+")
    return found


async def released(lab: Lab) -> list[str]:
    """The paths of all files whose release is noted."""
    lines = b"".join(fields[1] for _, fields in await entries(lab, "released")).decode().split("\n")
    return sorted(line.split()[0] for line in lines if line)


def paths(lab: Lab) -> list[str]:
    assert lab.claims is not None
    return sorted(f"{file.parent.name}/{file.name}" for file in files(lab))


async def orphans(lab: Lab, pipeline: Pipeline) -> list[str]:
    found = await orphaned_bodies(lab.broker(pipeline), pipeline.plan, older_than_seconds=86_400)
    return sorted(found.paths)
