"""Only the owner of a delivery settles it: late calls from another name, epoch or server change nothing."""

from __future__ import annotations

import pytest

from flowq.broker.client.connection import Link, UrlDialer
from flowq.broker.client.redis_protocol import RedisProtocol
from flowq.broker.keys import Keys
from flowq.delivery.settlement import Succeeded
from tests.conformance.conftest import Command
from tests.conformance.streams import bodies, reclaim
from tests.conformance.worker import IN, OUT, Settle, Worker, buried, done, filtered, output, released, retried


@pytest.mark.parametrize("settle", [done, filtered, retried, buried, released])
async def test_a_late_owner_changes_nothing_when_it_comes_first(
    settle: Settle, worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    late = await worker.given_one()
    new = await reclaim(other, worker, keys, redis)

    assert (await worker.settle(settle(late))).won == 0

    assert (await other.balance()).running == 1
    assert (await other.settle(*[done(delivery, output(OUT, b"new")) for delivery in new])).won == 1
    assert await bodies(redis, keys.edge(OUT)) == [b"new"]
    assert (await other.balance()).ok == 1


async def test_a_late_owner_coming_last_is_harmless(worker: Worker, other: Worker, keys: Keys, redis: Command) -> None:
    late = await worker.given_one()
    new = await reclaim(other, worker, keys, redis)

    assert (await other.settle(*[done(delivery, output(OUT, b"new")) for delivery in new])).won == 1
    assert (await worker.settle(done(late, output(OUT, b"late")))).won == 0

    assert await bodies(redis, keys.edge(OUT)) == [b"new"]
    assert (await other.balance()).ok == 1


async def test_the_success_of_a_late_owner_does_not_slip_under_the_batch_of_the_new_one(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    late = await worker.given_one(b"late")
    new = [*await reclaim(other, worker, keys, redis), await other.given_one(b"fresh")]

    await worker.settle(done(late, output(OUT, b"late")))
    await other.settle(*[done(delivery, output(OUT, delivery.body)) for delivery in new])

    assert sorted(await bodies(redis, keys.edge(OUT))) == [b"fresh", b"late"]
    assert (await other.balance()).ok == 2


async def test_what_was_read_before_its_group_was_lost_is_the_next_readers(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    late = await worker.given_one(b"late")
    await redis(b"XGROUP", b"DESTROY", keys.edge(IN), b"flowq")
    await worker.read()
    await worker.publish(b"fresh")
    new = await other.read()

    await worker.settle(done(late, output(OUT, b"late")))
    await other.settle(*[done(delivery, output(OUT, delivery.body)) for delivery in new])

    assert sorted(await bodies(redis, keys.edge(OUT))) == [b"fresh", b"late"]


class Failover:
    """Leads to one server first, and later to another."""

    is_private = False

    def __init__(self, dialer: UrlDialer) -> None:
        self.leads_to = dialer
        self.url, self.address = dialer.url, dialer.address

    async def dial(self) -> RedisProtocol:
        return await self.leads_to.dial()


async def test_a_connection_after_a_failover_settles_no_batch_read_before_it(redis_url: str, keys: Keys) -> None:
    old, new = UrlDialer(redis_url), UrlDialer(f"{redis_url}?db=1")
    for dialer in (old, new):
        link = Link(dialer)
        for n in (b"1", b"2"):
            await link.call(b"XADD", keys.edge(IN), n + b"-1", b"h", b"m%b - - 0" % n, b"b", n, timeout_seconds=60)
        await link.close()
    for name in ("first", "second"):  # as the replica has it: both are signed on, and nothing has been read
        await (await Worker.sign_on(new, keys, name)).close()
    failover = Failover(old)
    worker = await Worker.sign_on(failover, keys, "first")
    (late,) = await worker.read(1)
    await worker.settling.close()
    failover.leads_to = new
    other = await Worker.sign_on(new, keys, "second")
    given = await other.read()

    await worker.settle(done(late, output(OUT, late.body)))
    await other.settle(*[done(delivery, output(OUT, delivery.body)) for delivery in given])

    link = Link(new)
    entries = await link.call(b"XRANGE", keys.edge(OUT), b"-", b"+", timeout_seconds=60)
    assert [fields[3] for _, fields in entries] == [b"1", b"2"]
    for end in (link, worker, other):
        await end.close()


async def test_a_batch_of_a_worker_that_lost_its_name_claims_nothing_of_the_new_owner(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    await worker.publish(*[b"%d" % n for n in range(10)])
    deliveries = await worker.read()
    new = await reclaim(other, worker, keys, redis, limit=4)
    await other.settle(*[done(delivery, output(OUT, b"new")) for delivery in new])

    receipt = await worker.settle(*[done(delivery, output(OUT, b"late")) for delivery in deliveries])

    assert (receipt.sent, receipt.won) == (10, 6)
    assert sorted(await bodies(redis, keys.edge(OUT))) == [b"late"] * 6 + [b"new"] * 4


async def test_of_successes_settled_together_those_count_that_the_worker_still_owns(
    worker: Worker, other: Worker, keys: Keys, redis: Command
) -> None:
    await worker.publish(*[b"%d" % n for n in range(10)])
    deliveries = await worker.read()
    new = await reclaim(other, worker, keys, redis, limit=4)
    await other.settle(*map(done, new))

    receipt = await worker.settle((deliveries, Succeeded()))

    assert (receipt.sent, receipt.won) == (10, 6)
    assert sorted(row[1] for row in receipt.gone) == sorted(delivery.entry_id for delivery in new)
    balance = await other.balance()
    assert (balance.ok, balance.running) == (10, 0)


async def test_one_batch_call_settles_all_or_none(worker: Worker, other: Worker, keys: Keys, redis: Command) -> None:
    await worker.publish(b"0", b"1", b"2")
    deliveries = await worker.read()
    (new,) = await reclaim(other, worker, keys, redis, limit=1)
    await other.settle(done(new, output(OUT, b"new")))

    unit = (deliveries, Succeeded([output(OUT, b"sum of three")]))
    receipt = await worker.settle(unit)

    assert receipt.won == 0
    assert await bodies(redis, keys.edge(OUT)) == [b"new"]
    balance = await other.balance()
    assert (balance.ok, balance.running) == (1, 2)
