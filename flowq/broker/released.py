"""Bodies that nobody needs any more: noted in the step that settles their message, deleted a minute later."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from functools import partial

from flowq.broker.redis_streams import Broker
from flowq.delivery.claim import Reference
from flowq.errors import BodyLost, BrokerError

RELEASED_SECONDS = 60
"""How long a body outlives its message. A Redis that restarts or fails over may forget its last settlements; their
messages run again then and need their bodies. The note of the release is forgotten in the same breath."""

_PER_CALL = 100


async def release(broker: Broker, references: Sequence[bytes]) -> None:
    """Note that nobody needs these bodies any more. Where Redis does not answer they are left to `flowq gc`."""
    with contextlib.suppress(BrokerError):
        text = b"".join(reference + b"\n" for reference in references)
        await broker.ask([(b"XADD", broker.keys.released, b"*", b"r", text)])


async def delete_released(broker: Broker) -> int:
    """Delete the bodies that were released long enough ago; how many there were.

    Many may do this at once, and be broken off anywhere: a file that is gone is not missed. Raises BrokerError, and
    ClaimFolderUnavailable when the folder cannot be reached.
    """
    folder, n = broker.claims, 0
    if folder is None:
        return 0
    while True:
        seconds, microseconds = await broker.answer(b"TIME")
        until_ms = (int(seconds) - RELEASED_SECONDS) * 1000 + int(microseconds) // 1000
        read = partial(broker.answer, b"XRANGE", broker.keys.released, b"-", max(0, until_ms), b"COUNT")
        entries, _ = await broker.paging.ask(read, _PER_CALL)
        if not entries:
            return n
        n += await folder.remove(paths_in(value for _, fields in entries for value in fields[1::2]))
        await broker.answer(b"XDEL", broker.keys.released, *(entry_id for entry_id, _ in entries))


def paths_in(values: Iterable[bytes]) -> list[str]:
    """The paths that some notes of releases name; what is no reference is passed over."""
    paths: list[str] = []
    for line in b"\n".join(values).split(b"\n"):
        with contextlib.suppress(BodyLost):
            paths.append(Reference.decode(line).path)
    return paths
