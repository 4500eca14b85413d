"""A dead letter as its page shows it: values in, texts out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

import orjson

from flowq.dashboard.access.shown_fields import ShownFields, masked_text
from flowq.dashboard.pages.message_tree import MessageTree, message_tree
from flowq.dashboard.pages.times import Time, time_at
from flowq.dashboard.pages.traceback_lines import TracebackLine, traceback_lines
from flowq.dead_letters.letter import DeadLetterRecord
from flowq.delivery.fingerprint import frames_in
from flowq.delivery.stored import text_in
from flowq.printable import json_text, printable_block, spelled_out
from flowq.wording.quantities import counted, size

_LONGEST_TEXT = 64_000


@dataclass(frozen=True, slots=True)
class Attempt:
    """A failed attempt, or several alike. `is_last`: after it the message died."""

    text: str
    at: Time | None = None
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """What is shown of the message: a tree, or a text if it is not JSON. `why_not` says why nothing is."""

    about: str
    tree: MessageTree | None = None
    text: str = ""
    why_not: str = ""
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class LetterView:
    """The texts of one letter. `facts` have name, text, and the id of the message that they are about, or ""."""

    title: str
    place: str
    body: Body
    attempts: Sequence[Attempt]
    earlier: Sequence[Attempt]
    traceback: Sequence[TracebackLine]
    facts: Sequence[tuple[str, str, str]]


def letter_view(letter: DeadLetterRecord, accepts: str, shown: ShownFields, now: datetime) -> LetterView:
    """All that the page of a letter shows of it. `accepts` is the type that its stage accepts."""
    return LetterView(
        title=masked_text(letter.line)[:_LONGEST_TEXT],
        place=place_of(letter),
        body=_body(letter, accepts, shown),
        attempts=_attempts(letter, now),
        earlier=[
            Attempt(f"{counted(death.attempts, 'attempt')}: {masked_text(death.error)}", time_at(death.died_ms, now))
            for death in letter.deaths
        ],
        traceback=traceback_lines(letter.traceback),
        facts=[fact for fact in _facts(letter, now) if fact[1]],
    )


def whole_message(letter: DeadLetterRecord, shown: ShownFields) -> str:
    """The message without a limit, for a download; "" where it is not shown."""
    body = _body(letter, "", shown)
    if body.why_not:
        return ""
    if body.tree is None:
        return printable_block(masked_text(letter.body.decode("utf-8", "backslashreplace")))
    return json_text(shown.of(letter.message), indent=True)


def log_address(template: str, pipeline: str, letter: DeadLetterRecord) -> str:
    """Where the logs of a message are, if the settings say so; "" otherwise."""
    values = {"{pipeline}": pipeline, "{stage}": letter.stage, "{id}": letter.message_id}
    for name, value in values.items():
        template = template.replace(name, quote(spelled_out(value), safe=""))
    return template


def place_of(letter: DeadLetterRecord) -> str:
    """The line of the user's code, and its function, if the traceback shows it."""
    file, _, number = letter.place.rpartition(":")
    frames = [each for each in frames_in(letter.traceback) if each.file.endswith(file) and str(each.line) == number]
    return letter.place + (f" in {frames[-1].function}" if frames and letter.place else "")


def _body(letter: DeadLetterRecord, accepts: str, shown: ShownFields) -> Body:
    name = letter.header.type_tag or accepts
    about = f"{name}, {size(len(letter.body))}" if name else size(len(letter.body))
    if letter.is_elsewhere:
        return Body(about, why_not=f"It is in the claim store, which cannot be read here: {text_in(letter.body)}")
    if not letter.body:
        return Body(about, why_not="It has no body.")
    if shown.nothing:
        return Body(about, why_not="Messages are not shown: flowq dashboard was started without --show-bodies.")
    try:
        message = orjson.loads(letter.body)
    except orjson.JSONDecodeError:
        if not shown.everything:
            return Body(about, why_not="It is not JSON, and only selected fields of messages are shown.")
        text = letter.body[:_LONGEST_TEXT].decode("utf-8", "backslashreplace")
        is_cut = len(letter.body) > _LONGEST_TEXT
        return Body(f"{about}, not JSON", text=printable_block(masked_text(text)), is_cut=is_cut)
    tree = message_tree(shown.of(message))
    return Body(about, tree=tree, is_cut=tree.is_cut)


def _attempts(letter: DeadLetterRecord, now: datetime) -> list[Attempt]:
    """The known failed attempts since the message was last put back, and the last one."""
    found: list[Attempt] = []
    for failed in letter.each_attempt[:-1]:
        is_one = failed.first == failed.last
        which = f"attempt {failed.last}" if is_one else f"attempts {failed.first}–{failed.last}"
        error = masked_text(failed.error) or "error not kept"
        found.append(Attempt(f"{which}: {error}", None if failed.at_ms is None else time_at(failed.at_ms, now)))
    last = f"attempt {letter.attempts}: {masked_text(letter.line)}"
    died = letter.reason if letter.reason != letter.line else "died"
    return [*found, Attempt(f"{last[:_LONGEST_TEXT]} ({died})", time_at(letter.died_at, now), is_last=True)]


def _facts(letter: DeadLetterRecord, now: datetime) -> list[tuple[str, str, str]]:
    up = counted(letter.hops, "stage")
    return [
        ("message", letter.message_id, letter.message_id),
        ("parent", letter.parent_id, letter.parent_id),
        ("root", f"{letter.root_id}, {up} up" if letter.parent_id else "", letter.root_id),
        ("letter", letter.id, ""),
        ("edge", letter.edge, ""),
        ("reason", letter.reason, ""),
        ("first seen", time_at(letter.first_at, now).text, ""),
        ("died", time_at(letter.died_at, now).text, ""),
        ("worker", letter.worker, ""),
        ("run", letter.run, ""),
        ("kind", letter.fingerprint, ""),
        ("edited", "the message was changed after it died" if letter.is_edited else "", ""),
    ]
