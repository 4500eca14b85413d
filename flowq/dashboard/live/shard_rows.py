"""The shards of a pipeline as texts for its page. Whatever is unknown is "?", never 0."""

from __future__ import annotations

from flowq.broker.inspection.merging.shards_seen import ShardFigures, ShardsOverview
from flowq.broker.shards.every_shard import SilentShard
from flowq.printable import printable
from flowq.wording.quantities import rate_words, size
from flowq.wording.shard_words import server_words

NUMBERS = ("received", "waiting", "delayed", "running", "transit", "dead", "rate", "workers", "memory")
"""The columns between the shard and where it is."""


def shard_row(each: ShardFigures | SilentShard, shards: ShardsOverview) -> dict[str, str]:
    """One row of the table."""
    if isinstance(each, SilentShard):
        unknown = dict.fromkeys(NUMBERS, "?")
        return {
            "state": "dead",
            "shard": str(each.shard),
            **unknown,
            "at": f"{printable(server_words(each.address))} does not answer",
        }
    return {
        "state": "busy" if each.shard == shards.hot else "",
        "shard": str(each.shard),
        "received": f"{each.received:,}",
        "waiting": f"{each.waiting:,}",
        "delayed": f"{each.delayed:,}",
        "running": f"{each.running:,}",
        "transit": f"{shards.leaving(each.shard):,}",
        "dead": f"{each.dead_letters:,}",
        "rate": "–" if each.rate is None else rate_words(each.rate),
        "workers": f"{each.workers:,}",
        "memory": size(each.memory_bytes),
        "at": printable(server_words(each.address)),
    }
