"""What is worth knowing about the shards of a pipeline, in one line each, the worst first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flowq.broker.inspection.merging.shards_seen import ShardsOverview
from flowq.broker.shards.every_shard import SilentShard, shards_text
from flowq.wording.quantities import counted


def number_words(shards: ShardsOverview) -> str:
    """How many shards there are, and how many of them answer unless all do."""
    answering = f"{len(shards.by_shard)} of " if shards.silent else ""
    return f"{answering}{shards.total} shards"


def transit_words(shards: ShardsOverview) -> str:
    """How many messages are between them, as far as known."""
    return f"{shards.all_in_transit:,}{' or more' * bool(shards.silent)} in transit"


def server_words(address: str) -> str:
    """A server as people name it: without scheme, login, options and database 0.

    >>> server_words("rediss://***@one:6379/0?ssl_ca_certs=***"), server_words("two:6379"), server_words("unix:///run/3")
    ('one:6379', 'two:6379', '/run/3')
    """
    return address.rpartition("://")[2].rpartition("@")[2].partition("?")[0].removesuffix("/0")


def silent_words(silent: Iterable[SilentShard]) -> Iterator[str]:
    """Which shards do not answer, those of one server together."""
    on_server: dict[str, list[int]] = {}
    for each in silent:
        on_server.setdefault(server_words(each.address), []).append(each.shard)
    for server, shards in on_server.items():
        yield f"{shards_text(shards)} at {server} {'does' if len(shards) == 1 else 'do'} not answer"


def trouble_words(shards: ShardsOverview) -> Iterator[str]:
    """What is missing, and what is lost."""
    yield from missing_words(shards)
    yield from lost_words(shards)


def missing_words(shards: ShardsOverview) -> Iterator[str]:
    """Which shards the numbers of an overview lack."""
    for words in silent_words(shards.silent):
        yield f"{words}: missing in these numbers"


def lost_words(shards: ShardsOverview) -> Iterator[str]:
    """What shards have forgotten that they had confirmed."""
    for (source, target), n in sorted(shards.lost.items()):
        yield f"shard {target} has lost {counted(n, 'message')} from shard {source}, which its Redis had confirmed"


def unserved_words(shards: ShardsOverview) -> str:
    """Which shards hold messages that no worker will receive, while others have workers; "" if none does."""
    if not (unserved := shards.unserved):
        return ""
    left = sum(shards.by_shard[shard].outstanding for shard in unserved)
    return f"no worker serves {shards_text(unserved)}: {counted(left, 'message')} left there"


def hot_words(shards: ShardsOverview) -> str:
    """Which shard gets far more messages than the others; "" if none does."""
    if shards.hot is None:
        return ""
    received = shards.by_shard[shards.hot].received_since_move
    share = received / sum(each.received_since_move for each in shards.by_shard.values())
    return f"shard {shards.hot} gets {share:.0%} of all messages: one key may have most of them (see place=)"
