"""A message on the wire, header and body, and its delivery to one worker."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple
from urllib.parse import quote

from flowq.delivery.encoding.compression import unpacked
from flowq.delivery.stored import entry_ms, number_in
from flowq.errors import DecodeError, NotAMessage

_MOST_HEADER_BYTES = 65_536
_TRACE = b" w="
"""The word of a header with the trace context, as W3C `traceparent` writes it."""


@dataclass(frozen=True, slots=True)
class Header:
    """What travels beside the body: identity, lineage, and what happened so far.

    Written as `id root parent hops`, followed by a `key=value` word for each field that is not at its default, which
    keeps headers small. `-` stands for a root that is the message itself, and for no parent. Words that this version
    does not know are kept and passed on, because two versions of a pipeline may share a stream. The word `w` is the
    trace context, which only tracing reads (`traceparent_of`), and `k` names the value of a message to a stage that
    handles the last one of each value, which only the scripts read.

    `message_id` stays the same across retries, replays and workers. `root_id` is the message that entered the
    pipeline, `parent_id` the one whose handler emitted this one, `hops` its distance from the root in stages.

    >>> Header("b7", "a1", "a1", 1, attempt=2).encode()
    b'b7 a1 a1 1 a=2'
    >>> Header.decode(b"b7 a1 a1 1 a=2 z=new").encode()
    b'b7 a1 a1 1 a=2 z=new'
    """

    message_id: str
    root_id: str
    parent_id: str
    hops: int
    attempt: int = 1
    crashes: int = 0
    first_ms: int = 0
    type_tag: str = ""
    granted: bool = False
    past: str = ""  # its earlier deaths: flowq.delivery.history
    packing: str = ""  # how the body is compressed
    failures: str = ""  # its failed attempts in this life: flowq.delivery.failed_attempts
    failed_at: str = ""  # when they failed: the same
    unknown: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The header as it is stored."""
        root = "-" if self.root_id == self.message_id else self.root_id
        words = [self.message_id, root, self.parent_id, str(self.hops)]
        if self.attempt != 1:
            words.append(f"a={self.attempt}")
        if self.crashes:
            words.append(f"c={self.crashes}")
        if self.first_ms:
            words.append(f"f={self.first_ms}")
        if self.type_tag:
            words.append(f"t={self.type_tag}")
        if self.granted:
            words.append("g=1")
        if self.past:
            words.append(f"p={self.past}")
        if self.packing:
            words.append(f"e={self.packing}")
        if self.failures:
            words.append(f"l={self.failures}")
        if self.failed_at:
            words.append(f"m={self.failed_at}")
        return " ".join((*words, *self.unknown)).encode()

    @classmethod
    def decode(cls, raw: bytes) -> Header:
        """Read a stored header. Raises ValueError for bytes that no version of flowq writes."""
        if len(raw) > _MOST_HEADER_BYTES:
            raise ValueError(f"a header of {len(raw):,} bytes")
        text = raw.decode()
        message_id, root_id, parent_id, hops, *more = text.split(" ")
        if text.split() != text.split(" "):  # a line break would end the header where header and body are stored as one
            raise ValueError("white space in a word")
        if root_id == "-":
            root_id = message_id
        if not more:
            return cls(message_id, root_id, parent_id, number_in(hops))
        known: dict[str, str] = {}
        unknown: list[str] = []
        for word in more:
            key, _, value = word.partition("=")
            if key in _OPTIONAL_WORDS:
                known[key] = value
            else:
                unknown.append(word)
        return cls(
            message_id,
            root_id,
            parent_id,
            number_in(hops),
            attempt=number_in(known.get("a", "1")),
            crashes=number_in(known.get("c", "0")),
            first_ms=number_in(known.get("f", "0")),
            type_tag=known.get("t", ""),
            granted="g" in known,
            past=known.get("p", ""),
            packing=known.get("e", ""),
            failures=known.get("l", ""),
            failed_at=known.get("m", ""),
            unknown=tuple(unknown),
        )

    @classmethod
    def entering(cls, message_id: str, *, type_tag: str = "") -> Header:
        """The header of a message that enters the pipeline from outside."""
        return cls(message_id, message_id, "-", 0, type_tag=type_tag)

    def replayed(self) -> Header:
        """The header of a dead letter that is retried: the same message, its attempts reset."""
        return replace(self, attempt=1, crashes=0, granted=False, failures="", failed_at="")


def new_header(message_id: bytes, lineage: bytes, tag: bytes = b"") -> bytes:
    """A new header as it is stored, in a twentieth of the time of `Header(...).encode()`: every message needs one.

    >>> new_header(b"b7", b"a1 a1 1", b"Link") == Header("b7", "a1", "a1", 1, type_tag="Link").encode()
    True
    """
    header = message_id + b" " + lineage  # half the cost of formatting
    return header + b" t=" + tag if tag else header


def traceparent_of(header: bytes) -> str | None:
    """The trace context that a stored header carries.

    >>> traceparent_of(b"b7 a1 a1 1 a=2 w=00-0af7-b7ad-01")
    '00-0af7-b7ad-01'
    >>> traceparent_of(b"b7 a1 a1 1")
    """
    _, found, rest = header.partition(_TRACE)
    return rest.partition(b" ")[0].decode(errors="replace") if found else None


def with_traceparent(header: bytes, traceparent: str) -> bytes:
    """A stored header with a trace context added. Retries and replays keep it, as they keep every unknown word.

    >>> with_traceparent(b"b7 a1 a1 1", "00-0af7-b7ad-01")
    b'b7 a1 a1 1 w=00-0af7-b7ad-01'
    """
    return header + _TRACE + traceparent.encode()


LONGEST_ID_BYTES = 256


def one_word(text: str) -> str:
    """A user's message id as one word of a header: white space and unprintable characters are percent-encoded.

    Different ids stay different. Raises ValueError for text that cannot be an id.

    >>> one_word("order 42"), one_word("order_42"), one_word("50%")
    ('order%2042', 'order_42', '50%25')
    """
    if not text:
        raise ValueError("it is empty")
    try:
        # "-" means no message
        word = "%2D" if text == "-" else "".join(map(_escaped, text))
    except UnicodeEncodeError:
        raise ValueError("it contains a lone surrogate") from None
    if len(word.encode()) > LONGEST_ID_BYTES:
        raise ValueError(f"it is longer than {LONGEST_ID_BYTES} bytes")
    return word


def _escaped(char: str) -> str:
    return char if char.isprintable() and not char.isspace() and char != "%" else quote(char, safe="")


_OPTIONAL_WORDS = frozenset("acftgpelm")
_ONE_MORE = {b"%d" % hops: b"%d" % (hops + 1) for hops in range(100)}

MISSING = b" t="
"""Replaces the header of an entry that was deleted while it was pending. Its type tag keeps it off the fast path of
decoding."""

GARBLED = b" t=?"
"""Replaces a header that looks like flowq's but is malformed, so that nothing is known about its message."""


class Arrival(NamedTuple):
    """What deliveries that were read together share. Only deliveries of equal arrivals may be settled in one batch.

    `worker` is the consumer name that read them, and `epoch` how many reconnections came before.
    """

    edge: str
    worker: str
    epoch: int


Row = tuple[Arrival, bytes, bytes, bytes, dict[bytes, bytes] | None]
"""The fields of a delivery, as a read yields them: most messages need no more, and a plain tuple costs a fifth."""


class Delivery(NamedTuple):
    """One delivery of a message to this worker, with everything needed to settle it.

    Made from a row, `Delivery(*row)`, for what fails, waits, is paced or is inspected. `foreign` has all fields of an
    entry that flowq did not write.
    """

    arrival: Arrival
    entry_id: bytes
    header_bytes: bytes
    body: bytes
    foreign: dict[bytes, bytes] | None = None

    @property
    def edge(self) -> str:
        return self.arrival.edge

    @property
    def worker(self) -> str:
        return self.arrival.worker

    @property
    def header(self) -> Header:
        """The header, decoded. An entry added by another program has its entry id as message id."""
        try:
            return Header.decode(self.header_bytes)
        except ValueError:
            return Header.entering(f"{self.edge}:{self.entry_id.decode()}")

    @property
    def message_id(self) -> str:
        return self.header.message_id

    @property
    def content(self) -> bytes:
        """The body, decompressed if necessary. Raises DecodeError for an entry that holds no message."""
        if b" e=" in self.header_bytes:
            return unpacked(self.body, self.header.packing)
        if self.header_bytes == MISSING:
            raise DecodeError("the entry was deleted while it was pending")
        if self.header_bytes == GARBLED:
            raise NotAMessage("its header looks like flowq's, but was not written by any version of flowq")
        return self.body

    @property
    def appended_ms(self) -> int:
        """When Redis appended the entry, in milliseconds since 1970."""
        return entry_ms(self.entry_id)

    def header_for_letter(self, header: Header) -> bytes:
        """The header of its dead letter: the original one if flowq did not write it."""
        given = self.foreign.get(b"h") if self.foreign else None
        return header.encode() if given is None else given

    def age_seconds(self, now_seconds: float) -> float:
        """How long ago it was first appended to its edge; `now_seconds` since 1970."""
        return now_seconds - (self.header.first_ms or self.appended_ms) / 1000

    def retried(self, *, counted: bool) -> Header:
        """The header for the next attempt."""
        header = self.header
        return replace(
            header,
            attempt=header.attempt + 1 if counted else header.attempt,
            first_ms=header.first_ms or self.appended_ms,
            granted=False,
        )


def lineage_of(row: Row) -> bytes:
    """The words after the message id in the header of every message that is emitted while this delivery is handled."""
    try:  # nearly always, at a small part of the cost of a Header
        words = row[2].split(b" ", 4)  # whatever words follow: their number must not matter
        name, root = words[0], words[1]
        return b" ".join((name if root == b"-" else root, name, _ONE_MORE[words[3]]))
    except (IndexError, KeyError):
        header = Delivery(*row).header
        return f"{header.root_id} {header.message_id} {header.hops + 1}".encode()
