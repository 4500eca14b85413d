"""Judges a crawl: what the handlers wrote down and what lies in Redis, read without flowq, against the oracle."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson

from flowq.broker.keys import Keys
from tests.cluster.crawl_pipeline import STAGES
from tests.cluster.lab import NAMESPACE
from tests.cluster.site import Site
from tests.faults.deployments import Node
from tests.faults.verifier import Finding

PIPELINE = "crawl"
_PAGE = 5_000  # entries read at once


class Home(Protocol):
    """Where the shards of a pipeline are."""

    def primary_of(self, keys: Keys) -> Node: ...


@dataclass
class ShardState:
    """What one shard holds."""

    shard: int
    stats: Counter[str] = field(default_factory=Counter[str])
    left: dict[str, int] = field(default_factory=dict[str, int])  # messages in edges, delayed or dead, by key
    outboxes: dict[str, int] = field(default_factory=dict[str, int])  # length
    heads: dict[int, str] = field(default_factory=dict[int, str])
    inbox: dict[int, str] = field(default_factory=dict[int, str])
    settled: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])


def shard_states(home: Home, n_shards: int) -> list[ShardState]:
    """All shards as they are now. The states do not fit together unless nothing works."""
    keys = [Keys(NAMESPACE, PIPELINE).in_shard(k) for k in range(n_shards)]
    return [_state(home.primary_of(each), each) for each in keys]


def _state(node: Node, keys: Keys) -> ShardState:
    client, state = node.client, ShardState(keys.shard)
    stats: Any = client.hgetall(keys.stats)
    state.stats.update({name.decode(): int(n) for name, n in stats.items()})
    state.heads, state.inbox = (_channels(client.hgetall(key)) for key in (keys.heads, keys.inbox))
    prefix = keys.all.removesuffix("*")
    for key in client.scan_iter(f"{prefix}*", count=1000):
        kind, _, name = key.decode().removeprefix(prefix).partition(":")
        match kind:
            case "edge" | "dead":
                state.left[f"{kind}:{name}"] = client.xlen(key)
            case "delayed":
                state.left[f"{kind}:{name}"] = client.zcard(key)
            case "out":
                state.outboxes[name] = client.xlen(key)
            case "kept":
                state.settled.update((name, url) for url in _urls(client, key))
            case _:
                pass
    return state


def _channels(fields: Any) -> dict[int, str]:
    return {int(name): value.decode() for name, value in fields.items() if name.isdigit()}


def _urls(client: Any, stream: bytes) -> Iterator[int]:
    first: bytes = b"-"
    while entries := client.xrange(stream, min=first, count=_PAGE):
        yield from (orjson.loads(fields[b"b"])["url"] for _, fields in entries)
        first = b"(" + entries[-1][0]


def handled(folder: Path) -> Counter[tuple[str, int]]:
    """How often each page went through each stage, as the handlers wrote it down."""
    lines = (line.split() for file in folder.glob("*.ledger") for line in file.read_text().splitlines())
    return Counter((stage, int(page)) for stage, page in lines)


def n_handled(folder: Path) -> int:
    """A rough count of handler runs, which is quick."""
    return sum(file.stat().st_size for file in folder.glob("*.ledger")) // len("discover 12345\n")


def unfinished(states: list[ShardState]) -> list[str]:
    """Everything that is still on its way: none of it when a run says that it is drained."""
    found = [f"{n} of {key} in shard {state.shard}" for state in states for key, n in state.left.items() if n]
    for state in states:
        for to, head in state.heads.items():
            cursor = states[to].inbox.get(state.shard, "nothing") if to < len(states) else "no shard"
            if cursor != head:
                found.append(f"channel {state.shard} to {to}: sent {head}, applied {cursor}")
    return found


def verdict(site: Site, folder: Path, states: list[ShardState]) -> list[Finding]:
    """Everything that was promised, with what speaks against it."""
    runs = handled(folder)
    expected = {(stage, page) for stage in STAGES for page in site.reachable}
    settled: Counter[tuple[str, int]] = sum((state.settled for state in states), Counter())
    stats: Counter[str] = sum((state.stats for state in states), Counter())
    sums: defaultdict[str, int] = defaultdict(int)
    for name, n in stats.items():
        kind, _, rest = name.partition(":")
        sums[f"{kind}:{rest.rpartition('>')[2]}"] += n
    n, of = len(site.reachable), Finding.of
    wanted = {f"{kind}:{stage}": n for stage in STAGES for kind in ("in", "ok")} | {
        "duplicates:discover": site.repeated
    }
    wrong = [f"{name} is {sums[name]}, not {n}" for name, n in wanted.items() if sums[name] != n]
    forgotten = [f"{name} is {n}" for name, n in stats.items() if name.startswith(("lost:", "again:"))]
    boxes = [f"{n} in that of {state.shard} for {to}" for state in states for to, n in state.outboxes.items() if n]
    crossed = sum(int(head.split()[1]) for state in states for head in state.heads.values())
    return [
        Finding("pages that can be reached", n, is_fault=False),
        Finding("handler runs beyond the first", runs.total() - len(runs), is_fault=False),
        Finding("messages that crossed", crossed, is_fault=False),
        of("several shards and no crossing", ["none"] if len(states) > 1 and not crossed else []),
        of("lost: never handled", expected - runs.keys()),
        of("lost: never settled", expected - settled.keys()),
        of("handled but not linked", runs.keys() - expected),
        of("doubled: settled again", [page for page, n in settled.items() if n > 1]),
        of("unfinished though drained", unfinished(states)),
        of("outboxes that are not empty", boxes),
        of("counters that are wrong", wrong),
        of("shards out of balance", _unbalanced(states)),
        of("forgotten by a shard", forgotten),
    ]


def _unbalanced(states: list[ShardState]) -> Iterator[str]:
    for state in states:
        for stage in STAGES:
            entered = sum(n for name, n in state.stats.items() if name.startswith("in:") and name.endswith(f">{stage}"))
            ended = sum(state.stats[f"{kind}:{stage}"] for kind in ("ok", "filtered", "dead", "purged"))
            left = sum(n for key, n in state.left.items() if key.endswith(f">{stage}"))
            if entered != ended + left:
                yield f"shard {state.shard}, {stage}: {entered} in, {ended} ended, {left} left"
