"""Which server a shard of a pipeline is on, by the URL of Redis."""

from __future__ import annotations

import pytest

from flowq.broker.client.many_servers import ServersDialer, address_of_all, dialer_beside
from flowq.broker.keys import Keys, hash_tag
from flowq.broker.open import dialer_for
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import with_shards


def addresses(url: str, n_shards: int) -> list[str]:
    broker = with_shards(Broker(dialer_for(url, "scrape"), Keys("flowq", "scrape")), n_shards)
    return [each.dialer.address for each in broker.shards]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://a", ["redis://a:6379/0"] * 4),
        (
            "redis+servers://a,b:7000,c/2",
            ["redis://a:6379/2", "redis://b:7000/2", "redis://c:6379/2", "redis://a:6379/2"],
        ),
        ("rediss+servers://me:sesame@a,b", ["rediss://***@a:6379/0", "rediss://***@b:6379/0"] * 2),
        (
            "redis+sentinel://s1,s2/one,two/3",
            ["redis+sentinel://s1:26379,s2:26379/one/3", "redis+sentinel://s1:26379,s2:26379/two/3"] * 2,
        ),
        ("unix:///run/a.sock unix:///run/b.sock?db=2", ["unix:///run/a.sock", "unix:///run/b.sock?db=2"] * 2),
    ],
)
def test_shards_lie_on_the_servers_of_a_url_in_turn(url: str, expected: list[str]) -> None:
    assert addresses(url, 4) == expected


def test_the_shards_of_a_cluster_are_named_in_errors() -> None:
    assert addresses("redis+cluster://a", 3) == [
        "redis+cluster://a:6379",
        "redis+cluster://a:6379 (shard 1)",
        "redis+cluster://a:6379 (shard 2)",
    ]


def test_another_process_gets_all_servers_from_the_url_of_any_shard() -> None:
    url = "redis+servers://me:sesame@a,b/1"
    broker = with_shards(Broker(dialer_for(url, "scrape"), Keys("flowq", "scrape")), 3)

    assert [each.dialer.url for each in broker.shards] == [url] * 3
    assert isinstance(broker.dialer, ServersDialer)
    assert dialer_beside(broker.dialer, hash_tag("scrape", 1), 1).address == "redis://***@b:6379/1"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://me:sesame@a", "redis://***@a:6379/0"),
        ("redis+cluster://a,b", "redis+cluster://a:6379,b:6379"),
        ("redis+servers://me:sesame@a,b:7000/2", "redis+servers://***@a:6379,b:7000/2"),
        ("redis+sentinel://s1,s2/one,two/3", "redis+sentinel://s1:26379,s2:26379/one,two/3"),
        ("unix:///run/a.sock unix:///run/b.sock", "unix:///run/a.sock unix:///run/b.sock"),
    ],
)
def test_the_address_of_all_names_each_server_whichever_shard_is_asked_for_it(url: str, expected: str) -> None:
    broker = with_shards(Broker(dialer_for(url, "scrape"), Keys("flowq", "scrape")), 3)

    assert {address_of_all(each.dialer) for each in broker.shards} == {expected}


def test_one_server_in_memory_has_all_shards() -> None:
    broker = with_shards(Broker(dialer_for("memory", "scrape"), Keys("flowq", "scrape")), 3)

    assert {id(each.dialer) for each in broker.shards} == {id(broker.dialer)}


def test_brokers_that_are_already_there_stay_when_more_shards_are_added() -> None:
    broker = with_shards(Broker(dialer_for("memory", "scrape"), Keys("flowq", "scrape")), 2)
    before = broker.shards

    with_shards(broker, 4)

    assert (*broker.shards[:2],) == before
    assert [each.shard for each in broker.shards[3].shards] == [0, 1, 2, 3]
