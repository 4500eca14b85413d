"""The names of all keys. One hash tag per shard of a pipeline, so that every script touches one slot."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count

from redis.crc import key_slot

from flowq.delivery.edge import Edge
from flowq.delivery.placement import MOST_SHARDS
from flowq.delivery.policy import DedupMemory
from flowq.errors import UsageError

GROUP = b"flowq"
"""The one consumer group of every edge."""
_THROUGHPUT_PERIODS = 8
_SLOTS = 16384
_BANDS = 3 * MOST_SHARDS
"""Of the slots of a Cluster: a shard is in one of them."""

_NAME = "[A-Za-z_][A-Za-z0-9_]{0,63}"
is_name = re.compile(_NAME).fullmatch
"""Whether a stage or a pipeline can have this name: other programs may write to the same Redis."""
is_edge = re.compile(f"(?:{_NAME})?>{_NAME}").fullmatch
_NAMESPACE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


@lru_cache(maxsize=1024)
def hash_tag(pipeline: str, shard: int) -> str:
    """The hash tag of a shard: a pipeline's own name for the first one, so that one shard is as it was without shards.

    The others lie evenly over the slots of a Cluster, wherever the name has put the first one. Names of pipelines have
    no dots, so that no two tags are the same.

    >>> hash_tag("scrape", 0), hash_tag("scrape", 1)
    ('scrape', 'scrape.1.208')
    """
    if not shard:
        return pipeline
    band = (_band(pipeline) + _bands_from_the_first(shard)) % _BANDS
    tags = (f"{pipeline}.{shard}.{n}" for n in count())
    return next(tag for tag in tags if _band(tag) == band)


def _band(tag: str) -> int:
    return key_slot(tag.encode()) * _BANDS // _SLOTS


def _bands_from_the_first(shard: int) -> int:
    """How far a shard is from the first one: van der Corput's sequence, three times, a third of all slots apart.

    So 3, 6, 12, 24 and 48 shards are at equal distances, and divide equally over 3 primaries, or 2, 4, 6 and 8. Between
    these numbers one of the three goes ahead, with equal distances at 16, 32 and 64, which differ by one at most.

    >>> [_bands_from_the_first(shard) for shard in range(6)]
    [0, 64, 128, 96, 160, 32]
    """
    third, turn = shard, 0
    if shard >= 3:
        n_before = 1 << (shard // 3).bit_length() - 1  # in each of the three
        third, turn = divmod(shard - 3 * n_before, n_before)
        turn += n_before
    return (third * MOST_SHARDS + 3 * int(f"{turn:06b}"[::-1], 2)) % _BANDS


class _Key:
    """A key that each shard has once."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, keys: Keys, _: object) -> str:
        return f"{keys.namespace}:{{{keys.tag}}}:{self._name}"


def _keys(kind: str) -> Callable[[Keys, str], str]:
    """A key for each edge, stage, worker or caller."""

    def name_of(keys: Keys, name: str) -> str:
        return f"{keys.namespace}:{{{keys.tag}}}:{kind}:{name}"

    return name_of


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names of one shard of a pipeline in one namespace.

    >>> Keys("flowq", "scrape").edge("fetch>parse")
    'flowq:{scrape}:edge:fetch>parse'
    """

    namespace: str
    pipeline: str
    shard: int = 0
    tag: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tag", hash_tag(self.pipeline, self.shard))
        if not _NAMESPACE.fullmatch(self.namespace):
            raise UsageError(
                f'"{self.namespace}" cannot be a namespace',
                hint="letters, digits, _ . and -, starting with a letter, at most 64",
            )

    # By edge
    edge = _keys("edge")  # stream: waiting and running messages
    delayed = _keys("delayed")  # sorted set: message id -> millisecond at which it is due
    delayed_bodies = _keys("parked")  # hash: id of a delayed message -> header and body

    # By stage
    dead = _keys("dead")  # stream: dead letters
    kept = _keys("kept")  # stream: settled messages of a stage with keep=, for a replay
    edited = _keys("amended")  # hash: id of a dead letter -> its body for the next attempt
    restored = _keys("restored")  # hash: entry id of an exported dead letter -> its id since it was restored
    seen = _keys("seen")  # hash: hashes of the messages that a deduplicating stage has received, packed in buckets
    seen_until = _keys("seen_until")  # hash: the same with a ttl, each with the moment at which it expires
    unpacked = _keys("unpacked")  # set: what an earlier version has stored in seen, until it is packed
    unpacked_until = _keys("unpacked_until")  # sorted set: the same for seen_until
    latest = _keys("latest")  # hash: hash of a dedup value -> where its message is, for keep="last"
    rate = _keys("rate")  # hash: pacing key -> microsecond of its next start, kept until a full burst is saved up
    starts = _keys("starts")  # hash: pacing key -> microsecond before which it may not start; never later than in rate
    held_until = _keys("held")  # sorted set: pacing key -> millisecond until which it is held; kept until a success
    hold_info = _keys("holds")  # hash: held pacing key -> duration, repeats, who probes it, and why
    slots = _keys("busy")  # sorted set: running messages of each pacing key, and the worker of each
    queue = _keys("queue")  # sorted set: delayed messages that wait for others of their pacing key
    pace = _keys("pace")  # hash: pacing key -> microseconds between starts: bearable, and after a line break requested

    # By shard
    outbox_of = _keys("out")  # stream: what is under way from here to the shard of this number

    # By worker, by caller
    lease = _keys("lease")  # string that expires: the worker is alive
    answered = _keys("answered")  # string that expires: the last answer of a script, in case the reply is lost

    # One of each
    claims = _Key("claims")  # string: the name of the store of large bodies
    released = _Key("released")  # stream: references to large bodies that are no longer needed
    stats = _Key("stats")  # hash: counters
    workers = _Key("workers")  # hash: registered workers, each with its facts
    death_records = _Key("certificates")  # hash: workers known to be gone, and why
    deaths = _Key("deaths")  # stream that expires: workers that died within the last day, and how: for people only
    suspects = _Key("suspects")  # hash: entries that were running when a worker crashed, and how often
    published = _Key("published")  # sorted set: recent publish tokens, so that a publish sent twice is stored once
    cursors = _Key("cursors")  # hash: source, with a digest of its arguments if it has any -> where it resumes
    clock = _Key("clock")  # hash: the latest time seen, so that a step back is noticed
    paused = _Key("paused")  # hash: paused stage, or * for all of them -> since which millisecond
    failures = _Key("failures")  # hash: stage and kind of error -> failed attempts of the current run, and the last one
    audit = _Key("audit")  # stream: the last actions of users, by command or on the web page
    run = _Key("run")  # hash: the current run, its sources and their states
    plan = _Key("plan")  # hash: edge of this or an earlier version of the pipeline -> what it accepts, as JSON
    heads = _Key("heads")  # hash: shard -> last entry in the outbox for it; `epoch`; `layout`, the number of shards
    inbox = _Key("inbox")  # hash: shard -> last entry of its outbox that was applied here
    probe = _Key("probe")  # string: written before WAIT, which waits for what its own connection wrote
    scratch = _Key("scratch")  # first part of temporary keys that try what this user of Redis may do
    all = _Key("*")  # a pattern that every key matches, for an ACL

    def in_shard(self, shard: int) -> Keys:
        """The same for another shard of the pipeline."""
        return replace(self, shard=shard)

    @property
    def of_all_shards(self) -> str:
        """A pattern that every key of the pipeline matches, for an ACL: those of later shards too.

        >>> Keys("flowq", "scrape").of_all_shards
        'flowq:{scrape[}.]*'
        """
        return f"{self.namespace}:{{{self.pipeline}[}}.]*"

    @property
    def of_all_pipelines(self) -> str:
        """A pattern that every key of every pipeline in this namespace matches, for an ACL."""
        return f"{self.namespace}:*"

    def throughput(self) -> list[str]:
        """Hashes that expire: counters and durations, each of some seconds. They are used in rotation."""
        return [f"{self.namespace}:{{{self.tag}}}:tempo:{number}" for number in range(_THROUGHPUT_PERIODS)]

    def of_edge(self, edge: str) -> tuple[str, str, str]:
        """Everything that holds messages of an edge: `edge`, `delayed` and `delayed_bodies`."""
        return self.edge(edge), self.delayed(edge), self.delayed_bodies(edge)

    def of_target(self, edge: str, memory: DedupMemory | None) -> tuple[str, ...]:
        """The keys of an edge that a script adds messages to: `of_edge`, and what its stage has seen."""
        if memory is None:
            return self.of_edge(edge)
        stage = Edge.parse(edge).target
        kinds = (self.seen, self.unpacked) if memory.ttl_ms is None else (self.seen_until, self.unpacked_until)
        names = *self.of_edge(edge), *(key(stage) for key in kinds), self.workers
        if not memory.places:
            return names
        return *names, self.latest(stage), *(key for place in memory.places for key in self.of_edge(place))
