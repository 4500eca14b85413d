"""Named points on the path of a message at which a process dies, by `kill -9`, the first time it gets there.

The workload calls `arm()` when a process imports it. Without FAILPOINT in the environment nothing happens: flowq itself
knows nothing of all this. With it, the one method at which that point lies is wrapped. FAILPOINT_FILE is made by the
process that dies, so that the next one passes.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from flowq.broker import scripts
from flowq.broker.client.redis_protocol import RedisProtocol
from flowq.broker.reader import Reader
from flowq.runtime.handlers.handling import Handling

Method = Callable[..., Awaitable[Any]]

_SCRIPTS = {"settle": scripts.SETTLE, "publish": scripts.PUBLISH, "promote": scripts.PROMOTE, "retire": scripts.RETIRE}
POINTS = (
    "after a read",
    "before a handler",
    "after a handler",
    *[f"{moment} {name}" for name in _SCRIPTS for moment in ("before", "after")],
)
"""`after settle` is after Redis has executed it and before this process knows: the moment of a lost reply."""


def arm() -> None:
    """Make the point real that FAILPOINT names, if it does, in a worker process."""
    point = os.environ.get("FAILPOINT")
    if point is None or "flowq.cli.run.worker_process" not in sys.orig_argv:
        return
    match point.split():
        case ["after", "a", "read"]:
            _wrap(Reader, "read", after=lambda _, deliveries: bool(deliveries))
        case [moment, "a", "handler"]:
            _wrap(Handling, "handle", **{moment: lambda *_: True})
        case [moment, name]:
            script = _SCRIPTS[name]
            _wrap(RedisProtocol, "ask", **{moment: lambda request, *replies: _ran(request, script, *replies)})
        case _:
            raise ValueError(point)


def _ran(request: bytes, script: scripts.Script, replies: Sequence[Any] = ()) -> bool:
    """Whether this is a call of that script; one that Redis did not know has not run."""
    calls = script.digest in request or script.text in request
    return calls and not any(isinstance(reply, Exception) for reply in replies)


def _wrap(
    owner: type,
    name: str,
    *,
    before: Callable[..., bool] = lambda *_: False,
    after: Callable[..., bool] = lambda *_: False,
) -> None:
    method: Method = getattr(owner, name)

    async def wrapped(self: Any, first: Any, *rest: Any, **named: Any) -> Any:
        if before(first):
            die_once()
        result = await method(self, first, *rest, **named)
        if after(first, result):
            die_once()
        return result

    setattr(owner, name, wrapped)


def die_once() -> None:
    try:
        os.close(os.open(os.environ["FAILPOINT_FILE"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
