"""The claim check: moves large bodies out of Redis and sends references instead."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import islice
from typing import TypeVar

from flowq.broker.redis_streams import Broker
from flowq.broker.stored_bodies import StoredBodies
from flowq.delivery.edge import parse_address
from flowq.delivery.policy import AckMode
from flowq.delivery.settlement import Output, Settled, Succeeded
from flowq.errors import BodyLost, ClaimStoreUnavailable, NoClaimStore
from flowq.graph.compilation.plan import Plan
from flowq.large_bodies.reference import Reference, claimed_header, is_claimed
from flowq.large_bodies.store import MISSING, BodyStore

T = TypeVar("T")
_PAUSES_PER_REFRESH = 50_000  # an hour or two; bodies become orphans after a day


class ClaimCheck:
    """Stores the large bodies of outputs, and says which are no longer needed."""

    def __init__(self, store: BodyStore, broker: Broker, plan: Plan) -> None:
        self._store = store
        self._broker = broker
        self._above = plan.claiming
        self._least = min(plan.claiming.values())
        # Kept messages may run again, and messages acknowledged before they run still need their bodies.
        self._releasing = frozenset(
            stage.name for stage in plan.consumers if stage.keep is None and stage.ack is AckMode.AFTER
        )

    @classmethod
    def of(cls, broker: Broker, plan: Plan) -> ClaimCheck | None:
        """The claim check of a pipeline; None if no stage has claim_above=, and for a Redis in memory.

        Raises NoClaimStore.
        """
        if not plan.claiming or (broker.claims is None and broker.dialer.is_private):
            return None
        stage = next(stage for stage in plan.stages if stage.claim_above is not None)
        option = f"{stage.name} has claim_above={stage.claim_above}"
        if broker.claims is None:
            raise NoClaimStore(
                f"{option}, but there is no store for large bodies",
                place=stage.place,
                hint="set claim_store in [tool.flowq], or FLOWQ_CLAIM_STORE, to a folder that all workers share, "
                "or to a bucket: s3://BUCKET/PREFIX",
            )
        if find_spec("obstore") is None:
            raise NoClaimStore(f"{option}, which needs obstore", place=stage.place, hint=MISSING)
        return cls(broker.claims, broker, plan)

    @classmethod
    async def check_store(cls, broker: Broker, plan: Plan, *, fresh: bool = False) -> None:
        """Check the store before anything is read or written. `fresh`: any store is accepted.

        Raises NoClaimStore and WrongClaimStore. A store that is unreachable now is waited for later.
        """
        if cls.of(broker, plan) is not None:
            if fresh:
                await broker.answer(b"DEL", broker.keys.claims)
            with contextlib.suppress(ClaimStoreUnavailable):
                await StoredBodies(broker).identify_store()

    async def deposit(self, outputs: Sequence[T]) -> Sequence[T]:
        """The outputs with references in place of large bodies. Anything but an `Output` is unchanged.

        A retry with the result of this call writes no body twice. Raises ClaimStoreUnavailable.
        """
        large = {
            at: output
            for at, output in enumerate(outputs)
            if isinstance(output, Output)
            and len(output.body) > self._least
            and len(output.body) > self._above.get(parse_address(output.edge).edge, len(output.body))
            and not is_claimed(output.header)
        }
        if not large:
            return outputs
        await StoredBodies(self._broker).identify_store()
        deposited = list(outputs)
        references = await self._store.store([output.body for output in large.values()])
        for (at, output), reference in zip(large.items(), references, strict=True):
            deposited[at] = output._replace(header=claimed_header(output.header), body=reference.encode())
        return deposited

    async def deposit_settled(self, settled: Sequence[Settled]) -> Sequence[Settled]:
        """The same for the outputs of settlements."""
        outputs = [output for _, how in settled if isinstance(how, Succeeded) for output in how.outputs]
        deposited = await self.deposit(outputs)
        if deposited is outputs:
            return settled
        given = iter(deposited)
        return [
            (rows, how._replace(outputs=list(islice(given, len(how.outputs)))) if isinstance(how, Succeeded) else how)
            for rows, how in settled
        ]

    async def refresh(self, outputs: Sequence[object], *, n_pauses: int) -> None:
        """Now and then, refresh the bodies of waiting outputs, so that they do not become orphans."""
        if n_pauses % _PAUSES_PER_REFRESH == 0:
            await self._store.refresh(_paths(outputs))

    async def withdraw(self, outputs: Sequence[object]) -> None:
        """Delete the bodies of outputs that were refused."""
        if paths := _paths(outputs):
            with contextlib.suppress(ClaimStoreUnavailable):
                await self._store.remove(paths)

    def released(self, stage: str, settled: Sequence[Settled]) -> bytes:
        """The references no longer needed once this is settled, each with a line break; at least a line break."""
        if stage not in self._releasing:
            return b"\n"
        bodies = [
            body + b"\n"
            for rows, how in settled
            if isinstance(how, Succeeded)
            for _, _, header, body, _ in rows
            if is_claimed(header) and _is_reference(body)
        ]
        return b"".join(bodies) or b"\n"


def _paths(outputs: Sequence[object]) -> list[str]:
    bodies = [output.body for output in outputs if isinstance(output, Output) and is_claimed(output.header)]
    return [Reference.decode(body).path for body in bodies]


def _is_reference(body: bytes) -> bool:
    with contextlib.suppress(BodyLost):
        return bool(Reference.decode(body))
    return False
