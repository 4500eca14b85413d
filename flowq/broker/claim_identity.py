"""Sees that all processes of a pipeline use one claim folder: its name is on record in Redis, and in the folder."""

from __future__ import annotations

import secrets

from flowq.broker.redis_streams import Broker
from flowq.broker.released import answer_of
from flowq.delivery.stored import text_in
from flowq.errors import WrongClaimFolder

_NEW = "new "
"""Before a name on record: it may not stand in the folder yet. Whoever finds it so, writes it there."""


async def identify(broker: Broker) -> None:
    """Find out that the folder is the one on record, or put it on record if there is none.

    A Redis that has lost all its data takes the folder as it finds it. Raises WrongClaimFolder, BrokerError.
    """
    folder, key = broker.claims, broker.keys.claims
    if folder is None or folder.name:
        return
    name = await folder.name_on_disk()
    recorded = await _recorded(broker, key)
    if not recorded:
        await answer_of(broker, b"SET", key, name or _NEW + secrets.token_hex(8), b"NX")
        recorded = await _recorded(broker, key)
    if recorded.startswith(_NEW) and name in ("", recorded.removeprefix(_NEW)):
        recorded = name = recorded.removeprefix(_NEW)
        await folder.take_name(name)
        await answer_of(broker, b"SET", key, name)
    if name != recorded:
        raise WrongClaimFolder(
            f"{folder.path} is not the folder in which the large bodies of {broker.keys.pipeline} lie",
            hint="mount the one that all workers share; if it is gone for good, flowq run --fresh forgets it, "
            f"and all messages, or redis-cli DEL {key} it alone",
        )
    folder.name = name


async def forget(broker: Broker) -> None:
    """Take the folder off the record: for a run that begins afresh."""
    await answer_of(broker, b"DEL", broker.keys.claims)


async def _recorded(broker: Broker, key: str) -> str:
    recorded: bytes | None = await answer_of(broker, b"GET", key)
    return text_in(recorded or b"")
