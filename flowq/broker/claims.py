"""The claim check: stores large bodies in the claim folder, sends references instead, and lets readers redeem them."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from flowq.broker.claim_folder import ClaimFolder
from flowq.broker.claim_identity import forget, identify
from flowq.delivery.claim import (
    Reference,
    claimed_header,
    is_claimed,
    lies_in_the_folder,
    packing_in_the_folder,
    redeemed,
)
from flowq.delivery.encoding.compression import unpacked
from flowq.delivery.message import Delivery, Header
from flowq.delivery.policy import AckMode
from flowq.delivery.settlement import Ack, Output
from flowq.errors import BodyLost, ClaimFolderUnavailable, NoClaimFolder
from flowq.graph.compilation.plan import Plan

if TYPE_CHECKING:
    from flowq.broker.redis_streams import Broker
    from flowq.delivery.settlement import Settled

T = TypeVar("T")
_PAUSES_PER_REFRESH = 5000  # minutes; files are given a day


class ClaimCheck:
    """Stores the large bodies of outputs in the folder, and says which are no longer needed."""

    def __init__(self, folder: ClaimFolder, plan: Plan, identify: Callable[[], Awaitable[None]]) -> None:
        self._folder = folder
        self._identify = identify
        self._above = plan.claiming
        self._least = min(plan.claiming.values())
        # Kept messages may run again, and messages acknowledged before they run still need their bodies.
        self._releasing = frozenset(
            stage.name for stage in plan.consumers if stage.keep is None and stage.ack is AckMode.AFTER
        )

    async def deposit(self, outputs: Sequence[T]) -> Sequence[T]:
        """The outputs with references in place of large bodies. Anything but an `Output` is unchanged.

        A retry with the result of this call writes no file twice. Raises ClaimFolderUnavailable.
        """
        large = {
            at: output
            for at, output in enumerate(outputs)
            if isinstance(output, Output)
            and len(output.body) > self._least
            and len(output.body) > self._above.get(output.edge, len(output.body))
            and not is_claimed(output.header)
        }
        if not large:
            return outputs
        if not self._folder.name:
            await self._identify()
        deposited = list(outputs)
        references = await self._folder.store([output.body for output in large.values()])
        for (at, output), reference in zip(large.items(), references, strict=True):
            deposited[at] = output._replace(header=claimed_header(output.header), body=reference.encode())
        return deposited

    async def deposit_settled(self, settled: Sequence[Settled]) -> Sequence[Settled]:
        """The same for the outputs of settlements."""
        outputs = [output for _, how in settled if isinstance(how, Ack) for output in how.outputs]
        deposited = await self.deposit(outputs)
        if deposited is outputs:
            return settled
        given = iter(deposited)
        return [
            (deliveries, how._replace(outputs=list(islice(given, len(how.outputs)))) if isinstance(how, Ack) else how)
            for deliveries, how in settled
        ]

    async def refresh(self, outputs: Sequence[object], *, n_pauses: int) -> None:
        """Every few thousand pauses, refresh the files of waiting outputs, so that they do not become orphans."""
        if n_pauses % _PAUSES_PER_REFRESH == 0:
            await self._folder.refresh(_paths(outputs))

    async def withdraw(self, outputs: Sequence[object]) -> None:
        """Delete the files of outputs that were refused."""
        with contextlib.suppress(ClaimFolderUnavailable):
            await self._folder.remove(_paths(outputs))

    def released(self, stage: str, settled: Sequence[Settled]) -> bytes:
        """The references no longer needed once this is settled, each with a line break; at least a line break."""
        if stage not in self._releasing:
            return b"\n"
        bodies = [
            delivery.body + b"\n"
            for deliveries, how in settled
            if isinstance(how, Ack)
            for delivery in deliveries
            if is_claimed(delivery.header_bytes) and _is_reference(delivery.body)
        ]
        return b"".join(bodies) or b"\n"


def claim_check(broker: Broker, plan: Plan) -> ClaimCheck | None:
    """The claim check of a pipeline; None if no stage has claim_above=, and for a Redis in memory.

    Raises NoClaimFolder.
    """
    if not plan.claiming:
        return None
    if broker.claims is None:
        if broker.dialer.is_private:
            return None
        stage = next(stage for stage in plan.stages if stage.claim_above is not None)
        raise NoClaimFolder(
            f"{stage.name} has claim_above={stage.claim_above}, but there is no folder for large bodies",
            place=stage.place,
            hint="set claim_folder in [tool.flowq], or FLOWQ_CLAIM_FOLDER, to a folder that all workers share",
        )
    broker.claims.prepare()
    return ClaimCheck(broker.claims, plan, partial(identify, broker))


async def check_claim_folder(broker: Broker, plan: Plan, *, fresh: bool = False) -> None:
    """Check the folder before anything is read or written. `fresh`: any folder is accepted.

    Raises NoClaimFolder and WrongClaimFolder. A folder that is unreachable now is waited for later.
    """
    if claim_check(broker, plan) is not None:
        if fresh:
            await forget(broker)
        with contextlib.suppress(ClaimFolderUnavailable):
            await identify(broker)


async def redeem(folder: ClaimFolder | None, delivery: Delivery) -> Delivery:
    """A delivery with its body, if the folder is known: to read, not to settle. Raises DecodeError."""
    if folder is None or not is_claimed(delivery.header_bytes):
        return delivery
    return redeemed(delivery, await folder.load(delivery.body))


async def content_of(folder: ClaimFolder | None, header: Header, body: bytes) -> bytes:
    """A stored body as its stage would get it, wherever it is stored. Raises DecodeError."""
    how = header.packing
    if folder is not None and lies_in_the_folder(header):
        body, how = await folder.load(body), packing_in_the_folder(header)
    return unpacked(body, how) if how else body


def _paths(outputs: Sequence[object]) -> list[str]:
    bodies = [output.body for output in outputs if isinstance(output, Output) and is_claimed(output.header)]
    return [Reference.decode(body).path for body in bodies]


def _is_reference(body: bytes) -> bool:
    with contextlib.suppress(BodyLost):
        return bool(Reference.decode(body))
    return False
