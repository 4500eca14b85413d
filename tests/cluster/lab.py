"""A real Redis Cluster of three primaries and three replicas that keep their data, and what can go wrong with it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager

import redis
from redis.crc import key_slot

from flowq.broker.keys import Keys
from tests.faults.deployments import Cluster, Node, wait_for
from tests.faults.proxy import Proxy
from tests.ports import free_port
from tests.redis_server import Kind

NODE_TIMEOUT_MS = 2000
PROXY_HOST = "127.0.0.2"  # of the nodes' ports: what clients are told, while nodes reach each other directly
NAMESPACE = "flowq"
DATA = (
    *("--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"),
    *("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", "--repl-timeout", "10"),
)
_CLUSTER = (
    *("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
    *("--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0"),
)
_BEHIND_PROXIES = ("--cluster-announce-hostname", PROXY_HOST, "--cluster-preferred-endpoint-type", "hostname")


class Lab(Cluster):
    """Three primaries and three replicas. `url` is for clients; with proxies it leads to those."""

    proxies: Sequence[Proxy] = ()

    def primary_of(self, keys: Keys) -> Node:
        """The node that holds a shard now."""
        return self.owner(slot_of(keys))

    def primaries(self) -> list[Node]:
        """The nodes that serve slots, as those see it that live."""
        return [node for node in self.nodes if self._role(node) == "master"]

    def replica_of(self, primary: Node) -> Node:
        """The replica that is attached to a primary."""
        for node in self.nodes:
            if node is not primary and self._role(node) == "slave":
                found = node.replication
                if found["master_port"] == primary.port and found["master_link_status"] == "up":
                    return node
        raise AssertionError(f"no replica of {primary.address}")

    def pair_of(self, primary: Node) -> tuple[Node, ...]:
        """All servers that have the data of a primary."""
        return primary, self.replica_of(primary)

    def _role(self, node: Node) -> str:
        with contextlib.suppress(redis.RedisError):
            return str(node.replication["role"])
        return "gone"

    def wait_for_promotion(self, killed: Node, replica: Node) -> None:
        """Return when the replica of a primary that was killed serves its slots."""
        wait_for(lambda: self._role(replica) == "master", f"the promotion after the end of {killed.address}")
        lowest = min(first for first, _ in self.slots_of(replica))
        living = [node for node in self.nodes if node is not killed]
        wait_for(lambda: all(self._sees(node, lowest, replica) for node in living), "all nodes see the promotion")

    def _sees(self, node: Node, slot: int, owner: Node) -> bool:
        return any(
            first <= slot <= last and primary[1] == owner.port
            for first, last, primary, *_ in node.call("CLUSTER", "SLOTS")
        )

    def slots_of(self, node: Node) -> list[tuple[int, int]]:
        """The ranges of slots that a node serves, as it sees it itself."""
        slots = node.call("CLUSTER", "SLOTS")
        return [(first, last) for first, last, primary, *_ in slots if primary[1] == node.port]

    def move_key_by_key(self, slot: int, target: Node, *, pause: Callable[[], None]) -> int:
        """Move a slot to another primary while it is used; `pause` is called after each key. Returns their number."""
        source = self.owner(slot)
        target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))
        moved = 0
        while keys := source.call("CLUSTER", "GETKEYSINSLOT", slot, 1):
            source.call("MIGRATE", target.host, target.port, "", 0, 3000, "KEYS", *keys)
            moved += 1
            pause()
        for node in (target, source):
            node.call("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(target))
        living = [node for node in self.nodes if self._role(node) != "gone"]  # `owner` may ask any of them
        wait_for(lambda: all(self._sees(node, slot, target) for node in living), "the new owner")
        return moved


def slot_of(keys: Keys) -> int:
    """The slot that holds a shard."""
    slot: int = key_slot(keys.tag.encode())
    return slot


def fill(node: Node) -> None:
    """Let a server refuse whatever needs memory."""
    node.call("CONFIG", "SET", "maxmemory", "1")


def empty_out(node: Node) -> None:
    """Let it have memory again."""
    node.call("CONFIG", "SET", "maxmemory", "0")


@contextmanager
def lab(kind: Kind = "bundled", *, behind_proxies: bool = False) -> Iterator[Lab]:
    """A cluster whose nodes agree. Its servers end with the thread that starts them."""
    extra = _BEHIND_PROXIES if behind_proxies else ()
    with ExitStack() as stack:
        ports = [("--cluster-port", str(free_port())) for _ in range(6)]
        found = Lab([stack.enter_context(Node(*DATA, *_CLUSTER, *port, *extra, kind=kind)) for port in ports])
        found.form()
        yield found


@asynccontextmanager
async def proxied_lab(kind: Kind = "bundled") -> AsyncIterator[Lab]:
    """A cluster that clients only reach through a proxy before each node: CLUSTER SLOTS names the proxies."""
    with lab(kind, behind_proxies=True) as found:
        async with AsyncExitStack() as stack:
            proxies = [Proxy(node.url, host=PROXY_HOST, port=node.port) for node in found.nodes]
            found.proxies = [await stack.enter_async_context(proxy) for proxy in proxies]
            found.url = f"redis+cluster://{','.join(f'{PROXY_HOST}:{node.port}' for node in found.nodes)}"
            yield found


class Servers:
    """Servers that know nothing of each other, over which the shards of a pipeline are spread."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.url = f"redis+servers://{','.join(node.address for node in nodes)}/0"

    def primary_of(self, keys: Keys) -> Node:
        """The server that holds a shard."""
        return self.nodes[keys.shard % len(self.nodes)]

    def pair_of(self, primary: Node) -> tuple[Node, ...]:
        """All servers that have its data: itself."""
        return (primary,)

    def wait_until_whole(self) -> None:
        """Return when all answer."""
        for node in self.nodes:
            wait_for(node.client.ping, f"an answer of {node.address}")


@contextmanager
def plain_servers(n: int, kind: Kind = "bundled") -> Iterator[Servers]:
    """Servers without replicas and without a cluster, which keep their data."""
    with ExitStack() as stack:
        yield Servers([stack.enter_context(Node(*DATA, kind=kind)) for _ in range(n)])
