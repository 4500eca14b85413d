"""A family is found in bounded steps, however large it is, and its tree is cut with a count of the rest."""

from __future__ import annotations

from collections import Counter

from flowq.broker.inspection.browse import State
from flowq.broker.inspection.family import FamilySearch
from flowq.broker.publishing import Publishing
from flowq.dead_letters.lineage import Lineage
from flowq.delivery.message import Header
from flowq.delivery.settlement import Output
from tests.conformance.worker import IN, PLAN, Worker, buried

_PER_CALL = 1000


async def published(worker: Worker, headers: list[Header]) -> None:
    for i in range(0, len(headers), _PER_CALL):
        some = [Output(IN, header.encode(), b"1") for header in headers[i : i + _PER_CALL]]
        await Publishing(worker.broker).publish(IN, some)


def child(number: int, parent: str = "root", root: str = "root") -> Header:
    return Header(f"c{number:05}", root, parent, 1)


async def lineage_of(worker: Worker, message_id: str) -> Lineage:
    return await Lineage.of(PLAN, worker.broker, message_id)


async def test_a_search_continues_step_by_step_and_says_how_far_it_is(worker: Worker) -> None:
    await published(worker, [*(Header.entering(f"x{n}") for n in range(2500)), child(1), child(2)])
    search = FamilySearch(PLAN, worker.broker, "root")

    await search.step(1000)
    first = (search.total, search.is_complete, len(search.found))
    looked_at = search.looked_at
    so_far = await Lineage.of_search(search, worker.broker)
    while not search.is_complete:
        await search.step(1000)

    assert first == (2502, False, 0)
    assert 900 < looked_at <= 1000
    assert (so_far.is_known, so_far.is_complete) == (False, False)
    assert (search.looked_at, [found.message_id for found in search.found]) == (2502, ["c00001", "c00002"])


async def test_relatives_before_the_message_are_found_once_its_root_is_known(worker: Worker) -> None:
    strangers = [Header.entering(f"x{n}") for n in range(1500)]
    await published(worker, [child(1), *strangers, child(2, parent="c00001"), *strangers, child(3)])

    lineage = await lineage_of(worker, "c00002")

    assert lineage.root_id == "root"
    assert [(depth, message_id) for depth, message_id, _ in lineage.tree()] == [
        (0, "root"),
        (1, "c00001"),
        (2, "c00002"),
        (1, "c00003"),
    ]


async def test_a_running_message_says_since_when_and_a_retried_one_when_it_first_came(worker: Worker) -> None:
    await worker.publish(b"1")
    running = await worker.read_one()
    (found,) = (await lineage_of(worker, running.message_id)).found[running.message_id]
    assert found.state == State.RUNNING
    assert found.appended_ms == running.appended_ms <= found.started_ms

    await worker.settle(buried(running))
    (dead,) = (await lineage_of(worker, running.message_id)).found[running.message_id]
    assert (dead.state, dead.started_ms) == (State.DEAD, 0)


async def test_of_many_children_the_tree_has_the_important_ones_and_counts_the_others(worker: Worker) -> None:
    await published(worker, [child(n) for n in range(300)])
    deliveries = await worker.read()
    await worker.settle(buried(deliveries[7]))

    rows = (await lineage_of(worker, "c00250")).rows()

    shown = {row.message_id for row in rows if not row.n_hidden}
    assert {"root", "c00250", deliveries[7].message_id} <= shown
    assert len(shown) <= 22
    (rest,) = [row for row in rows if row.n_hidden]
    assert rest.n_hidden == 301 - len(shown)
    assert sum(rest.hidden.values()) == rest.n_hidden


async def test_a_row_counts_all_that_is_below_those_left_out(worker: Worker) -> None:
    families = [child(n) for n in range(40)]
    grandchildren = [child(1000 + n, parent=f"c{n % 40:05}") for n in range(400)]
    await published(worker, [*families, *grandchildren])

    lineage = await lineage_of(worker, "root")
    rows = lineage.rows()

    assert len([row for row in rows if not row.n_hidden]) + sum(row.n_hidden for row in rows) == 441
    assert Counter(message_id for _, message_id, _ in lineage.tree()).total() == 441


async def test_a_family_of_fifty_thousand_is_found_whole_and_of_a_larger_one_the_rest_is_counted(
    worker: Worker,
) -> None:
    await published(worker, [child(n) for n in range(50_100)])

    lineage = await lineage_of(worker, "c00042")
    rows = lineage.rows()

    assert (len(lineage.found), lineage.left_out) == (50_000, 100)
    assert len(rows) <= 201
    assert sum(row.n_hidden for row in rows) + sum(not row.n_hidden for row in rows) == 50_001
