"""What a server is certain to remember, whatever happens to it, judged by what it says of its replicas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Self, cast

from flowq.broker.shards.channel import BEGINNING, EntryId
from flowq.delivery.policy import Durability

Assurance = Literal["auto", "replicated", "local"]
"""What must have an entry before it may be offered to its target.

"auto": all replicas where one is attached, else the server itself. "replicated": always a replica, or the disk (Redis
7.2). "local": the server itself.
"""

AGE_SECONDS = 3.0
"""Without a replica: by then the append-only file is on the disk."""
WAIT_MS = 250


@dataclass(frozen=True, slots=True)
class Replication:
    """What a server says of its replicas and its disk: INFO replication, INFO persistence.

    `online`: how much of its history each attached replica has confirmed. `is_joined` tells whether one is being
    filled: then this server is not cut off, though nothing confirms what it writes. `is_appended` tells whether all is
    appended to a file. `forgets_nothing`: it lives inside this process.
    """

    is_primary: bool
    history: str
    offset: int
    online: tuple[int, ...]
    is_joined: bool
    is_appended: bool = True
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
            is_joined=len(online) < len(replicas),
            is_appended=_facts_in(of_persistence).get("aof_enabled") == "1",
        )


def _facts_in(reply: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in reply.decode().splitlines())
    return {name: value for name, colon, value in lines if colon}


IN_MEMORY = Replication(is_primary=True, history="", offset=0, online=(), is_joined=False, forgets_nothing=True)
"""A server inside this process. It knows neither INFO nor WAIT."""


def assurance_of(durability: Durability) -> Assurance:
    """What is asked for where the durability of what is published is this."""
    return "replicated" if durability == "replicated" else "auto"


class Confirmation(NamedTuple):
    """How to have a server confirm what it has written: by so many replicas, by its disk, or by its answer."""

    replicas: int = 0
    disk: bool = False

    @property
    def command(self) -> tuple[bytes | int, ...]:
        """What to send after a write; empty where the answer will do."""
        if self.disk:
            return b"WAITAOF", 1, 0, WAIT_MS
        return (b"WAIT", self.replicas, WAIT_MS) if self.replicas else ()

    def is_given_by(self, reply: object) -> bool:
        """Whether this reply to the command is one."""
        if self.disk:
            return isinstance(reply, list) and cast("list[int]", reply)[0] >= 1
        return isinstance(reply, int) and reply >= self.replicas


def confirmation_needed(assurance: Assurance, state: Replication, *, is_alone: bool) -> Confirmation | None:
    """What must confirm an entry before it is offered; None if nothing can at the moment.

    `is_alone`: other nodes say too that this server has no replica. One that was cut off from its replica lists none
    either, and what it writes is forgotten when that is promoted.
    """
    if assurance == "local" or state.forgets_nothing:
        return Confirmation()
    if not state.is_primary:
        return None
    if state.online:
        return Confirmation(replicas=len(state.online))
    if assurance == "replicated":
        return Confirmation(disk=True)
    return Confirmation() if is_alone or state.is_joined else None


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
    if not (is_alone or state.is_joined):
        return False
    return not state.is_appended or now - stamp.seconds >= AGE_SECONDS  # without a file, age makes nothing safer
