"""All views show several shards as one pipeline, and name a shard that does not answer, on every server."""

from __future__ import annotations

import pytest

from flowq.broker.flow_control.pauses import Pauses
from flowq.broker.inspection.browse import Browser, State
from flowq.broker.inspection.merging.overviews import overview_of
from flowq.broker.shards.every_shard import SilentShard
from flowq.dead_letters.dead_letters import DeadLetters
from flowq.dead_letters.letter_index import DeadLetterIndex
from flowq.dead_letters.letter_search import LetterSearch
from flowq.dead_letters.lineage import Lineage
from flowq.dead_letters.purging import Purging
from flowq.dead_letters.selection import Selection
from flowq.errors import BrokerUnavailable
from flowq.inspector import Inspector
from flowq.monitoring.exposition import families
from flowq.monitoring.reading import read
from tests.conformance.shards.conftest import MakeShards
from tests.conformance.shards.seen_shards import SeenShards
from tests.conformance.shards.two_shards import apply, crossing, words_of
from tests.conformance.worker import IN, OUT, PLAN, buried, done


async def with_letters(seen: SeenShards, *shards: int) -> None:
    """A message dies in each of these shards, each a millisecond after the other; its body tells which it is."""
    for number, shard in enumerate(shards):
        lane = seen.lanes[shard]
        before = await lane.broker.now_ms()
        while await lane.broker.now_ms() == before:
            pass
        await lane.settle(buried(await lane.given_one(b'{"n":%d}' % number)))


# Overview


async def test_an_overview_is_the_sum_of_all_shards_and_its_balance_adds_up(seen: SeenShards) -> None:
    for lane, n in zip(seen.lanes, (1, 2, 3), strict=True):
        await lane.publish(*[b'{"n":1}'] * n)
    await seen.lanes[2].settle(done((await seen.lanes[2].read())[0]))

    overview = await overview_of(seen.broker, PLAN)

    balance = overview.stages["parse"].balance
    assert (balance.entered, balance.ok, balance.running, balance.waiting) == (6, 1, 2, 3)
    assert balance.adds_up
    assert overview.edges[IN].outstanding == overview.snapshot.outstanding == 5
    assert overview.shards is not None
    assert [each.outstanding for each in overview.shards.by_shard.values()] == [1, 2, 2]
    assert overview.as_json()["missing"] == []


async def test_what_is_in_transit_is_left_though_it_is_on_no_edge(seen: SeenShards) -> None:
    await seen.send(0, 2, sent=12, applied=5)
    await seen.send(2, 1, sent=3, applied=3)

    overview = await overview_of(seen.broker, PLAN)

    assert overview.shards is not None
    assert overview.shards.in_transit == {(0, 2): 7}
    assert overview.snapshot.outstanding == 7
    assert not overview.snapshot.is_drained
    assert overview.state == "working"
    assert await Purging(seen.broker).in_transit() == 7


async def test_a_shard_that_does_not_answer_is_named_and_its_numbers_are_unknown(seen: SeenShards) -> None:
    await seen.lanes[1].publish(b'{"n":1}')
    await seen.silence(1)

    overview = await overview_of(seen.broker, PLAN)

    assert overview.shards is not None
    (silent,) = overview.shards.silent
    assert str(silent) == "shard 1 at redis://127.0.0.1:1/0 does not answer"
    row = overview.as_json()["shards"][1]
    assert (row["shard"], row["waiting"], row["outstanding"], row["in_transit"]) == (1, None, None, None)
    assert [each["shard"] for each in overview.as_json()["missing"]] == [1]


async def test_a_pipeline_is_not_drained_as_long_as_a_shard_is_unknown(seen: SeenShards) -> None:
    await seen.silence(2)

    overview = await overview_of(seen.broker, PLAN)

    assert (overview.state, overview.snapshot.is_drained, overview.eta_seconds) == ("unknown", False, None)


async def test_a_balance_is_refused_as_long_as_a_shard_is_unknown(seen: SeenShards) -> None:
    await seen.silence(1)

    with pytest.raises(BrokerUnavailable, match=r"shard 1 at .* does not answer"):
        await Inspector(PLAN, seen.broker).balance()


async def test_a_later_look_at_shards_sees_what_came_since_the_first(seen: SeenShards) -> None:
    first = await overview_of(seen.broker, PLAN)
    await seen.lanes[2].publish(b'{"n":1}')

    assert (await overview_of(seen.broker, PLAN, before=first)).snapshot.outstanding == 1


# Metrics


async def test_metrics_are_sums_and_say_which_shard_is_down(seen: SeenShards) -> None:
    await seen.lanes[0].publish(b'{"n":1}')
    await seen.lanes[2].publish(b'{"n":1}', b'{"n":2}')
    await seen.silence(1)

    found = {
        (sample.name, sample.labels.get("shard"), sample.labels.get("edge")): sample.value
        for family in families([await read(seen.broker, PLAN)])
        for sample in family.samples
    }

    assert found["flowq_waiting_messages", None, IN] == 3
    assert [found["flowq_shard_up", str(shard), None] for shard in range(3)] == [1, 0, 1]
    assert found["flowq_shard_outstanding", "2", None] == 2
    assert ("flowq_shard_outstanding", "1", None) not in found


# Messages


async def test_a_look_at_messages_shows_those_of_all_shards(seen: SeenShards) -> None:
    for lane in seen.lanes:
        await lane.publish(b'{"n":1}')

    _, sights = await Browser(seen.broker).peek([IN], most=100)

    assert [(sight.state, sight.shard) for sight in sights] == [(State.WAITING, shard) for shard in range(3)]
    assert len((await Browser(seen.broker).peek([IN], most=2))[1]) == 2


async def test_a_message_is_traced_in_whichever_shard_it_is(seen: SeenShards) -> None:
    await with_letters(seen, 1, 2)
    _, letter = await DeadLetters(PLAN, seen.broker).first(limit=2)

    lineage = await Lineage.of(PLAN, seen.broker, letter.message_id)

    ((found,),) = lineage.found.values()
    assert (found.state, found.shard, found.entry_id) == (State.DEAD, 2, letter.id)
    assert lineage.letters["parse", letter.id].message_id == letter.message_id


async def test_purging_removes_what_waits_in_every_shard(seen: SeenShards) -> None:
    for lane in seen.lanes:
        await lane.publish(b'{"n":1}', b'{"n":2}')
    purging = Purging(seen.broker)

    there = await purging.idle(PLAN.edges)

    assert there["parse"] == 6
    assert (await purging.purge(PLAN.edges, there))["parse"] == 6
    assert (await purging.idle(PLAN.edges))["parse"] == 0


async def test_a_pause_is_on_record_in_the_first_shard_whichever_is_asked(seen: SeenShards) -> None:
    await Pauses(seen.broker.shards[2]).pause(["parse"])

    assert list(await Pauses(seen.lanes[0].broker).since()) == ["parse"]
    assert (await overview_of(seen.broker, PLAN)).snapshot.is_paused("parse")


# Dead letters


async def test_dead_letters_of_all_shards_are_listed_by_time_with_their_shard(seen: SeenShards) -> None:
    await with_letters(seen, 2, 0, 1, 0, 2, 2, 1)

    letters = await DeadLetters(PLAN, seen.broker).first(limit=100)

    assert [letter.message["n"] for letter in letters] == list(range(7))
    assert [letter.id.partition("@")[2] for letter in letters] == list("2010221")
    assert await DeadLetters(PLAN, seen.broker).first(Selection(ids=[letters[4].id]), limit=5) == [letters[4]]


async def test_dead_letters_are_read_to_the_end_though_pages_are_small(seen: SeenShards) -> None:
    await with_letters(seen, *[0] * 5, 1, *[2] * 3)
    stored = DeadLetters(PLAN, seen.broker)._stored("parse")

    found, after = list[str](), ""
    while page := await stored.read(after=after, limit=3):
        found += [entry.entry_id for entry in page]
        after = found[-1]

    assert found == [letter.id for letter in await DeadLetters(PLAN, seen.broker).first(limit=100)]
    assert len(found) == 9


async def test_a_letter_is_put_back_edited_and_removed_in_its_own_shard(seen: SeenShards) -> None:
    await with_letters(seen, 0, 1, 2, 2)
    letters = DeadLetters(PLAN, seen.broker)
    _, second, third, fourth = await letters.first(limit=4)

    assert (await letters.fix("parse", {third.id: b'{"n":9}'})).n == 1
    assert await letters.put_back(Selection(ids=[second.id, third.id])) == {"parse": 2}
    assert await letters.remove(Selection(ids=[fourth.id])) == {"parse": 1}

    assert await seen.lanes[0].read() == []
    assert (await seen.lanes[1].read_one()).body == b'{"n":1}'
    assert (await seen.lanes[2].read_one()).body == b'{"n":9}'
    assert [letter.id.partition("@")[2] for letter in await letters.first(limit=9)] == ["0"]


async def test_a_letter_of_another_shard_with_the_same_entry_is_another_letter(seen: SeenShards) -> None:
    await with_letters(seen, 0, 1)
    one, _ = await DeadLetters(PLAN, seen.broker).first(limit=2)
    elsewhere = one.id.replace("@0", "@1")

    assert await DeadLetters(PLAN, seen.broker).first(Selection("parse", ids=[elsewhere]), limit=1) == []


async def test_letters_are_not_listed_as_long_as_a_shard_is_unknown(seen: SeenShards) -> None:
    await with_letters(seen, 0, 1)
    await seen.silence(1)

    with pytest.raises(BrokerUnavailable, match=r"shard 1 at .* does not answer"):
        await DeadLetters(PLAN, seen.broker).groups()


async def test_letters_of_the_shards_that_answer_are_listed_for_who_hears_of_the_silent_one(seen: SeenShards) -> None:
    await with_letters(seen, 0, 1, 2, 2)
    await seen.silence(1)
    silent = dict[int, SilentShard]()
    letters = DeadLetters(PLAN, seen.broker, silent=silent)

    assert [letter.id.partition("@")[2] for letter in await letters.first(limit=9)] == ["0", "2", "2"]
    assert [group.count for group in await letters.groups()] == [3]
    assert silent.keys() == {1}


async def test_an_index_of_letters_follows_all_shards(seen: SeenShards) -> None:
    index = DeadLetterIndex(PLAN)
    await with_letters(seen, *[0, 1, 2] * 4)
    while await index.step(seen.broker):
        pass
    assert (index.read, index.total) == (12, 12)

    await with_letters(seen, 0, 2)
    (*_, last) = await DeadLetters(PLAN, seen.broker).first(limit=100)
    await DeadLetters(PLAN, seen.broker).remove(Selection(ids=[last.id]))
    while await index.step(seen.broker):
        pass

    assert (index.read, index.total) == (13, 13)
    (kind,) = index.kinds()
    known = [letter.id for letter in await DeadLetters(PLAN, seen.broker).first(limit=100)]
    assert [letter.id for letter in index.letters(kind.fingerprint, limit=100)] == known


async def test_a_search_for_letters_reads_all_shards_from_the_newest_on(seen: SeenShards) -> None:
    await with_letters(seen, 0, 1, 2, 1)
    search = LetterSearch(PLAN, Selection())
    while not search.is_complete:
        await search.step(seen.broker)

    assert (search.looked_at, search.total, search.matching().read) == (4, 4, 4)


async def test_a_message_in_transit_is_traced_with_where_it_comes_from(make_shards: MakeShards) -> None:
    here, there = await make_shards()
    parent = await here.worker.given_one()
    await here.settle(done(parent, crossing(b'{"n":1}')))
    (entry,) = await here.outbox(1)
    message_id = words_of(entry)[5].partition(b" ")[0].decode()

    ((found,),) = (await Lineage.of(PLAN, here.broker, message_id)).found.values()
    assert (found.state, found.place, found.shard) == (State.IN_TRANSIT, OUT, 0)

    await apply(there, [entry])
    ((found,),) = (await Lineage.of(PLAN, here.broker, message_id)).found.values()
    assert (found.state, found.shard) == (State.WAITING, 1)
