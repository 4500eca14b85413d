"""Writes settlements: the only way in which a delivery ends."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, assert_never

import orjson

from flowq.broker import scripts
from flowq.broker.claims import ClaimCheck
from flowq.broker.client.retrying import CALL_TIMEOUT_SECONDS, retry_until_available, run_script
from flowq.broker.keys import GROUP
from flowq.broker.publishing import add_messages, seen_ms
from flowq.broker.redis_streams import Broker
from flowq.delivery.dead_letter import dead_letter_info
from flowq.delivery.failed_attempts import after_failure, stored_without_time
from flowq.delivery.message import Delivery
from flowq.delivery.policy import DedupMemory, Keep
from flowq.delivery.settlement import DeadLetter, Delay, Output, Release, Settled, Settlement, Succeeded
from flowq.errors import BrokerUnavailable, RequestRefused

log = logging.getLogger("flowq.broker")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What settling changed: deliveries that were still ours to settle, and messages outstanding on the edges fed.

    `delayed` tells whether something has to be promoted later. `gone` are deliveries that were not this worker's when
    they were settled one by one: another worker has them, or an earlier call whose reply was lost has settled them.
    """

    sent: int
    won: int
    outstanding: Mapping[str, int]
    delayed: bool
    gone: Sequence[Delivery] = ()


@dataclass(slots=True)
class _Call:
    """The arguments of one call of the settle script, as they grow."""

    done: list[bytes] = field(default_factory=list[bytes])
    n_filtered: int = 0  # of `done`
    others: list[Any] = field(default_factory=list[Any])
    outputs: dict[str, list[Output]] = field(default_factory=dict[str, list[Output]])
    delayed: dict[str, list[Output]] = field(default_factory=dict[str, list[Output]])
    n_foreign: int = 0
    n_retries: int = 0
    released: bytes = b""  # references to large bodies
    delays: bool = False


class Settling:
    """Settles the deliveries of one edge after another over a connection of its own.

    `deduplicating` names the edges whose stage deduplicates, and how long it remembers. With `keeps_answers` a receipt
    tells who has won also when its first reply was lost, which costs Redis a key.
    """

    def __init__(
        self,
        broker: Broker,
        deduplicating: Mapping[str, DedupMemory],
        keeping: Mapping[str, Keep] | None = None,
        claims: ClaimCheck | None = None,
        *,
        keeps_answers: bool = False,
    ) -> None:
        self._answered = broker.keys.answered(f"{broker.new_token()}:settle") if keeps_answers else ""
        self._broker = broker
        self.deduplicating = deduplicating
        self._keeping = keeping or {}
        self.claims = claims
        self._link = broker.link()

    async def connect(self) -> None:
        """Open the connection, however long that takes. Best done before anything is read. Raises BrokerRefused."""
        ping = partial(self._link.call, b"PING", timeout_seconds=CALL_TIMEOUT_SECONDS)
        await retry_until_available(ping, what="connecting")

    async def settle(self, stage: str, edge: str, settled: Sequence[Settled], *, worker: str) -> Receipt:
        """Settle everything, however long Redis takes to answer. Raises only BrokerRefused.

        Deliveries read under the current name, on connections that are still the same, go in one batch. All others
        go one by one: for them the answer "that was settled already" may be the truth.
        """
        if not self._link.is_open:  # the new one may lead to another server, and counts
            await self.connect()
        epoch = self._broker.epoch
        fenced = [item for item in settled if item[0][0].epoch == epoch and item[0][0].worker == worker]
        receipts: list[Receipt] = []
        alone: Sequence[Settled] = settled
        if fenced:
            receipt = await self._settle_batch(stage, edge, fenced, worker)
            if receipt is not None:
                receipts.append(receipt)
                if len(fenced) == len(settled):
                    return receipt
                together = set(map(id, fenced))
                alone = [item for item in settled if id(item) not in together]
        receipts += [await self._settle_alone(stage, edge, item) for item in alone]
        return _together(receipts)

    async def _settle_batch(self, stage: str, edge: str, settled: Sequence[Settled], worker: str) -> Receipt | None:
        """One attempt at settling all at once; None when it has to be done one by one instead."""
        token = self._new_token()
        try:
            return await self._send(stage, edge, settled, worker, mode=1, token=token)
        except BrokerUnavailable:
            # Whether it arrived is unknown, and after a failover part of it may belong to another worker.
            if not token:
                return None
        again = partial(self._send, stage, edge, settled, worker, mode=2, token=token)
        try:
            return await retry_until_available(again, what=f"settling {stage}")
        except RequestRefused:  # one of them is too large
            return None

    def _new_token(self) -> str:
        return self._broker.new_token() if self._answered else ""

    async def _settle_alone(self, stage: str, edge: str, item: Settled) -> Receipt:
        token, receipts = self._new_token(), list[Receipt]()

        async def attempt() -> Receipt:
            receipt = await self._send(stage, edge, [item], item[0][0].worker, mode=0, token=token)
            assert receipt is not None
            return receipt if receipt.won else replace(receipt, gone=item[0])

        try:
            return await retry_until_available(attempt, what=f"settling {stage}")
        except RequestRefused as error:
            if not isinstance(item[1], Succeeded):  # only what a handler emits can be large
                raise
            refused = error
        for delivery in item[0]:
            log.warning("%s emits more than Redis accepts, and becomes a dead letter", delivery.message_id)
            letter = DeadLetter("uncommittable", refused, delivery.header)
            receipts.append(await self._settle_alone(stage, edge, ((delivery,), letter)))
        return _together(receipts)

    async def _send(
        self, stage: str, edge: str, settled: Sequence[Settled], worker: str, *, mode: int, token: str
    ) -> Receipt | None:
        """One call of the script, which explains `mode`; None if it must be done one by one instead."""
        call = _Call()
        for deliveries, settlement in settled:
            _add(call, deliveries, settlement, self._broker.run_id)
        if self.claims is not None:
            call.released = self.claims.released(stage, settled)
        keys, arguments, targets = self._pack(call, stage, edge, worker, mode, token)
        reply = await run_script(self._link, scripts.SETTLE, keys, arguments)
        if reply[0] < 0:
            return None
        sent = len(call.done) + len(call.others) // 4
        outstanding = dict(zip(targets, reply[2:], strict=True))
        return Receipt(sent, reply[0] + reply[1], outstanding, delayed=call.delays or bool(call.delayed))

    def _pack(
        self, call: _Call, stage: str, edge: str, worker: str, mode: int, token: str
    ) -> tuple[list[Any], list[Any], list[str]]:
        keys, keep = self._broker.keys, self._keeping.get(stage)
        targets = list(call.outputs | call.delayed)
        names: list[Any] = [keys.workers, keys.stats, keys.edge(edge)]
        if call.others:
            names += (keys.delayed(edge), keys.delayed_bodies(edge), keys.dead(stage), keys.queue(stage))
        if call.n_retries:
            names += (keys.failures, keys.run)
        arguments: list[Any] = [
            GROUP, worker, mode, token, stage, edge, call.released,
            call.n_foreign, len(call.done), call.n_filtered, len(call.others) // 4, call.n_retries, len(targets),
            keep.milliseconds if keep else 0, keep.count if keep else 0,
        ]  # fmt: skip
        for target in targets:
            memory = self.deduplicating.get(target)
            names += keys.of_target(target, memory)
            places = memory.places if memory else ()
            arguments += (target, seen_ms(memory), len(places))
            arguments += (len(call.outputs.get(target, ())), len(call.delayed.get(target, ())), *places)
        arguments += call.done
        arguments += call.others
        for target in targets:
            memory = self.deduplicating.get(target)
            add_messages(arguments, call.outputs.get(target, ()), memory=memory)
            add_messages(arguments, call.delayed.get(target, ()), memory=memory, delays=True)
        if call.released:
            names.append(keys.released)
        if keep:
            names.append(keys.kept(stage))
        if token:
            names.append(self._answered)
        return names, arguments, targets

    async def close(self) -> None:
        await self._link.close()


def _together(receipts: Sequence[Receipt]) -> Receipt:
    return Receipt(
        sent=sum(receipt.sent for receipt in receipts),
        won=sum(receipt.won for receipt in receipts),
        outstanding={edge: length for receipt in receipts for edge, length in receipt.outstanding.items()},
        delayed=any(receipt.delayed for receipt in receipts),
        gone=[delivery for receipt in receipts for delivery in receipt.gone],
    )


def _add(call: _Call, deliveries: Sequence[Delivery], settlement: Settlement, run_id: str) -> None:
    match settlement:
        case Succeeded():
            for delivery in deliveries:  # nearly always one: a comprehension would cost more than it does
                call.done.append(delivery.entry_id)
            if settlement.filtered:
                call.n_filtered += len(deliveries)
            for output in settlement.outputs:
                (call.delayed if output.delay_ms else call.outputs).setdefault(output.edge, []).append(output)
        case Delay(header, _, _, queue_key) if queue_key is not None:
            call.others += (deliveries[0].entry_id, b"Q", header.encode(), queue_key)
        case Delay(header, delay_ms, counted, failed=failed):
            extra: int | str = delay_ms
            if failed is not None:
                header, failure = after_failure(header, deliveries[0].header.attempt, failed)
                extra = f"{delay_ms} {failure.kind}" if counted else delay_ms
            stored = stored_without_time(header, deliveries[0].header.attempt) if counted else header.encode()
            call.others += (deliveries[0].entry_id, b"D" if counted else b"P", stored, extra)
            call.n_retries += counted
            call.delays = True
        case DeadLetter(header=header):
            info = orjson.dumps(dead_letter_info(settlement, deliveries[0], run_id))
            call.others += (deliveries[0].entry_id, b"X", deliveries[0].header_for_letter(header), info)
        case Release():
            call.others += (deliveries[0].entry_id, b"R", deliveries[0].header.encode(), b"")
        case _:
            assert_never(settlement)
    for delivery in deliveries:
        if delivery.foreign is not None:
            call.n_foreign += 1
