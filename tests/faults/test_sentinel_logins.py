"""Sentinels with a login or TLS of their own, and Sentinels that do not answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flowq.broker.client.connection import Link
from flowq.broker.client.topology import SentinelDialer
from flowq.errors import BrokerRefused, BrokerUnavailable
from tests.certificates import Authority
from tests.faults.deployments import SERVICE, Node
from tests.ports import free_port
from tests.redis_server import KINDS, Kind

SAFETY_SECONDS = 60.0


@contextmanager
def guarded(kind: Kind, *rules: str) -> Iterator[str]:
    """A primary with a password, and a Sentinel that asks for a login by itself; the hosts of the URL."""
    with Node(kind=kind) as primary:
        primary.call("CONFIG", "SET", "requirepass", "of-primary")
        primary.client.execute_command("AUTH", "of-primary")
        config = f"""
            sentinel monitor {SERVICE} {primary.host} {primary.port} 1
            sentinel auth-pass {SERVICE} of-primary
        """
        with Node("--sentinel", kind=kind, config=config) as sentinel:
            sentinel.call("ACL", "SETUSER", *rules)
            yield sentinel.address


async def pinged(url: str) -> bytes:
    link = Link(SentinelDialer(url))
    try:
        found: bytes = await link.call(b"PING", timeout_seconds=SAFETY_SECONDS)
        return found
    finally:
        await link.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_sentinels_have_a_login_of_their_own(kind: Kind) -> None:
    primary = "redis+sentinel://:of-primary@"
    with guarded(kind, "watcher", "on", ">of-sentinel", "allchannels", "+@all") as at:
        login = "sentinel_username=watcher&sentinel_password=of-sentinel"
        assert await pinged(f"{primary}{at}/{SERVICE}?{login}") == b"PONG"
        with pytest.raises(BrokerRefused, match="refused the login") as refused:
            await pinged(f"{primary}{at}/{SERVICE}?sentinel_username=watcher&sentinel_password=wrong")
        assert "sentinel_password" in refused.value.hint
        assert "wrong" not in str(refused.value)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_sentinel_that_wants_a_password_and_is_given_none_is_refused_with_a_remedy(kind: Kind) -> None:
    with guarded(kind, "default", ">of-sentinel") as at:
        url = f"redis+sentinel://:of-primary@{at}/{SERVICE}"
        with pytest.raises(BrokerRefused) as refused:
            await pinged(url)
        assert "sentinel_password" in refused.value.hint
        assert await pinged(f"{url}?sentinel_password=of-sentinel") == b"PONG"


async def test_sentinels_may_speak_tls_while_the_primary_does_not(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    port = free_port()
    with Node(kind="debian") as primary:
        config = f"sentinel monitor {SERVICE} {primary.host} {primary.port} 1"
        with Node("--sentinel", *authority.redis_options(port), kind="debian", config=config):
            url = f"redis+sentinel://localhost:{port}/{SERVICE}?sentinel_tls=yes"
            assert await pinged(f"{url}&sentinel_ssl_ca_certs={authority.itself.file}") == b"PONG"
            with pytest.raises(BrokerUnavailable, match="it is not signed by a trusted authority"):
                await pinged(url)


async def test_a_sentinel_that_is_frozen_hides_none_behind_it() -> None:
    with Node(kind="debian") as primary:
        config = f"sentinel monitor {SERVICE} {primary.host} {primary.port} 1"
        with Node("--sentinel", config=config) as frozen, Node("--sentinel", config=config) as alive:
            frozen.freeze()
            try:
                assert await pinged(f"redis+sentinel://{frozen.address},{alive.address}/{SERVICE}") == b"PONG"
            finally:
                frozen.thaw()
