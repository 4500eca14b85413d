"""Pages with large bodies, and what Redis says about them."""

from __future__ import annotations

import random
from typing import Any

from pydantic import BaseModel

from flowq import Pipeline, Retry
from flowq.broker.stored_bodies import StoredBodies
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


async def entries(lab: Lab, key: str) -> list[Any]:
    found: list[Any] = await lab.command(b"XRANGE", f"{lab.namespace}:{{p}}:{key}", b"-", b"+")
    return found


async def released(lab: Lab) -> list[str]:
    """The paths of all bodies whose release is noted."""
    lines = b"".join(fields[1] for _, fields in await entries(lab, "released")).decode().split("\n")
    return sorted(line.split()[0] for line in lines if line)


async def orphans(lab: Lab, pipeline: Pipeline) -> list[str]:
    found = await StoredBodies(lab.broker(pipeline)).orphaned(pipeline.plan, older_than_seconds=86_400)
    return sorted(found.paths)
