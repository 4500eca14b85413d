"""A pipeline whose every text is hostile: what users, other programs and broken workers may have put into Redis."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from tests.dashboard.event_stream import events_in
from tests.dashboard.web_page import WebPage

AWAY = "evil.test"
EVIL = (
    f'"><img src="https://{AWAY}/i.png" onerror="window.pwned=1"></script><script>window.pwned=1</script>'
    f"<style>@import url(//{AWAY}/s.css)</style>' onmouseover='window.pwned=1' javascript:window.pwned=1 "
    "{{7*7}} {% raw %} &lt;b&gt; ../..;/%2e%2e%00 \u202eexe.\u2066 \x1b]0;pwned\x07\x1b[2J\x9b31m\x7f\x00"
    "\u2028\u200b\u0085"
    '\r\n\r\nevent: full\ndata: {"set":{}}\n\n'
)
"""Markup, scripts, styles, templates, marks that turn writing around, escape sequences, NUL, line ends of a stream."""

WORD = EVIL.translate({ord(char): "_" for char in " \r\n\u2028\u0085\x1c\x1d\x1e\x1f\x0b\x0c\x00"})
"""The same without white space, as the words of a header are."""

PIPELINE = f"""
from __future__ import annotations
from typing import Any
from pydantic import BaseModel
from flowq import Pipeline, Rate, Reject, Retry, RetryLater, stage

EVIL = {EVIL!r}
NAME = EVIL.replace("\\0", "")

class Row(BaseModel):
    n: int
    key: str = "k"
    data: Any = None

class Other(BaseModel):
    m: int
    key: str = "k"

Other.__name__ = "Other" + NAME
boom = compile("def boom():\\n    raise ValueError(EVIL)", "/srv/" + NAME + ".py", "exec")
names = {{"EVIL": EVIL}}
exec(boom, names)
names["boom"].__code__ = names["boom"].__code__.replace(co_name=NAME)

@stage(rate=Rate(1000, by="key", keys={{EVIL: Rate(5)}}), keep=10, retry=Retry(attempts=2, base=0.01))
async def take(row: Row | Other) -> Row | None:
    if isinstance(row, Other):
        return None
    if row.n == 1: raise Reject(EVIL)
    if row.n == 2: names["boom"]()
    if row.n == 3: raise RetryLater(EVIL, after=3000, hold="key")
    return row

@stage
async def store(row: Row) -> None: ...

p = Pipeline("p", take >> store)
"""


@contextmanager
def hostile_page(*options: str) -> Iterator[WebPage]:
    """The page of that pipeline after it has run."""
    with WebPage({"p": PIPELINE}, *options) as served:
        client = redis.Redis.from_url(served.redis.url)  # pyright: ignore[reportUnknownMemberType]
        key, odd = "flowq:{p}:", EVIL.encode()
        edge = f"{key}edge:>take"
        header = b"%s - - 0 f=1 t=Row%s" % (WORD.encode(), WORD.encode())
        data = {EVIL: EVIL, "nested": [{EVIL: [EVIL]}], "long": "<b>" * 400_000}
        for n in (1, 2, 3, 4):
            body = json.dumps({"n": n, "key": EVIL if n == 3 else "k", "data": data if n != 3 else EVIL})
            client.xadd(edge, {"h": b"%d%s - - 0 t=Row" % (n, WORD.encode()), "b": body.encode()})
        client.xadd(edge, {"h": b"surrogate - - 0 t=Row", "b": b'{"n":1,"data":"\\ud800"}'})
        client.xadd(edge, {"h": header, "b": odd, b"f" + odd: odd})
        running = served.project.start("run", "p")
        running.wait_for(lambda: client.xlen(f"{key}dead:take") >= 4 and client.zcard(f"{key}held:take"))
        running.popen.terminate()
        running.wait()
        record = json.dumps({"worker": EVIL, "host": EVIL, "stages": ["take", EVIL], "pid": 1, "version": EVIL})
        client.hset(f"{key}workers", mapping={"odd": record, odd: odd})
        client.set(f"{key}lease:{EVIL}", "1", px=600_000)
        client.hset(f"{key}certificates", mapping={odd: odd})
        client.zadd(f"{key}held:take", {odd: 9e12})
        client.hset(f"{key}holds:take", odd, b"1 2 - " + odd)
        letter = {"reason": EVIL, "error": EVIL, "traceback": EVIL, "place": EVIL, "worker": EVIL, "run": EVIL}
        client.xadd(f"{key}dead:take", {"e": odd, "h": header, "b": odd, "x": json.dumps(letter)})
        client.xadd(f"{key}dead:take", {"e": odd, "x": odd})
        client.xadd(edge, {"h": header, "b": odd})
        client.xreadgroup("flowq", odd, {edge: ">"}, count=1)  # pyright: ignore[reportArgumentType]
        failure = urlsafe_b64encode(json.dumps([1, 1, EVIL, EVIL]).encode())
        counts = {b"failure take " + name: b"7 2 9000000000000 " + failure for name in (b"1", b"other", odd)}
        client.hset(f"{key}failures", mapping={b"run": client.hget(f"{key}run", "id") or b"", odd: odd, **counts})
        client.zadd(f"{key}delayed:>take", {"z": 9e12})
        client.hset(f"{key}parked:>take", "z", b"z - - 0 a=2 l=" + failure + b"\n" + odd)
        for action in (b"retry", b"remove", odd):
            act = {"actor": odd, "action": action, "selection": odd, "n": odd, "result": odd}
            client.xadd(f"{key}audit", act)  # pyright: ignore[reportArgumentType]
        _wait_for_two_looks(served)
        yield served


def _wait_for_two_looks(served: WebPage) -> None:
    """Until the page shows what is in Redis now: the first event is older, and the look of the second may be."""
    with served.open("GET", "/p/p/events", headers={"accept": "text/event-stream"}) as stream:
        events = events_in(stream)
        for _ in range(3):
            next(events)
