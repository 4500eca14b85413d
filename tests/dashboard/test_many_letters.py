"""Twelve thousand dead letters: pages answer while they are being read, a search ends in time, memory is bounded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from flowq.broker.keys import Keys
from tests.dashboard.web_page import WebPage

N = 12_000
BIG = """
from flowq import Pipeline, stage

@stage
async def parse(order: dict) -> dict:
    return order

@stage
async def store(order: dict) -> None: ...

big = Pipeline("big", parse >> store)
"""
TRACEBACK = "Traceback (most recent call last):\n" + "".join(
    f'  File "/srv/shop/pipelines/big.py", line {n}, in step{n}\n    return next(value)\n' for n in range(8)
)


def letter(n: int) -> dict[Any, Any]:
    """One of four kinds. The messages of the oldest 200 have a field that no others have."""
    error = (f"HTTPError: HTTP 503 after {n} ms", "KeyError: 'price'", f"Reject: order {n}", "OSError: closed")[n % 4]
    info = {"error": error, "error_type": error.partition(":")[0], "traceback": TRACEBACK + error, "attempts": 5}
    message = {"n": n, "text": "x" * 500, **({"old": True} if n < 200 else {})}
    return {"e": ">parse", "h": f"m{n} - - 0 a=5", "b": orjson.dumps(message), "x": orjson.dumps(info)}


@pytest.fixture(scope="module")
def big() -> Iterator[WebPage]:
    with WebPage({"big": BIG}) as served:
        keys = Keys(served.project.variables.get("FLOWQ_NAMESPACE", "flowq"), "big")
        with redis.Redis.from_url(served.redis.url) as client:
            for first in range(0, N, 1000):
                with client.pipeline(transaction=False) as together:
                    for n in range(first, first + 1000):
                        together.xadd(keys.dead("store" if n % 3 else "parse"), letter(n))
                    together.execute()
        yield served


def megabytes(served: WebPage) -> float:
    """What the server has in memory."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{served.process.pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def summary(page: str) -> str:
    found = re.search(r'<p class="sub">([^<]*)</p>', page)
    assert found
    return found[1]


def test_pages_answer_while_letters_are_read_and_show_how_far(big: WebPage) -> None:
    big.restart()  # a server that has read no letters yet
    big.get("/p/big")
    before = megabytes(big)
    seen: list[str] = []

    def is_read() -> bool:
        answer = big.get("/p/big/dead")
        assert answer.status == 200
        seen.append(summary(answer.text))
        return f"{N:,} letters of " in seen[-1]

    big.process.wait_for(is_read)

    assert any(re.search(rf"[\d,]+ of {N:,} read", text) for text in seen), "the first page does not wait for all"
    assert megabytes(big) - before < 30


def test_a_search_stops_and_continues_where_it_was(big: WebPage) -> None:
    pages = [big.get("/p/big/dead?where=old=true").text]
    assert "searched" in pages[0]
    while "Continue</a>" in pages[-1]:
        pages.append(big.get("/p/big/dead?where=old=true").text)

    assert len(pages) > 1
    assert f"searched {N:,} of {N:,} letters" in pages[-1]
    assert summary(pages[0]).startswith("0 letters of 0 kinds")
    assert summary(pages[-1]).startswith("200 letters of ")
