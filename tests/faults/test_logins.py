"""What a connection does when it is opened: options of its socket, login, name and database, and what Redis says."""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from flowq.broker.client.connection import Link, UrlDialer
from flowq.errors import BrokerError, BrokerRefused
from tests.faults.deployments import Node
from tests.redis_server import KINDS

SAFETY_SECONDS = 60.0
Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(scope="module", params=KINDS)
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    with Node(kind=request.param) as node:
        yield node


@pytest.fixture
def guarded(node: Node) -> Iterator[Node]:
    """A server with a password, and with a user who has another one."""
    node.call("ACL", "SETUSER", "worker", "on", ">of-worker", "allkeys", "+@all")
    node.call("ACL", "SETUSER", "open", "on", "nopass", "allkeys", "+@all")
    node.call("CONFIG", "SET", "requirepass", "of-default")
    node.client.execute_command("AUTH", "of-default")
    yield node
    node.call("CONFIG", "SET", "requirepass", "")


async def answers(url: str, *commands: tuple[object, ...]) -> list[Any]:
    link = Link(UrlDialer(url))
    try:
        return [await link.call(*command, timeout_seconds=SAFETY_SECONDS) for command in commands]
    finally:
        await link.close()


@pytest.mark.parametrize(
    ("login", "user"), [(":of-default@", b"default"), ("worker:of-worker@", b"worker"), ("open@", b"open")]
)
def test_a_login_is_that_of_the_url(login: str, user: bytes, guarded: Node, run: Run) -> None:
    url = f"redis://{login}{guarded.address}/3?client_name=etl"

    who, name, _ = run(answers(url, (b"ACL", b"WHOAMI"), (b"CLIENT", b"GETNAME"), (b"SET", b"here", 1)))

    assert (who, name) == (user, b"etl")
    assert guarded.call("INFO", "keyspace").keys() >= {"db3"}


@pytest.mark.parametrize("login", ["", ":wrong@", "worker:wrong@", "no-such-user:of-worker@"])
def test_a_login_that_is_refused_or_missing_is_said_and_not_tried_again(login: str, guarded: Node, run: Run) -> None:
    with pytest.raises(BrokerRefused, match="refused the login") as refused:
        run(answers(f"redis://{login}{guarded.address}", (b"PING",)))

    assert "wrong" not in str(refused.value)


@pytest.mark.parametrize("option", ["/99", "/0?client_name=two%20words"])
def test_what_redis_refuses_after_the_login_is_said_in_its_words(option: str, node: Node, run: Run) -> None:
    with pytest.raises(BrokerError) as refused:
        run(answers(f"redis://{node.address}{option}", (b"PING",)))

    assert "out of range" in str(refused.value) or "cannot contain spaces" in str(refused.value)


@pytest.mark.parametrize(("option", "is_kept_alive"), [("", True), ("?socket_keepalive=false", False)])
def test_a_machine_that_has_vanished_is_noticed_and_small_requests_do_not_wait(
    option: str, is_kept_alive: bool, node: Node, run: Run
) -> None:
    async def options() -> tuple[int, int]:
        connection = await UrlDialer(f"redis://{node.address}{option}").dial()
        assert connection.descriptor is not None
        with socket.fromfd(connection.descriptor, socket.AF_INET, socket.SOCK_STREAM) as raw:
            kept_alive = raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            at_once = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await connection.close()
        return kept_alive, at_once

    assert run(options()) == (is_kept_alive, 1)
