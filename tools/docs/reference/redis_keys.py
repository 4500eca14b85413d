"""The page on the keys of Redis, from the one file that names them."""

from __future__ import annotations

import inspect
import re

from flowq.broker import keys

_GROUP = re.compile(r"    # (By .*|One of each)$")
_KEY = re.compile(r'    (\w+) = (_keys|_Key)\("([^"]+)"\)  # ([\w ]+): (.*)$')
_PARTS = {
    "By edge": ":EDGE",
    "By stage": ":STAGE",
    "By shard": ":SHARD",
    "By worker, by caller": ":NAME",
    "One of each": "",
}


def redis_keys() -> str:
    """The page."""
    lines = [
        "# Redis keys",
        "",
        "All that flowq stores in Redis. Every key of a pipeline has the same hash tag, its name in braces, so a",
        "pipeline is in one slot of a Redis Cluster. With `shards`, shard 0 has this tag, and each other shard has one",
        "of its own, such as `{PIPELINE.7.12}` for shard 7. `flowq` is the namespace, a setting. An edge is `from>to`,",
        "or `>to` from outside. A key without a lifetime stays until it is empty, or until a new run replaces what it",
        "holds.",
        "",
        "Read the keys, and leave the writing to flowq ([how the protocol works](../explanation/protocol.md)).",
    ]
    group = ""
    for line in inspect.getsource(keys.Keys).splitlines():
        if found := _GROUP.match(line):
            group = found[1]
            lines += ["", f"## {group}", "", "| key | type | what it holds |", "|---|---|---|"]
        elif (found := _KEY.match(line)) and found[3] not in ("*", "scratch"):
            lines.append(f"| `flowq:{{PIPELINE}}:{found[3]}{_PARTS[group]}` | {found[4]} | {found[5]} |")
    throughput = " ".join((inspect.getdoc(keys.Keys.throughput) or "").split())
    lines.append(f"| `flowq:{{PIPELINE}}:tempo:0` to `:7` | hash | {throughput} |")
    return "\n".join(lines) + "\n"
