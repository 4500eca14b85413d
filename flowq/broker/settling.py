"""Writes settlements: the only way in which a delivery ends."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, assert_never

import orjson

from flowq.broker import scripts
from flowq.broker.claims import ClaimCheck
from flowq.broker.client.retrying import CALL_TIMEOUT_SECONDS, retry_until_available, run_script
from flowq.broker.keys import GROUP
from flowq.broker.publishing import add_messages, memory_arguments
from flowq.broker.redis_streams import Broker
from flowq.delivery.dead_letter import dead_letter_info
from flowq.delivery.failed_attempts import after_failure, stored_without_time
from flowq.delivery.message import Arrival, Delivery, Row
from flowq.delivery.policy import DedupMemory, Keep
from flowq.delivery.settlement import DeadLetter, Delay, Output, Release, Settled, Succeeded
from flowq.errors import BrokerUnavailable, RequestRefused
from flowq.large_bodies.reference import is_claimed

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
    gone: Sequence[Row] = ()


@dataclass(slots=True)
class Call:
    """The arguments of one call of the settle script, as they grow."""

    done: list[bytes] = field(default_factory=list[bytes])
    n_filtered: int = 0  # of `done`
    others: list[Any] = field(default_factory=list[Any])
    outputs: dict[str, list[Output]] = field(default_factory=lambda: defaultdict(list))
    delayed: dict[str, list[Output]] = field(default_factory=lambda: defaultdict(list))
    n_foreign: int = 0
    n_retries: int = 0
    released: bytes = b""  # references to large bodies
    delays: bool = False

    def receipt(self, targets: Sequence[str], reply: Sequence[Any]) -> Receipt | None:
        """What the script answers for these targets; None if all has to be done one by one instead."""
        if reply[0] < 0:
            return None
        sent = len(self.done) + len(self.others) // 4
        outstanding = dict(zip(targets, reply[2:], strict=True))
        return Receipt(sent, reply[0] + reply[1], outstanding, delayed=self.delays or bool(self.delayed))


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
        self.world = broker.world
        self.deduplicating = deduplicating
        self._keeping = keeping or {}
        self.claims = claims
        self._link = broker.link()

    async def connect(self) -> None:
        """Open the connection, however long that takes. Best done before anything is read. Raises BrokerRefused."""
        ping = partial(self._link.call, b"PING", timeout_seconds=CALL_TIMEOUT_SECONDS)
        await retry_until_available(self._broker.world, ping, what="connecting")

    async def settle(self, stage: str, arrival: Arrival, settled: Sequence[Settled], *, worker: str) -> Receipt:
        """Settle deliveries of one arrival, however long Redis takes to answer. Raises only BrokerRefused.

        Those read under the current name, on connections that are still the same, go in one batch. All others go one by
        one: for them the answer "that was settled already" may be true.
        """
        if not self._link.is_open:  # the new one may lead to another server, and counts
            await self.connect()
        receipt = None
        if arrival.epoch == self._broker.epoch and arrival.worker == worker:
            receipt = await self._settle_batch(stage, arrival, settled)
        if receipt is None:
            alone = [item for each in settled for item in _one_by_one(each)]
            receipt = together([await self._settle_alone(stage, arrival, item) for item in alone])
        return receipt

    async def _settle_batch(self, stage: str, arrival: Arrival, settled: Sequence[Settled]) -> Receipt | None:
        """One attempt at settling all at once; None when it has to be done one by one instead."""
        token = self._new_token()
        try:
            return await self._send(stage, arrival, settled, mode=1, token=token)
        except BrokerUnavailable:
            # Whether it arrived is unknown, and after a failover part of it may belong to another worker.
            if not token:
                return None
        again = partial(self._send, stage, arrival, settled, mode=2, token=token)
        try:
            return await retry_until_available(self._broker.world, again, what=f"settling {stage}")
        except RequestRefused:  # one of them is too large
            return None

    def _new_token(self) -> str:
        return self._broker.new_token() if self._answered else ""

    async def _settle_alone(self, stage: str, arrival: Arrival, item: Settled) -> Receipt:
        token, receipts = self._new_token(), list[Receipt]()

        async def attempt() -> Receipt:
            receipt = await self._send(stage, arrival, [item], mode=0, token=token)
            assert receipt is not None
            return receipt if receipt.won else replace(receipt, gone=item[0])

        try:
            return await retry_until_available(self._broker.world, attempt, what=f"settling {stage}")
        except RequestRefused as error:
            if not isinstance(item[1], Succeeded):  # only what a handler emits can be large
                raise
            refused = error
        for row in item[0]:
            header = Delivery(*row).header
            log.warning("%s emits more than Redis accepts, and becomes a dead letter", header.message_id)
            letter = DeadLetter("uncommittable", refused, header)
            receipts.append(await self._settle_alone(stage, arrival, ((row,), letter)))
        return together(receipts)

    async def _send(
        self, stage: str, arrival: Arrival, settled: Sequence[Settled], *, mode: int, token: str
    ) -> Receipt | None:
        """One call of the script, which explains `mode`; None if it must be done one by one instead."""
        call = self._call_of(stage, settled)
        keys, arguments, targets = self._pack(call, stage, arrival, mode, token)
        return call.receipt(targets, await run_script(self._link, scripts.SETTLE, keys, arguments))

    def _call_of(self, stage: str, settled: Sequence[Settled]) -> Call:
        call = _call_of(settled, self._broker.run_id)
        if self.claims is not None:
            call.released = self.claims.released(stage, settled)
        return call

    def _pack(
        self, call: Call, stage: str, arrival: Arrival, mode: int, token: str
    ) -> tuple[list[Any], list[Any], list[str]]:
        keys, keep, edge = self._broker.keys, self._keeping.get(stage), arrival.edge
        targets = list(call.outputs | call.delayed)
        names: list[Any] = [keys.workers, keys.stats, keys.edge(edge)]
        if call.others:
            names += (keys.delayed(edge), keys.delayed_bodies(edge), keys.dead(stage), keys.queue(stage))
        if call.n_retries:
            names += (keys.failures, keys.run)
        arguments: list[Any] = [
            GROUP, arrival.worker, mode, token, stage, edge, call.released,
            call.n_foreign, len(call.done), call.n_filtered, len(call.others) // 4, call.n_retries, len(targets),
            keep.milliseconds if keep else 0, keep.count if keep else 0,
        ]  # fmt: skip
        for target in targets:
            memory, outputs = self.deduplicating.get(target), call.outputs.get(target, [])
            names += keys.of_target(target, memory)
            places = memory.places if memory else ()
            n_outputs = len(outputs)
            if memory and not places:
                call.outputs[target] = outputs = each_value_once(outputs)
            arguments += (target, *memory_arguments(memory))
            arguments += (len(outputs), len(call.delayed.get(target, ())), n_outputs - len(outputs), *places)
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


def together(receipts: Sequence[Receipt]) -> Receipt:
    """What several calls have changed."""
    return Receipt(
        sent=sum(receipt.sent for receipt in receipts),
        won=sum(receipt.won for receipt in receipts),
        outstanding={edge: length for receipt in receipts for edge, length in receipt.outstanding.items()},
        delayed=any(receipt.delayed for receipt in receipts),
        gone=[row for receipt in receipts for row in receipt.gone],
    )


def _one_by_one(item: Settled) -> Sequence[Settled]:
    """Deliveries without outputs do not depend on each other, even if one call has handled them."""
    rows, how = item
    return [item] if isinstance(how, Succeeded) and how.outputs else [((row,), how) for row in rows]


def _call_of(settled: Sequence[Settled], run_id: str) -> Call:
    call = Call()
    for rows, how in settled:
        if not isinstance(how, Succeeded):
            _add_other(call, Delivery(*rows[0]), how, run_id)
            continue
        if how.filtered:
            call.n_filtered += len(rows)
        for row in rows:
            call.done.append(row[1])
            if row[4] is not None:
                call.n_foreign += 1
        for output in how.outputs:
            (call.delayed if output.delay_ms else call.outputs)[output.edge].append(output)
    return call


def each_value_once(outputs: Sequence[Output]) -> list[Output]:
    """Leave out outputs whose value an earlier one has: in one call they are duplicates, as links of many pages are.

    Not those whose body is in the claim store: the script has it removed.
    """
    once, values = list[Output](), set[bytes]()
    for output in outputs:
        value = output.dedup_hash
        if value not in values or is_claimed(output.header):
            once.append(output)
            if value:
                values.add(value)
    return once


def _add_other(call: Call, delivery: Delivery, settlement: Delay | DeadLetter | Release, run_id: str) -> None:
    if delivery.foreign is not None:
        call.n_foreign += 1
    entry_id = delivery.entry_id
    match settlement:
        case Delay(header, _, _, queue_key) if queue_key is not None:
            call.others += (entry_id, b"Q", header.encode(), queue_key)
        case Delay(header, delay_ms, counted, failed=failed):
            extra: int | str = delay_ms
            if failed is not None:
                header, failure = after_failure(header, delivery.header.attempt, failed)
                extra = f"{delay_ms} {failure.kind}" if counted else delay_ms
            stored = stored_without_time(header, delivery.header.attempt) if counted else header.encode()
            call.others += (entry_id, b"D" if counted else b"P", stored, extra)
            call.n_retries += counted
            call.delays = True
        case DeadLetter(header=header):
            info = orjson.dumps(dead_letter_info(settlement, delivery, run_id))
            call.others += (entry_id, b"X", delivery.header_for_letter(header), info)
        case Release():
            call.others += (entry_id, b"R", delivery.header.encode(), b"")
        case _:
            assert_never(settlement)
