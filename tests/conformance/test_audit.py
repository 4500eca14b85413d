"""The audit: every action is a record, also one that fails, and the latest thousand are kept."""

from __future__ import annotations

import pytest

from flowq.broker.audit import MOST_KEPT, Audit, AuditRecord
from flowq.broker.client.connection import UrlDialer
from flowq.broker.keys import Keys
from flowq.broker.redis_streams import Broker
from flowq.errors import UsageError
from tests.conformance.conftest import Command
from tests.conformance.worker import Worker

_NODE = 100  # Redis trims a stream by whole nodes of its entries


async def test_an_action_is_recorded_when_it_has_ended_with_what_it_changed(worker: Worker) -> None:
    audit = Audit(worker.broker)
    async with audit.of("ana@host", "retry", "4d35f226 --rate 20") as act:
        act.n = 77
        assert await audit.latest(9) == []

    (record,) = await audit.latest(9)
    assert record == AuditRecord(record.at_ms, "ana@host", "retry", "4d35f226 --rate 20", 77, "done")


async def test_an_action_that_fails_halfway_is_recorded_with_what_it_had_changed(worker: Worker) -> None:
    audit = Audit(worker.broker)

    async def purge_some() -> None:
        async with audit.of("ana", "purge", "fetch") as act:
            act.n = 1000
            raise UsageError("no room")

    with pytest.raises(UsageError):
        await purge_some()

    assert [(record.n, record.result) for record in await audit.latest(9)] == [(1000, "failed: no room")]


async def test_the_latest_come_first_and_the_oldest_are_dropped(worker: Worker, keys: Keys, redis: Command) -> None:
    audit = Audit(worker.broker)
    for n in range(MOST_KEPT + 2 * _NODE):
        await audit.record(AuditRecord(0, "ana", "pause", "", n, "done"))

    assert [record.n for record in await audit.latest(2)] == [MOST_KEPT + 2 * _NODE - 1, MOST_KEPT + 2 * _NODE - 2]
    assert MOST_KEPT <= await redis(b"XLEN", keys.audit) <= MOST_KEPT + _NODE


async def test_what_another_program_wrote_there_is_read_as_text_of_bounded_length(
    worker: Worker, keys: Keys, redis: Command
) -> None:
    await redis(b"XADD", keys.audit, b"*", b"actor", b"\xff\x1b" * 9000, b"n", b"9" * 400, b"x", b"y")

    (record,) = await Audit(worker.broker).latest(1)

    assert (record.n, record.action, len(record.actor)) == (0, "", 300)


async def test_an_action_is_recorded_when_memory_is_full(real_dialer: UrlDialer, unique_namespace: str) -> None:
    broker = Broker(real_dialer, Keys(unique_namespace, "lab"))
    await broker.answer(b"CONFIG", b"SET", b"maxmemory", b"1")
    try:
        await Audit(broker).record(AuditRecord(0, "ana", "pause", "", 0, "done"))
        assert len(await Audit(broker).latest(9)) == 1
    finally:
        await broker.answer(b"CONFIG", b"SET", b"maxmemory", b"0")
        await broker.close()
