"""Redis set-ups of several real servers: a primary with a replica, Sentinel, a Cluster, and a network to partition."""

from __future__ import annotations

import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.ports import LOOPBACK, free_port
from tests.redis_server import START_SECONDS, STOP_SECONDS, Kind, binary, dies_with_this_process
from tests.requirements import unavailable

SERVICE = "mymaster"
SLOTS = 16_384
NODE_TIMEOUT_MS = 1000
_DATA = ("--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")


def wait_for(condition: Callable[[], object], what: str, *, seconds: float = 60.0) -> None:
    """Poll until something is so; a server that does not answer counts as no."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds:g} s"
        time.sleep(0.02)


class Node:
    """One server at a TCP port, alive inside its `with` block. `within` is a command that runs it somewhere else."""

    def __init__(
        self,
        *options: str,
        kind: Kind = "bundled",
        host: str = LOOPBACK,
        within: Sequence[str] = (),
        config: str = "",
    ) -> None:
        self.host, self.port = host, free_port()
        self.address = f"{host}:{self.port}"
        self.url = f"redis://{self.address}/0"
        self.client = redis.Redis(host=host, port=self.port, socket_timeout=3, retry=Retry(NoBackoff(), 0))
        self._folder = tempfile.TemporaryDirectory(prefix="flowq-")
        self._process: subprocess.Popen[bytes] | None = None
        folder = Path(self._folder.name)
        (folder / "redis.conf").write_text(config)
        self._command = [
            *(*dies_with_this_process(), *within, binary(kind), str(folder / "redis.conf")),
            *("--port", str(self.port), "--bind", host, "--protected-mode", "no"),
            *("--dir", str(folder), "--logfile", str(folder / "redis.log")),
            *options,
        ]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        if self._process is not None:
            self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        wait_for(self._answers, f"the start of {self.address}", seconds=START_SECONDS)

    def _answers(self) -> object:
        """Whether it answers. It is started again if it has ended: another program had its port for a moment."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, start_new_session=True)
        return self.client.ping()

    def kill(self) -> None:
        """`kill -9`."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_SECONDS)
        self._process = None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def call(self, *command: Any) -> Any:
        return self.client.execute_command(*command)

    @property
    def replication(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.info("replication")
        return found


@contextmanager
def primary_with_replica(kind: Kind = "bundled") -> Iterator[tuple[Node, Node]]:
    with (
        Node(*_DATA, kind=kind) as primary,
        Node(*_DATA, "--replicaof", primary.host, str(primary.port), kind=kind) as replica,
    ):
        wait_for(lambda: replica.replication["master_link_status"] == "up", "replication")
        wait_for(lambda: primary.call("WAIT", 1, 100) == 1, "a replica that confirms")
        yield primary, replica


# Sentinel


class Watched:
    """A primary with a replica, and a Sentinel that makes the replica the primary when the other is gone."""

    def __init__(self, nodes: Sequence[Node], sentinel: Node) -> None:
        self.nodes = nodes
        self.sentinel = sentinel
        self.url = f"redis+sentinel://{sentinel.address}/{SERVICE}"

    @property
    def primary(self) -> Node:
        """The primary as the Sentinel sees it."""
        host, port = self.sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(node for node in self.nodes if node.address == f"{host.decode()}:{int(port)}")

    def fail_over(self) -> None:
        """Have the Sentinel swap the two, and return when both have taken their new parts."""
        before = self.primary

        def begin() -> bool:
            try:
                return bool(self.sentinel.call("SENTINEL", "FAILOVER", SERVICE))
            except redis.ResponseError:  # it has not looked at the replica yet
                return False

        wait_for(begin, "the beginning of a failover")
        wait_for(lambda: self.primary is not before, "another primary")
        wait_for(lambda: before.replication["role"] == "slave", "the demotion of the old primary")


@contextmanager
def sentinel(
    *, hosts: Sequence[str] = (LOOPBACK, LOOPBACK), within: Sequence[Sequence[str]] = ((), ())
) -> Iterator[Watched]:
    """The first is the primary; the Sentinel stands beside the second."""
    with (
        Node(*_DATA, host=hosts[0], within=within[0]) as primary,
        Node(*_DATA, "--replicaof", hosts[0], str(primary.port), host=hosts[1], within=within[1]) as replica,
    ):
        wait_for(lambda: replica.replication["master_link_status"] == "up", "replication")
        config = f"""
            sentinel monitor {SERVICE} {primary.host} {primary.port} 1
            sentinel down-after-milliseconds {SERVICE} 500
            sentinel failover-timeout {SERVICE} 3000
        """
        with Node("--sentinel", host=hosts[1], within=within[1], config=config) as watcher:
            # By default 10 s between two checks, and 8 s until an old primary is demoted.
            watcher.call("SENTINEL", "DEBUG", "INFO-PERIOD", "200", "PING-PERIOD", "100", "PUBLISH-PERIOD", "250")
            wait_for(lambda: watcher.call("SENTINEL", "REPLICAS", SERVICE), "a replica that the Sentinel knows")
            yield Watched((primary, replica), watcher)


# A network that can part


class Network:
    """Two machines with an address each that this process reaches, and that can be kept from reaching each other."""

    def __init__(self) -> None:
        self._name = f"fq{uuid4().hex[:6]}"
        # One of 4096: the workers of pytest have nearly the same process ids, and the same seed of `random`.
        subnet = f"10.{231 + secrets.randbelow(16)}.{secrets.randbelow(256)}"
        self.hosts = (f"{subnet}.11", f"{subnet}.12")
        self.within = tuple(("ip", "netns", "exec", self._namespace(i)) for i in (0, 1))
        self._bridge_address = f"{subnet}.1/24"

    def _namespace(self, i: int) -> str:
        return f"{self._name}{'ab'[i]}"

    def __enter__(self) -> Self:
        if shutil.which("ip") is None or _ip("netns", "add", self._namespace(0), check=False):
            unavailable("no network namespaces", "run as root on Linux, with iproute2")
        try:
            _ip("netns", "add", self._namespace(1))
            _ip("link", "add", self._name, "type", "bridge")
            _ip("addr", "add", self._bridge_address, "dev", self._name)
            _ip("link", "set", self._name, "up")
            for i, host in enumerate(self.hosts):
                namespace, outside = self._namespace(i), f"{self._namespace(i)}o"
                _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", namespace)
                _ip("link", "set", outside, "master", self._name, "up")
                _ip("-n", namespace, "addr", "add", f"{host}/24", "dev", "eth0")
                _ip("-n", namespace, "link", "set", "eth0", "up")
                _ip("-n", namespace, "link", "set", "lo", "up")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        for i in (0, 1):
            _ip("netns", "del", self._namespace(i), check=False)
        _ip("link", "del", self._name, check=False)

    def part(self) -> None:
        """Lose every packet between the two."""
        for i in (0, 1):
            _ip("-n", self._namespace(i), "route", "add", "blackhole", f"{self.hosts[1 - i]}/32")

    def pull_cable(self, i: int) -> None:
        """Silently drop everything to and from that machine."""
        _ip("-n", self._namespace(i), "link", "set", "eth0", "down")

    def plug_cable(self, i: int) -> None:
        _ip("-n", self._namespace(i), "link", "set", "eth0", "up")

    def heal(self) -> None:
        for i in (0, 1):
            _ip("-n", self._namespace(i), "route", "del", "blackhole", f"{self.hosts[1 - i]}/32")


def _ip(*arguments: str, check: bool = True) -> int:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.returncode


# Cluster


class Cluster:
    """Three primaries and three replicas."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.url = f"redis+cluster://{','.join(node.address for node in nodes)}"

    def form(self) -> None:
        """Give out the slots and the replicas, and return when all agree."""
        primaries, replicas = self.nodes[:3], self.nodes[3:]
        bounds = [SLOTS * i // 3 for i in range(4)]
        for i, node in enumerate(primaries):
            node.call("CLUSTER", "ADDSLOTSRANGE", bounds[i], bounds[i + 1] - 1)
            node.call("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        first = self.nodes[0]
        for node in self.nodes[1:]:
            bus = node.client.config_get("cluster-port")["cluster-port"]
            first.call("CLUSTER", "MEET", node.host, node.port, bus)
        wait_for(lambda: all(len(self.ids(node)) == 6 for node in self.nodes), "a cluster of six")
        for primary, replica in zip(primaries, replicas, strict=True):
            replica.call("CLUSTER", "REPLICATE", self.id_of(primary))
        self.wait_until_whole()

    def wait_until_whole(self) -> None:
        """Return when every slot is served and every primary has its replica."""

        def is_whole() -> bool:
            states = [node.call("CLUSTER", "INFO") for node in self.nodes]
            primaries = [node for node in self.nodes if node.replication["role"] == "master"]
            return (
                all(b"cluster_state:ok" in state for state in states)
                and len(primaries) == 3
                and all(node.call("WAIT", 1, 100) == 1 for node in primaries)
            )

        wait_for(is_whole, "a whole cluster")

    def ids(self, node: Node) -> list[str]:
        lines = node.call("CLUSTER", "NODES").decode().splitlines()
        return [line.split()[0] for line in lines if "handshake" not in line]

    def id_of(self, node: Node) -> str:
        found: bytes = node.call("CLUSTER", "MYID")
        return found.decode()

    def owner(self, slot: int) -> Node:
        """The primary of a slot, as those see it that live."""
        for node in self.nodes:
            try:
                ranges: Any = node.call("CLUSTER", "SLOTS")
            except redis.RedisError:
                continue
            for first, last, primary, *_ in ranges:
                if first <= slot <= last:
                    return next(other for other in self.nodes if other.port == primary[1])
        raise AssertionError(f"no node has slot {slot}")

    def move(self, slot: int, *, pause: Callable[[], None]) -> None:
        """Move a slot with its keys to another primary; `pause` is called while half of the keys have gone."""
        source = self.owner(slot)
        target = next(n for n in self.nodes if n.replication["role"] == "master" and n is not source)
        target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))
        keys: list[bytes] = source.call("CLUSTER", "GETKEYSINSLOT", slot, 1000)
        half = len(keys) // 2
        for some in (keys[:half], keys[half:]):
            source.call("MIGRATE", target.host, target.port, "", 0, 3000, "KEYS", *some)
            pause()
        for node in (target, source):
            node.call("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(target))
        wait_for(lambda: all(self.owner(slot) is target for _ in self.nodes), "the new owner")


@contextmanager
def cluster() -> Iterator[Cluster]:
    with _several(6) as nodes:
        found = Cluster(nodes)
        found.form()
        yield found


@contextmanager
def _several(n: int) -> Iterator[Sequence[Node]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                Node(
                    *(*_DATA, "--cluster-enabled", "yes", "--cluster-port", str(free_port())),
                    *("--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--cluster-replica-validity-factor", "0"),
                )
            )
            for _ in range(n)
        ]
