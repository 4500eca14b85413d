"""What is worth knowing about the shards of a pipeline, in one line each, the worst first."""

from __future__ import annotations

from collections.abc import Iterator

from flowq.broker.inspection.merging.shards_seen import ShardsOverview
from flowq.wording.quantities import counted


def number_words(shards: ShardsOverview) -> str:
    """How many shards there are, and how many of them answer unless all do."""
    answering = f"{len(shards.by_shard)} of " if shards.silent else ""
    return f"{answering}{shards.total} shards"


def transit_words(shards: ShardsOverview) -> str:
    """How many messages are between them, as far as known."""
    return f"{shards.all_in_transit:,}{' or more' * bool(shards.silent)} in transit"


def trouble_words(shards: ShardsOverview) -> Iterator[str]:
    """What is missing, and what is lost."""
    for silent in shards.silent:
        yield f"{silent}: what it holds is missing in these numbers"
    for (source, target), n in sorted(shards.lost.items()):
        yield f"shard {target} has lost {counted(n, 'message')} from shard {source}, which its Redis had confirmed"


def hot_words(shards: ShardsOverview) -> str:
    """Which shard gets far more messages than the others; "" if none does."""
    if shards.hot is None:
        return ""
    received = shards.by_shard[shards.hot].received
    share = received / sum(each.received for each in shards.by_shard.values())
    return f"shard {shards.hot} gets {share:.0%} of all messages: one key may have most of them (see place=)"
