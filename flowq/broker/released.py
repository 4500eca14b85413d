"""Bodies that are no longer needed: noted in the step that settles their message, deleted a minute later."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from functools import partial

from flowq.broker.redis_streams import Broker
from flowq.errors import BodyLost, BrokerError
from flowq.large_bodies.reference import Reference

RELEASED_SECONDS = 60
"""How long a body outlives its message. A Redis that restarts or fails over may forget its last settlements; their
messages run again then and need their bodies. The note of the release is forgotten with the settlement."""

_PER_CALL = 100


async def release(broker: Broker, references: Sequence[bytes]) -> None:
    """Note that these bodies are no longer needed. If Redis does not answer, they are left to `flowq gc`."""
    with contextlib.suppress(BrokerError):
        text = b"".join(reference + b"\n" for reference in references)
        await broker.ask([(b"XADD", broker.keys.released, b"*", b"r", text)])


async def delete_released(broker: Broker) -> None:
    """Delete the bodies that were released long enough ago.

    Several workers may do this at once and be interrupted anywhere: deleting a body twice is no error. Raises
    BrokerError, and ClaimStoreUnavailable if the store cannot be reached.
    """
    while broker.claims is not None:
        seconds, microseconds = await broker.answer(b"TIME")
        until_ms = (int(seconds) - RELEASED_SECONDS) * 1000 + int(microseconds) // 1000
        read = partial(broker.answer, b"XRANGE", broker.keys.released, b"-", max(0, until_ms), b"COUNT")
        entries, _ = await broker.paging.ask(read, _PER_CALL)
        if not entries:
            return
        await broker.claims.remove(paths_in(value for _, fields in entries for value in fields[1::2]))
        await broker.answer(b"XDEL", broker.keys.released, *(entry_id for entry_id, _ in entries))


def paths_in(values: Iterable[bytes]) -> list[str]:
    """The paths named by notes of releases; what is not a reference is skipped."""
    paths: list[str] = []
    for line in b"\n".join(values).split(b"\n"):
        with contextlib.suppress(BodyLost):
            paths.append(Reference.decode(line).path)
    return paths
