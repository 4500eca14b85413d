"""`flowq status` shows which keys are held, why, and for how long."""

from __future__ import annotations

import json
import re

import pytest

from tests.integration.project import Project

PIPELINE = """
from __future__ import annotations
from pydantic import BaseModel
from flowq import Pipeline, Rate, RetryLater, stage

class Call(BaseModel):
    host: str

@stage(rate=Rate(1000, by="host", concurrency=1))
async def fetch(call: Call) -> None:
    raise RetryLater("HTTP 429", after=3000, hold="host")

calls = Pipeline("calls", fetch)
"""


pytestmark = pytest.mark.project({"calls": PIPELINE}, redis="debian", COLUMNS="100")


def test_status_shows_which_keys_are_held_and_why(project: Project) -> None:
    for _ in range(3):
        project.ok("push", "calls.fetch", '{"host": "example.org"}')

    def held() -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(project.run("status", "calls", "--json").stdout)["held"]
        return found

    assert held() == []
    running = project.start("run", "calls")
    running.wait_for(lambda: held() and held()[0]["waiting"] == 2)

    (found,) = held()
    left = found.pop("seconds_left")
    assert isinstance(left, float)
    assert 2400 <= left <= 3000
    assert found == {"stage": "fetch", "key": "example.org", "reason": "HTTP 429", "repeats": 0, "waiting": 2}
    lines = project.run("status", "calls").stdout.splitlines()
    (line,) = [line for line in lines if "example.org" in line]
    assert re.fullmatch(r" ⧗ fetch example\.org is on hold for another (4\d|50) min, HTTP 429; 2 waiting", line)
    assert any(re.match(r" fetch +⧗ 1 on hold, (4\d|50) min left ", line) for line in lines)
