"""A connection to Redis breaks: in every way, at every moment, with TLS and without, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from flowq.broker.client.connection import Link, UrlDialer
from flowq.broker.client.redis_protocol import RedisProtocol
from flowq.broker.open import dialer_for
from flowq.errors import BrokerUnavailable
from tests.certificates import Authority
from tests.conftest import Servers
from tests.eventually import eventually
from tests.faults.conftest import LOOPS
from tests.faults.relay import BREAKS, Break, Relay
from tests.ports import free_port
from tests.requirements import unavailable
from tests.runtime.lab import Lab, items
from tests.runtime.record import Record, recorded

SAFETY_SECONDS = 60.0
LARGE = b"x" * 20_000_000  # more than all buffers on the way hold
Moment = Callable[[Relay, "NotedLink", Break], Awaitable[None]]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


# Half of a TLS connection cannot be closed.
WAYS = [("plain", way) for way in BREAKS] + [("tls", way) for way in BREAKS if way != "half-close"]


@pytest.fixture(params=WAYS, ids="-".join)
def network(request: pytest.FixtureRequest, authority: Authority, redis_server: Servers) -> Network:
    redis_server("bundled").flush()
    kind, way = request.param
    return Network(redis_server("bundled").url, authority if kind == "tls" else None, way)


class Network:
    """Makes relays to one server, and URLs that lead through them; `way` is how their connections break."""

    def __init__(self, redis_url: str, authority: Authority | None, way: Break) -> None:
        self.redis_url = redis_url
        self.authority = authority
        self.way = way

    @asynccontextmanager
    async def relay(self) -> AsyncIterator[tuple[Relay, str]]:
        tls = None if self.authority is None else self.authority.issue().for_server()
        async with Relay(self.redis_url, tls) as relay:
            trusting = f"?ssl_ca_certs={self.authority.itself.file}" if self.authority else ""
            yield relay, relay.url + trusting


async def ping(link: Link) -> None:
    assert await link.call(b"PING", timeout_seconds=SAFETY_SECONDS) == b"PONG"


class NotingDialer(UrlDialer):
    """Keeps the connections it has made."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.made: list[RedisProtocol] = []

    async def dial(self) -> RedisProtocol:
        self.made.append(await super().dial())
        return self.made[-1]


class NotedLink(Link):
    """A link of which the connections are known."""

    def __init__(self, url: str, **options: Any) -> None:
        self.dialer = NotingDialer(url)
        super().__init__(self.dialer, **options)


# Moments: each breaks the connection then, and makes the call that meets it


async def idle(relay: Relay, link: NotedLink, way: Break) -> None:
    await ping(link)
    relay.break_all(way)
    await eventually(lambda: link.dialer.made[-1].is_lost)
    await ping(link)


async def idle_and_not_noticed_yet(relay: Relay, link: NotedLink, way: Break) -> None:
    await ping(link)
    relay.break_all(way)
    await ping(link)


async def dialling(relay: Relay, link: NotedLink, way: Break) -> None:
    relay.greets_with = way
    try:
        await ping(link)
    finally:
        relay.greets_with = None


async def writing(relay: Relay, link: NotedLink, way: Break) -> None:
    await ping(link)
    relay.stop_reading()
    before = relay.bytes_from_clients
    # A blocked writer does not notice that the other end has half-closed: only the deadline ends it.
    text, deadline = (LARGE[:400_000], 1.0) if way == "half-close" else (LARGE, SAFETY_SECONDS)
    call = asyncio.ensure_future(link.call(b"ECHO", text, timeout_seconds=deadline))
    await eventually(lambda: relay.bytes_from_clients > before)
    relay.break_all(way)
    try:
        await call
    finally:
        relay.read_on()


async def in_the_middle_of_a_reply(relay: Relay, link: NotedLink, way: Break) -> None:
    await link.call(b"SET", b"large", b"y" * 50_000, timeout_seconds=SAFETY_SECONDS)
    relay.cuts_replies_after = 1000, way
    await link.call(b"GET", b"large", timeout_seconds=SAFETY_SECONDS)


MOMENTS: tuple[Moment, ...] = (idle, idle_and_not_noticed_yet, dialling, writing, in_the_middle_of_a_reply)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_connection_that_breaks_is_lost_and_the_next_call_opens_another(
    moment: Moment, network: Network, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    async def scenario() -> None:
        async with network.relay() as (relay, url):
            link = NotedLink(url)
            with pytest.raises(BrokerUnavailable, match=r"cannot reach Redis at|has closed the connection"):
                await moment(relay, link, network.way)

            assert not link.is_open
            await ping(link)
            await link.close()

    run(scenario())


def test_a_call_that_needs_nothing_of_its_connection_does_not_notice_that_it_broke_while_idle(
    network: Network, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    async def scenario() -> None:
        async with network.relay() as (relay, url):
            failures: list[int] = []
            link = NotedLink(url, renews=True, on_failure=lambda: failures.append(1))
            await idle(relay, link, network.way)

            assert (relay.accepted, len(failures)) == (2, 1)
            await link.close()

    run(scenario())


def test_a_run_whose_connections_all_break_again_and_again_handles_each_message_once(
    network: Network, unique_namespace: str, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    n, record = 60, Record()
    pipeline = recorded(record, seconds=0.01)

    async def scenario() -> None:
        near = Lab.at(network.redis_url, unique_namespace)
        async with network.relay() as (relay, url):
            far = Lab.at(url, unique_namespace)
            await near.push(pipeline, "first", *items(n))
            async with far.running(pipeline):
                for progress in (5, 15, 25):
                    await eventually(lambda least=progress: len(record.handled) >= least)
                    relay.break_all(network.way)
                await eventually(lambda: len(record.arrived) >= n)
            record.check(n, reruns=n)
            balance = await near.balance(pipeline)
            await far.close()
        await near.close()
        assert (balance["first"].ok, balance["last"].ok, balance["last"].outstanding) == (n, n, 0)

    run(scenario())


# Where nothing answers


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("redis://127.0.0.1:{port}", "start one"),
        ("rediss://127.0.0.1:{port}", "start one"),
        ("redis://no-such-host.invalid", "check the host name"),
        ("rediss://no-such-host.invalid", "check the host name"),
        (f"redis://{'a' * 63}.{'b' * 63}.invalid", "check the host name"),
        ("unix:///no/such/redis.sock", "start one"),
        ("redis+sentinel://127.0.0.1:{port},no-such-host.invalid/main", "check that these servers run"),
        ("redis+cluster://127.0.0.1:{port},no-such-host.invalid", "check that these servers run"),
    ],
)
def test_a_server_that_is_not_there_is_unavailable_with_a_remedy(
    url: str, remedy: str, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    async def scenario() -> None:
        link = Link(dialer_for(url.format(port=free_port()), "lab"))
        with pytest.raises(BrokerUnavailable) as unavailable:
            await link.call(b"PING", timeout_seconds=SAFETY_SECONDS)
        assert remedy in unavailable.value.hint
        assert unavailable.value.exit_code == 4

    run(scenario())


async def test_no_commands_have_no_replies_and_need_no_server() -> None:
    link = Link(dialer_for(f"redis://127.0.0.1:{free_port()}", "lab"))

    assert await link.call_all([], timeout_seconds=SAFETY_SECONDS) == []
    assert not link.is_open


CLIENT = """
import asyncio, sys
import uvloop
from flowq.broker.client.retrying import retry_until_available
from flowq.broker.client.connection import Link, UrlDialer
from flowq.world import REAL

async def main() -> None:
    link = Link(UrlDialer(sys.argv[1]))
    async def who(): return await link.call(b"GET", b"who", timeout_seconds=60)
    for _ in sys.stdin:
        print((await retry_until_available(REAL, who, what="asking")).decode(), flush=True)
    await link.close()

with asyncio.Runner(loop_factory=getattr(uvloop if sys.argv[2] == "uvloop" else asyncio, "new_event_loop")) as runner:
    runner.run(main())
"""


def _has_mount_namespaces() -> bool:
    program = shutil.which("unshare")
    return program is not None and subprocess.run([program, "--mount", "true"], check=False).returncode == 0


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_host_name_that_leads_to_another_address_is_looked_up_again(loop: str, tmp_path: Path) -> None:
    if not await asyncio.to_thread(_has_mount_namespaces):
        unavailable("no mount namespaces", "run as root on Linux, with util-linux")
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.2 moving.test\n")
    async with named_server("127.0.0.2", 0, b"first") as port:
        client = await asyncio.create_subprocess_exec(
            *("unshare", "--mount", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$0" "$@"'),
            *(sys.executable, "-c", CLIENT, f"redis://moving.test:{port}", loop),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert await answer_of(client) == b"first\n"
        hosts.write_text("127.0.0.3 moving.test\n")
    async with named_server("127.0.0.3", port, b"second"):
        assert await answer_of(client) == b"second\n"
        assert client.stdin is not None
        client.stdin.close()
        await client.wait()


async def answer_of(client: asyncio.subprocess.Process) -> bytes:
    """What the client is told by the server it asks next."""
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(b"\n")
    async with asyncio.timeout(SAFETY_SECONDS):
        return await client.stdout.readline()


@asynccontextmanager
async def named_server(host: str, port: int, name: bytes) -> AsyncIterator[int]:
    """A server that answers everything with its name; yields its port, and breaks its connections at the end."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(b"+%b\r\n" % name * data.count(b"*"))

    server = await asyncio.start_server(serve, host, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


# Certificates


@pytest.mark.parametrize(
    ("fault", "what", "remedy"),
    [
        ("self-signed", "it is self-signed", "ssl_ca_certs"),
        ("unknown authority", "it is not signed by a trusted authority", "ssl_ca_certs"),
        ("expired", "it has expired", "renew"),
        ("other host", "it is for another host", "ssl_check_hostname"),
        ("no TLS", "cannot reach Redis", "whether this port speaks TLS"),
        ("wants a certificate", "", "ssl_certfile"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_said_with_a_remedy(
    fault: str,
    what: str,
    remedy: str,
    authority: Authority,
    redis_server: Servers,
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    context: ssl.SSLContext | None
    match fault:
        case "self-signed":
            context = authority.self_signed().for_server()
        case "expired":
            context = authority.issue("expired", days=-1).for_server()
        case "other host":
            context = authority.issue("other", "DNS:elsewhere.test").for_server()
        case "no TLS":
            context = None
        case "wants a certificate":
            context = authority.issue().for_server(wants_clients_of=authority.itself.file)
        case _:
            context = authority.issue().for_server()
    trusts = fault not in ("self-signed", "unknown authority")

    async def scenario() -> None:
        async with Relay(redis_server("bundled").url, context) as relay:
            url = relay.url.replace("redis://", "rediss://")
            link = Link(UrlDialer(url + (f"?ssl_ca_certs={authority.itself.file}" if trusts else "")))
            with pytest.raises(BrokerUnavailable) as unavailable:
                await ping(link)
        assert what in unavailable.value.message
        assert remedy in unavailable.value.hint

    run(scenario())


@pytest.mark.parametrize(
    "options", ["ssl_cert_reqs=CERT_NONE", "ssl_cert_reqs=none", "ssl_certfile={own}&ssl_keyfile={key}"]
)
def test_tls_works_as_its_options_say(
    options: str, authority: Authority, redis_server: Servers, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    mine = authority.issue("client")
    wants = authority.itself.file if "own" in options else None
    asked = options.format(own=mine.file, key=mine.key) + (f"&ssl_ca_certs={wants}" if wants else "")

    async def scenario() -> None:
        async with Relay(redis_server("bundled").url, authority.issue().for_server(wants_clients_of=wants)) as relay:
            link = Link(UrlDialer(f"{relay.url}?{asked}"))
            await ping(link)
            await link.close()

    run(scenario())
