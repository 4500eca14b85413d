"""A dead letter, decoded: what a person or a program reads."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from flowq.broker.records import DeadEntry
from flowq.delivery.encoding.compression import unpacked
from flowq.delivery.failed_attempts import Attempt, Failure, attempts_of, failures_of
from flowq.delivery.fingerprint import fingerprint
from flowq.delivery.history import Death, deaths_of
from flowq.delivery.message import Header, one_word
from flowq.delivery.stored import entry_ms, moment_in, text_of
from flowq.delivery.user_code import place_in_traceback
from flowq.errors import BodyElsewhere, DecodeError
from flowq.large_bodies.reference import is_in_the_store

_NO_JSON = object()


@dataclass(frozen=True, slots=True)
class DeadLetterRecord:
    """A dead letter, decoded. Everything in it may come from outside: escape it before it reaches a screen.

    `id` is its entry among the dead letters of its stage; `message_id` stays the same over retries and replays. `edge`
    is where it came from. `reason` is one of flowq's own ("attempts exhausted", "rejected", ...), `error` the first
    line of the exception with its type, `place` the deepest line of the user's own code that it passed through, such as
    "pipelines/shop.py:31". `first_at` and `died_at` are when the message was first appended to its edge
    and when it died, in UTC. `hops` counts the stages between it and `root_id`, the message that entered the pipeline.
    `deaths` are its earlier deaths, the oldest first.
    `is_edited`: its body has been changed since it died. `is_elsewhere`: its body is in the claim store and could
    not be read there; `body` is then the reference to it.
    """

    stage: str
    id: str
    message_id: str
    edge: str
    reason: str
    error: str
    error_type: str
    traceback: str
    attempts: int
    first_at: datetime
    died_at: datetime
    root_id: str
    parent_id: str
    hops: int
    worker: str
    run: str
    body: bytes
    is_edited: bool = False
    is_elsewhere: bool = False
    place: str = ""
    header: Header = field(default_factory=lambda: Header.entering("-"), compare=False)

    @classmethod
    def read(cls, stage: str, entry: DeadEntry) -> DeadLetterRecord:
        """The letter in an entry, which any program may have written."""
        try:
            header = Header.decode(entry.header)
        except ValueError:  # another program's entry, with the id that it had in this pipeline, if any
            header = Header.entering(_id_of(text_of(entry.info.get("root_id")), f"{stage}:{entry.entry_id}"))
        info = entry.info
        died_ms = moment_in(info["died_ms"]) if "died_ms" in info else entry_ms(entry.entry_id)
        return cls(
            stage=stage,
            id=entry.entry_id,
            message_id=header.message_id,
            edge=entry.edge,
            reason=text_of(info.get("reason")),
            error=text_of(info.get("error")),
            error_type=text_of(info.get("error_type")),
            traceback=text_of(info.get("traceback")),
            attempts=header.attempt,
            first_at=_utc(moment_in(header.first_ms or info.get("first_ms", died_ms))),
            died_at=_utc(died_ms),
            root_id=header.root_id,
            parent_id="" if header.parent_id == "-" else header.parent_id,
            hops=header.hops,
            worker=text_of(info.get("worker")),
            run=text_of(info.get("run")),
            body=_content(header, entry),
            is_edited=entry.is_edited,
            is_elsewhere=bool(entry.body) and not entry.is_edited and entry.content is None and is_in_the_store(header),
            place=text_of(info.get("place")) or str(place_in_traceback(text_of(info.get("traceback"))) or ""),
            header=header,
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DeadLetterRecord:
        """The letter that `as_json` returned. Raises ValueError for anything else."""
        header = Header.decode(_text(values, "header").encode())
        return cls(
            stage=_text(values, "stage"),
            id=_text(values, "id"),
            message_id=header.message_id,
            edge=_text(values, "edge"),
            reason=_text(values, "reason"),
            error=_text(values, "error"),
            error_type=_text(values, "error_type"),
            traceback=_text(values, "traceback"),
            attempts=header.attempt,
            first_at=_moment(values, "first_at"),
            died_at=_moment(values, "died_at"),
            root_id=header.root_id,
            parent_id="" if header.parent_id == "-" else header.parent_id,
            hops=header.hops,
            worker=_text(values, "worker"),
            run=_text(values, "run"),
            body=body_in(values),
            place=text_of(values.get("place")),
            header=header,
        )

    @property
    def line(self) -> str:
        """What lists show and `error=` filters: the error, or the reason if nothing was raised."""
        return self.error or self.reason

    @property
    def fingerprint(self) -> str:
        """The name of this kind of failure."""
        return fingerprint(self.line, self.traceback)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Its earlier failed attempts, the oldest first: the last three kinds of errors, as far as they are known."""
        return failures_of(self.header)

    @property
    def each_attempt(self) -> tuple[Attempt, ...]:
        """Its failed attempts and their times, as far as they are known; the last one is the one it died of."""
        died = Attempt(self.attempts, self.attempts, self.line, self.place, self.death.died_ms)
        return (*attempts_of(self.header), died)

    @property
    def deaths(self) -> tuple[Death, ...]:
        return deaths_of(self.header)

    @property
    def death(self) -> Death:
        """This death, as it is added to the history of the message when it is put back."""
        return Death(round(self.died_at.timestamp() * 1000), self.attempts, self.line)

    @property
    def plain_header(self) -> Header:
        """The header for `body`, which is not compressed, however it is stored."""
        return replace(self.header, packing="")

    @property
    def message(self) -> Any:
        """The body as a JSON value; None when it is not JSON."""
        return json_or(None, self.body)

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON. A body that is not JSON itself is in `body_base64` instead of `message`.

        For one that is in the claim store and cannot be read, the reference is in `body_in_claim_store`.
        """
        values = {
            **asdict(self),
            "first_at": iso(self.first_at),
            "died_at": iso(self.died_at),
            "fingerprint": self.fingerprint,
            "failures": [failure._asdict() for failure in self.failures],
            "each_attempt": [attempt._asdict() for attempt in self.each_attempt],
            "deaths": [
                {"died_at": iso(_utc(death.died_ms)), "attempts": death.attempts, "error": death.error}
                for death in self.deaths
            ],
            "header": self.plain_header.encode().decode(),
        }
        del values["body"]
        if not values.pop("is_elsewhere"):
            return {**values, **body_as_json(self.body)}
        return {**values, **elsewhere_as_json(self.body)}

    def needs_body(self) -> None:
        """Raise BodyElsewhere if the body is not here."""
        if self.is_elsewhere:
            raise BodyElsewhere(
                f"letter {self.id}: the body is in the claim store and cannot be read from there; nothing was changed",
                hint="set claim_store, or FLOWQ_CLAIM_STORE, to the store that the workers share",
                detail=self.body.decode("utf-8", "backslashreplace"),
            )


@dataclass(frozen=True, slots=True)
class DeadLetterGroup:
    """Dead letters of one stage with the same fingerprint. `error` and `place` are those of the first of them.

    `position` is that of the first one in the list, from 1.
    """

    stage: str
    fingerprint: str
    error: str
    error_type: str
    count: int
    first_died_at: datetime
    last_died_at: datetime
    position: int
    place: str = ""

    def as_json(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        first, last = iso(self.first_died_at), iso(self.last_died_at)
        return {**asdict(self), "first_died_at": first, "last_died_at": last}


def iso(moment: datetime) -> str:
    """A time in UTC as it is written in JSON."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def json_or(otherwise: Any, body: bytes) -> Any:
    """The JSON value in some bytes, or `otherwise` if there is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return otherwise


def body_as_json(body: bytes) -> dict[str, Any]:
    """A body under `message`, or under `body_base64` if it is not JSON."""
    message = json_or(_NO_JSON, body)
    return {"body_base64": b64encode(body).decode()} if message is _NO_JSON else {"message": message}


def elsewhere_as_json(reference: bytes) -> dict[str, Any]:
    """The same for a body in the claim store that cannot be read here."""
    return {"body_in_claim_store": reference.decode("utf-8", "backslashreplace")}


def body_in(values: Mapping[str, Any]) -> bytes:
    """The body in the JSON of a letter. Raises ValueError if there is none."""
    if "message" in values:
        return orjson.dumps(values["message"])
    return b64decode(_text(values, "body_base64"), validate=True)


def is_same_json(one: bytes, other: bytes) -> bool:
    """Whether two bodies are equal as JSON, apart from spaces and the order of fields."""
    first = json_or(_NO_JSON, one)
    return one == other if first is _NO_JSON else first == json_or(_NO_JSON, other)


def content_of(header: Header, body: bytes) -> bytes:
    """A body as its stage would get it; as stored if that is not possible."""
    try:
        return unpacked(body, header.packing) if body and header.packing else body
    except DecodeError:
        return body


def _content(header: Header, entry: DeadEntry) -> bytes:
    """The body of a letter, the new one if it was edited."""
    body = entry.body or b""
    if entry.content is not None:
        return entry.content
    return body if entry.is_edited else content_of(header, body)


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str):
        raise ValueError(f'"{name}" is missing or not text')
    return value


def _moment(values: Mapping[str, Any], name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(_text(values, name))
        if moment.timestamp() >= 0 and moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f'"{name}" is not an ISO 8601 time since 1970 with a time zone')


def _utc(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _id_of(text: str, otherwise: str) -> str:
    """The message id in another program's letter, in a form that fits into a header."""
    if text.split() == [text]:
        return text
    try:
        return one_word(text)
    except ValueError:
        return one_word(otherwise)
