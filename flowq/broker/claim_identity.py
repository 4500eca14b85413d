"""Makes all processes of a pipeline use one claim folder: its name is recorded in Redis and in the folder."""

from __future__ import annotations

import secrets

from flowq.broker.redis_streams import Broker
from flowq.delivery.stored import text_in
from flowq.errors import WrongClaimFolder

_NEW = "new "
"""Prefix of a recorded name that may not be in the folder yet. Whoever reads it writes it there."""


async def identify(broker: Broker) -> None:
    """Check that the folder is the one on record, or record it if there is none.

    A Redis that has lost all its data records the folder it finds. Raises WrongClaimFolder, BrokerError.
    """
    folder, key = broker.claims, broker.keys.claims
    if folder is None or folder.name:
        return
    name = await folder.name_on_disk()
    recorded = await _recorded(broker, key)
    if not recorded:
        await broker.answer(b"SET", key, name or _NEW + secrets.token_hex(8), b"NX")
        recorded = await _recorded(broker, key)
    if recorded.startswith(_NEW) and name in ("", recorded.removeprefix(_NEW)):
        recorded = name = recorded.removeprefix(_NEW)
        await folder.take_name(name)
        await broker.answer(b"SET", key, name)
    if name != recorded:
        raise WrongClaimFolder(
            f"{folder.path} is not the folder that holds the large bodies of {broker.keys.pipeline}",
            hint="mount the one that all workers share; if it is lost, flowq run --fresh forgets it "
            f"and all messages; redis-cli DEL {key} forgets only the folder",
        )
    folder.name = name


async def forget(broker: Broker) -> None:
    """Remove the record of the folder, for a fresh run."""
    await broker.answer(b"DEL", broker.keys.claims)


async def _recorded(broker: Broker, key: str) -> str:
    recorded: bytes | None = await broker.answer(b"GET", key)
    return text_in(recorded or b"")
