"""The servers of a simulation follow the virtual clock, the fake one and real ones alike."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis

from flowq.broker import scripts
from flowq.broker.keys import Keys
from flowq.errors import BrokerUnavailable, UsageError
from flowq.testing.simulation.fake_server import FakeServer
from flowq.testing.simulation.real_server import RealServer
from flowq.testing.simulation.virtual_server import Server, ServerConnection, Write
from tests.conftest import Servers
from tests.redis_server import KINDS

START = 1_000_000_000.25
START_MS = 1_000_000_000_250


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(unique_namespace: str) -> Keys:
    return Keys(unique_namespace, "pages")


@pytest.fixture(params=["fake", *KINDS])
def server(
    request: pytest.FixtureRequest, redis_server: Servers, clock: Clock, unique_namespace: str
) -> Iterator[Server]:
    server: Server
    if request.param == "fake":
        server = FakeServer(clock)
    else:
        server = RealServer(redis_server(request.param).url, clock, namespace=unique_namespace)
    yield server
    server.close()


@pytest.fixture
def connection(server: Server) -> Iterator[ServerConnection]:
    connection = server.connect()
    yield connection
    connection.close()


def publish(keys: Keys, *, token: str = "t") -> Sequence[Any]:
    names = [keys.stats, keys.published, keys.edge(">parse"), keys.delayed(">parse")]
    return scripts.PUBLISH_PLAIN.by_digest(names, [token, b"", b">parse", 0, 1000, b"id", b"body"])


def renew(keys: Keys, *, lease_ms: int) -> Sequence[Any]:
    return scripts.REGISTER.by_digest([keys.workers, keys.lease("w")], ["w", lease_ms, "beat", "{}"])


def test_entries_get_ids_of_the_virtual_time(connection: ServerConnection, keys: Keys, clock: Clock) -> None:
    connection.exchange([publish(keys, token="a"), publish(keys, token="b")])
    clock.now += 86_400
    connection.exchange([publish(keys, token="c")])

    (entries,) = connection.exchange([(b"XRANGE", keys.edge(">parse"), b"-", b"+")])

    ids = [f"{START_MS}-0", f"{START_MS}-1", f"{START_MS + 86_400_000}-0"]
    assert [entry_id.decode() for entry_id, _ in entries] == ids


def test_a_stream_that_is_ahead_of_the_clock_accepts_entries(connection: ServerConnection, keys: Keys) -> None:
    edge = keys.edge(">parse")
    connection.exchange([(b"XADD", edge, f"{START_MS + 5000}-3", b"h", b"x", b"b", b"")])

    (reply,) = connection.exchange([publish(keys)])
    (last,) = connection.exchange([(b"XREVRANGE", edge, b"+", b"-", b"COUNT", 1)])

    assert reply == [1, 1]
    ms, sequence = (int(part) for part in last[0][0].split(b"-"))
    assert (ms, sequence) > (START_MS + 5000, 3)


def test_scripts_and_callers_get_the_virtual_time(connection: ServerConnection, keys: Keys, clock: Clock) -> None:
    clock.now += 3600
    connection.exchange([publish(keys, token="mine")])

    score, told = connection.exchange([(b"ZSCORE", keys.published, b"mine"), (b"TIME",)])

    assert float(score) == START_MS + 3_600_000
    assert told == [b"1000003600", b"250000"]


def test_leases_end_by_the_virtual_clock(connection: ServerConnection, keys: Keys, clock: Clock) -> None:
    lease = keys.lease("w")
    connection.exchange([renew(keys, lease_ms=15_000)])

    clock.now += 14
    assert connection.exchange([(b"MGET", lease), (b"PTTL", lease)]) == [[b"beat"], 1000]
    clock.now += 1.5
    assert connection.exchange([(b"MGET", lease), (b"PTTL", lease)]) == [[None], -2]


def test_the_real_time_does_not_end_a_lease(connection: ServerConnection, keys: Keys) -> None:
    connection.exchange([renew(keys, lease_ms=20)])
    time.sleep(0.05)

    assert connection.exchange([(b"MGET", keys.lease("w"))]) == [[b"beat"]]


def test_a_lease_can_be_renewed_and_lengthened(connection: ServerConnection, keys: Keys, clock: Clock) -> None:
    lease = keys.lease("w")
    connection.exchange([renew(keys, lease_ms=1000)])
    clock.now += 0.9
    connection.exchange([renew(keys, lease_ms=1000), (b"PEXPIRE", lease, 5000)])
    clock.now += 4.9

    assert connection.exchange([(b"MGET", lease)]) == [[b"beat"]]


def test_a_key_that_was_deleted_does_not_expire_when_it_is_made_again(
    connection: ServerConnection, keys: Keys, clock: Clock
) -> None:
    lease = keys.lease("w")
    connection.exchange([renew(keys, lease_ms=1000), (b"DEL", lease), (b"SET", lease, b"for ever")])
    clock.now += 10

    assert connection.exchange([(b"MGET", lease)]) == [[b"for ever"]]


def test_errors_are_replies(connection: ServerConnection, keys: Keys) -> None:
    connection.exchange([publish(keys)])

    wrong, right = connection.exchange([(b"HGET", keys.edge(">parse"), b"field"), (b"PING",)])

    assert isinstance(wrong, redis.ResponseError)
    assert "WRONGTYPE" in str(wrong)
    assert right == b"PONG"


def test_every_script_of_flowq_is_known_by_digest_and_by_text(connection: ServerConnection, keys: Keys) -> None:
    every = [script for script in vars(scripts).values() if isinstance(script, scripts.Script)]
    assert len(every) > 40

    for script in every:
        by_digest, by_text = connection.exchange([script.by_digest([], []), script.by_text([], [])])
        assert "NOSCRIPT" not in str(by_digest), script.name
        assert "compil" not in str(by_text), script.name


def test_writes_are_repeated_each_at_its_time(
    server: Server, connection: ServerConnection, keys: Keys, clock: Clock
) -> None:
    edge = keys.edge(">parse")
    first = Write(START, [publish(keys, token="a"), renew(keys, lease_ms=10_000)])
    connection.exchange(first.commands)
    clock.now += 4
    connection.exchange([publish(keys, token="b")])

    server.restore([first])

    entries, lease_ms, used = connection.exchange(
        [(b"XRANGE", edge, b"-", b"+"), (b"PTTL", keys.lease("w")), (b"ZSCORE", keys.published, b"b")]
    )
    assert [entry_id for entry_id, _ in entries] == [f"{START_MS}-0".encode()]
    assert lease_ms == 6000
    assert used is None


def test_fake_servers_share_neither_keys_nor_a_clock(clock: Clock, keys: Keys) -> None:
    first = FakeServer(clock)
    first.connect().exchange([publish(keys)])
    first.close()
    first.close()

    one, other = FakeServer(clock), FakeServer(lambda: 5.0)
    one.connect().exchange([publish(keys)])

    count = (b"XLEN", keys.edge(">parse")), (b"TIME",)
    assert one.connect().exchange(count) == [1, [b"1000000000", b"250000"]]
    assert other.connect().exchange(count) == [0, [b"5", b"0"]]
    one.close()
    other.close()


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_own_namespace_is_removed(redis_server: Servers, clock: Clock, keys: Keys, kind: Any) -> None:
    url, mine = redis_server(kind).url, keys.edge(">parse")
    opened: Any = redis.Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]
    with opened as client:
        client.set(f"{keys.namespace}x:other", "stays")
        server = RealServer(url, clock, namespace=keys.namespace)
        server.connect().exchange([publish(keys), renew(keys, lease_ms=1000)])
        assert client.exists(mine)

        server.close()

        assert client.get(f"{keys.namespace}x:other") == b"stays"
        assert list(client.scan_iter(f"{keys.namespace}:*")) == []
        client.delete(f"{keys.namespace}x:other")


def test_a_server_that_does_not_answer_is_named_without_its_password(clock: Clock) -> None:
    with pytest.raises(BrokerUnavailable, match=r"redis://\*\*\*@127.0.0.1:1/0") as raised:
        RealServer("redis://me:secret@127.0.0.1:1/0", clock, namespace="t")

    assert "secret" not in str(raised.value)


def test_several_servers_in_one_url_are_refused(clock: Clock) -> None:
    with pytest.raises(UsageError, match="more than one server"):
        RealServer("redis+cluster://a:6379,b:6379", clock, namespace="t")
