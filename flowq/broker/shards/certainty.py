"""What a server is certain to remember, whatever happens to it, judged by what it says of its replicas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, cast

from flowq.broker.shards.channel import BEGINNING, EntryId
from flowq.delivery.policy import Durability

ON_DISK_SECONDS = 3.0
"""After so long, what a server has appended to its file is on the disk."""
_WAIT_MS = 250
_PROBE_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Replication:
    """What a server says of its replicas and its disk: INFO replication, INFO persistence.

    `online`: up to which offset of the history each attached replica has confirmed. `has_syncing_replica`: one is being
    filled, so that this server is not cut off, though nothing confirms what it writes. `forgets_nothing`: it lives
    inside this process.
    """

    is_primary: bool
    history: str
    offset: int
    online: tuple[int, ...]
    has_syncing_replica: bool
    has_append_only_file: bool = True
    forgets_nothing: bool = False

    @classmethod
    def parse(cls, of_replication: bytes, of_persistence: bytes = b"") -> Self:
        facts = _facts_in(of_replication)
        replicas = [
            {word: said for word, _, said in (part.partition("=") for part in value.split(","))}
            for name, value in facts.items()
            if name.startswith("slave") and name[5:].isdecimal()
        ]
        online = tuple(int(each["offset"]) for each in replicas if each["state"] == "online")
        return cls(
            is_primary=facts.get("role") == "master",
            history=facts.get("master_replid", ""),
            offset=int(facts.get("master_repl_offset", 0)),
            online=online,
            has_syncing_replica=len(online) < len(replicas),
            has_append_only_file=_facts_in(of_persistence).get("aof_enabled") == "1",
        )


def _facts_in(reply: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in reply.decode().splitlines())
    return {name: value for name, colon, value in lines if colon}


IN_MEMORY = Replication(
    is_primary=True, history="", offset=0, online=(), has_syncing_replica=False, forgets_nothing=True
)
"""A server inside this process. It knows neither INFO nor WAIT."""


class Confirmation(NamedTuple):
    """How to have a server confirm what it has written: by so many replicas, by its disk, or by its answer."""

    replicas: int = 0
    disk: bool = False

    def commands(self, probe: str) -> Sequence[tuple[Any, ...]]:
        """What to send behind what is to be confirmed, in one request; nothing where its answer will do.

        `probe`: a key of that server.
        """
        # WAIT waits for what its own connection has written. PEXPIRE is a write even when memory is full, unlike SET.
        write = b"PEXPIRE", probe, _PROBE_MS
        if self.disk:
            return write, (b"WAITAOF", 1, 0, _WAIT_MS)
        return (write, (b"WAIT", self.replicas, _WAIT_MS)) if self.replicas else ()

    def is_given_by(self, replies: Sequence[object]) -> bool:
        """Whether these replies to the commands are one."""
        if not replies:
            return not self.disk and not self.replicas
        n_written, confirmed = replies
        if self.disk:
            return n_written == 1 and isinstance(confirmed, list) and cast("list[int]", confirmed)[0] >= 1
        return n_written == 1 and isinstance(confirmed, int) and confirmed >= self.replicas


def lacks_probe(replies: Sequence[object]) -> bool:
    """Whether the commands of a confirmation have written nothing, because their key has to be created."""
    return bool(replies) and replies[0] == 0


def creation_of(probe: str) -> tuple[Any, ...]:
    """The command that creates the key."""
    return b"SET", probe, b"", b"PX", _PROBE_MS


def confirmation_needed(durability: Durability, state: Replication, *, is_alone: bool) -> Confirmation | None:
    """What must confirm an entry before it is offered; None if nothing can at the moment.

    All replicas that are attached. Where none is, with "local" the server itself, with "replicated" its disk (Redis
    7.2). `is_alone`: other nodes say too that this server has no replica. One that was cut off from its replica lists
    none either, and what it writes is forgotten when that is promoted.
    """
    if state.forgets_nothing:
        return Confirmation()
    if not state.is_primary:
        return None
    if state.online:
        return Confirmation(replicas=len(state.online))
    if durability == "replicated":
        return Confirmation(disk=True)
    return Confirmation() if is_alone or state.has_syncing_replica else None


class _Stamp(NamedTuple):
    """An entry that was applied before this server had written so much of this history, at this time."""

    id: EntryId
    connection: object
    history: str
    offset: int
    seconds: float


class Retention:
    """How long the entries of one channel are kept: until their target is certain to remember that it applied them.

    The target may fail over to a replica that has not got its last writes, and then needs them again.
    """

    def __init__(self) -> None:
        self.certain = self.removed = BEGINNING.id
        self._applied = BEGINNING.id
        self.connection: object = None  # over which it was said
        self._stamp: _Stamp | None = None

    def applied(self, cursor: EntryId, connection: object) -> None:
        """The target has said over this connection that it has applied everything up to here."""
        self._applied, self.connection = cursor, connection

    @property
    def has_uncertain(self) -> bool:
        """Whether the target has applied something that it might forget."""
        return self._applied > self.certain

    @property
    def to_remove(self) -> EntryId | None:
        """The entry up to which the outbox can be trimmed."""
        return self.certain if self.certain > self.removed else None

    def look(self, state: Replication, connection: object, now: float, *, is_alone: bool) -> None:
        """What the target says of its replicas now."""
        stamp = self._stamp
        if stamp is not None and _has_come_true(stamp, state, connection, now, is_alone=is_alone):
            self.certain, self._stamp = max(self.certain, stamp.id), None
        elif stamp is not None and (stamp.connection is not connection or stamp.history != state.history):
            self._stamp = None
        if self._stamp is None and self.has_uncertain and self.connection is connection:
            self._stamp = _Stamp(self._applied, connection, state.history, state.offset, now)
            if state.forgets_nothing:
                self.certain = self._applied


def _has_come_true(stamp: _Stamp, state: Replication, connection: object, now: float, *, is_alone: bool) -> bool:
    if not state.is_primary or stamp.connection is not connection or stamp.history != state.history:
        return False
    if state.forgets_nothing:
        return True
    if state.online:
        return min(state.online) >= stamp.offset
    if not (is_alone or state.has_syncing_replica):
        return False
    # Without a file, age makes nothing safer.
    return not state.has_append_only_file or now - stamp.seconds >= ON_DISK_SECONDS
