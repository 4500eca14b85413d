"""The names of all keys. One hash tag per pipeline, so that every script touches one slot."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flowq.delivery.edge import Edge
from flowq.delivery.policy import DedupMemory
from flowq.errors import UsageError

GROUP = b"flowq"
"""The one consumer group of every edge."""
_THROUGHPUT_PERIODS = 8

_NAME = "[A-Za-z_][A-Za-z0-9_]{0,63}"
is_name = re.compile(_NAME).fullmatch
"""Whether a stage or a pipeline can have this name: not all that stands in Redis was written by flowq."""
is_edge = re.compile(f"(?:{_NAME})?>{_NAME}").fullmatch
_NAMESPACE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names of one pipeline in one namespace.

    >>> Keys("flowq", "scrape").edge("fetch>parse")
    'flowq:{scrape}:edge:fetch>parse'
    """

    namespace: str
    pipeline: str

    def __post_init__(self) -> None:
        if not _NAMESPACE.fullmatch(self.namespace):
            raise UsageError(
                f'"{self.namespace}" cannot be a namespace',
                hint="letters, digits, _ . and -, starting with a letter, at most 64",
            )

    def _key(self, rest: str) -> str:
        return f"{self.namespace}:{{{self.pipeline}}}:{rest}"

    def edge(self, edge: str) -> str:
        """Stream: waiting and running messages of an edge."""
        return self._key(f"edge:{edge}")

    def delayed(self, edge: str) -> str:
        """Sorted set: message id to the millisecond at which it is due."""
        return self._key(f"delayed:{edge}")

    def delayed_bodies(self, edge: str) -> str:
        """Hash: message id to header and body of a delayed message."""
        return self._key(f"parked:{edge}")

    def of_edge(self, edge: str) -> tuple[str, str, str]:
        """Everything that holds messages of an edge: `edge`, `delayed` and `delayed_bodies`."""
        return self.edge(edge), self.delayed(edge), self.delayed_bodies(edge)

    def dead(self, stage: str) -> str:
        """Stream: dead letters of a stage."""
        return self._key(f"dead:{stage}")

    def kept(self, stage: str) -> str:
        """Stream: messages that a stage with keep= has settled, to be run again if need be."""
        return self._key(f"kept:{stage}")

    def amended(self, stage: str) -> str:
        """Hash: id of a dead letter to the body that it shall have when it runs again."""
        return self._key(f"amended:{stage}")

    def restored(self, stage: str) -> str:
        """Hash: entry id that a dead letter had when it was exported, to the one that it has since it was restored."""
        return self._key(f"restored:{stage}")

    def seen(self, stage: str) -> str:
        """Set: hashes of the messages a deduplicating stage has been given."""
        return self._key(f"seen:{stage}")

    def seen_until(self, stage: str) -> str:
        """Sorted set: the same where they are forgotten after a while, each with the millisecond of that."""
        return self._key(f"seen_until:{stage}")

    def of_target(self, edge: str, memory: DedupMemory | None) -> tuple[str, str, str, str]:
        """The keys of an edge that a script adds messages to: stream, seen, delayed, delayed bodies."""
        stage = Edge.parse(edge).target
        seen = self.seen(stage) if memory is None or memory.ttl_ms is None else self.seen_until(stage)
        return self.edge(edge), seen, self.delayed(edge), self.delayed_bodies(edge)

    def rate(self, stage: str) -> str:
        """Hash: pacing key to the microsecond of its next turn, until that is past and a burst saved up."""
        return self._key(f"rate:{stage}")

    def starts(self, stage: str) -> str:
        """Hash: pacing key to the microsecond before which no more of it may start; never later than in `rate`."""
        return self._key(f"starts:{stage}")

    def held_until(self, stage: str) -> str:
        """Sorted set: pacing key to the millisecond until which it is held, kept until somebody succeeds again."""
        return self._key(f"held:{stage}")

    def hold_info(self, stage: str) -> str:
        """Hash: held pacing key to how long for, how often again, who tries it, and why."""
        return self._key(f"holds:{stage}")

    def slots(self, stage: str) -> str:
        """Sorted set: what runs of each pacing key, and which worker runs it."""
        return self._key(f"busy:{stage}")

    def queue(self, stage: str) -> str:
        """Sorted set: delayed messages of each pacing key that wait for others of it."""
        return self._key(f"queue:{stage}")

    def pace(self, stage: str) -> str:
        """Hash: pacing key to the microseconds between starts that it can bear; after a line break, those asked for."""
        return self._key(f"pace:{stage}")

    @property
    def claims(self) -> str:
        """String: the name of the store of large bodies."""
        return self._key("claims")

    @property
    def released(self) -> str:
        """Stream: references to large bodies that nobody needs any more, since when."""
        return self._key("released")

    def answered(self, caller: str) -> str:
        """String that expires: what a script answered last to a caller, in case the reply is lost."""
        return self._key(f"answered:{caller}")

    def lease(self, worker: str) -> str:
        """String that expires: its worker is alive."""
        return self._key(f"lease:{worker}")

    def throughput(self) -> list[str]:
        """Hashes that expire: counters and durations, each of some seconds. They are used in turn."""
        return [self._key(f"tempo:{number}") for number in range(_THROUGHPUT_PERIODS)]

    @property
    def stats(self) -> str:
        """Hash: counters."""
        return self._key("stats")

    @property
    def workers(self) -> str:
        """Hash: registered workers, each with what it told of itself."""
        return self._key("workers")

    @property
    def death_records(self) -> str:
        """Hash: workers that are known to be gone, and how they went."""
        return self._key("certificates")

    @property
    def suspects(self) -> str:
        """Hash: entries that were under way when a worker crashed, and how often that happened."""
        return self._key("suspects")

    @property
    def published(self) -> str:
        """Sorted set: recent publish tokens, so that a publish sent twice is stored once."""
        return self._key("published")

    @property
    def cursors(self) -> str:
        """Hash: source, with a digest of its arguments if it was given any, to where it shall go on."""
        return self._key("cursors")

    @property
    def clock(self) -> str:
        """Hash: the latest time that was seen, so that a step back is noticed."""
        return self._key("clock")

    @property
    def paused(self) -> str:
        """Hash: paused stage, or * for all of them, to the millisecond since when."""
        return self._key("paused")

    @property
    def run(self) -> str:
        """Hash: the current run, its sources and what they have done."""
        return self._key("run")

    @property
    def all(self) -> str:
        """A pattern that every key matches, for an ACL."""
        return self._key("*")

    @property
    def of_all_pipelines(self) -> str:
        """A pattern that every key of every pipeline in this namespace matches, for an ACL."""
        return f"{self.namespace}:*"

    @property
    def scratch(self) -> str:
        """First part of keys that exist for a moment, to try what this user of Redis may do."""
        return self._key("scratch")

    @property
    def plan(self) -> str:
        """Hash: edge of this or an earlier version of the pipeline to what it takes, as JSON."""
        return self._key("plan")
