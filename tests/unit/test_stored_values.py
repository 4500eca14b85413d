"""Whatever is stored in Redis, each reader returns a bounded value or its own error: foreign data stops no worker.

READERS names every one. A function of the floors that meet stored bytes which parses some itself is found, and must be
added here, or say in SAFE why it meets nothing that others may have written.
"""

from __future__ import annotations

import ast
import contextlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowq.broker import records
from flowq.broker.flow_control.limiter import parse_hold
from flowq.broker.inspection.throughput_records import PeriodRecord
from flowq.broker.keys import is_edge
from flowq.broker.migration.recorded_plan import recorded_edge
from flowq.broker.shards.channel import Mark
from flowq.broker.workers import silent_seconds_in
from flowq.dead_letters.letter import DeadLetterRecord
from flowq.delivery import stored
from flowq.delivery.encoding.compression import unpacked
from flowq.delivery.failed_attempts import attempts_of, failures_of, stored_without_time
from flowq.delivery.fingerprint import fingerprint, frames_in
from flowq.delivery.history import deaths_of
from flowq.delivery.message import Delivery, Header, lineage_of, traceparent_of
from flowq.errors import DecodeError
from flowq.large_bodies.reference import Reference

FLOWQ = Path(__file__).parents[2] / "flowq"


def delivery_of(raw: bytes) -> Delivery:
    (delivery,) = records.deliveries_of(">a", [(b"1-1", [b"h", raw, b"b", b"{}"])], "w", 0)
    return delivery


def period_of(raw: bytes) -> list[bytes]:
    names = raw, b"at", b"@w", b"a 1", b"outstanding:a>b", b"counted_at"
    return [word for name in names for word in (name, raw)]


def everything_of(delivery: Delivery) -> object:
    again = Header.decode(delivery.retried(counted=True).encode())
    return (
        lineage_of(delivery),
        delivery.age_seconds(0.0),
        again,
        Header.decode(b"x " + lineage_of(delivery)),
        delivery.content,
    )


def letter_of(entry_id: bytes, **fields: bytes) -> object:
    flat = [value for name, text in fields.items() for value in (name.encode(), text)]
    letter = DeadLetterRecord.read("a", records.dead_entry(entry_id, flat))
    orjson.dumps(letter.as_json())
    return letter.fingerprint, letter.death, letter.deaths, letter.message


def traceback_of(raw: bytes) -> str:
    return stored.text_in(b'  File "f", line ' + raw + b", in f")


def past_of(raw: bytes) -> object:
    return deaths_of(replace(Header.entering("x"), past=urlsafe_b64encode(raw).decode()))


def failures_in(raw: bytes) -> object:
    word = urlsafe_b64encode(raw).decode()
    failures = failures_of(replace(Header.entering("x"), failures=f"{word}.{stored.text_in(raw)}", attempt=10**14))
    counts = records.failure_counts_in({"failure a b": stored.text_in(raw), "failure a c": f"1 2 3 {word}"}, "")
    return orjson.dumps([list(map(list, failures)), [each.count for each in counts["a"]]])


def times_in(raw: bytes) -> object:
    header = replace(Header.entering("x"), failed_at=f"1:{stored.text_in(raw)}.2:5", attempt=10**14)
    return orjson.dumps(list(map(list, attempts_of(header)))), stored_without_time(header, 3)


EXPORTED = dict.fromkeys(("stage", "id", "edge", "reason", "error", "error_type", "traceback", "worker", "run"), "x")
WHEN = "2026-11-28T00:00:00Z"


def exported(**changed: bytes) -> object:
    """A letter from the line of a file, some values of which are others."""
    values = {**EXPORTED, "header": "x - - 0", "first_at": WHEN, "died_at": WHEN, "body_base64": ""}
    values |= {name: stored.text_in(raw) for name, raw in changed.items()}
    letter = DeadLetterRecord.from_json(values)
    return orjson.dumps(letter.as_json()), letter.death


Reader = Callable[[bytes], object]
READERS: dict[str, tuple[Reader, tuple[type[Exception], ...]]] = {
    "delivery/message.py:decode": (lambda raw: Header.decode(raw).encode(), (ValueError,)),
    "delivery/message.py:lineage_of": (lambda raw: everything_of(delivery_of(raw)), (DecodeError,)),
    "delivery/history.py:deaths_of": (past_of, ()),
    "delivery/history.py:_death": (past_of, ()),
    "delivery/failed_attempts.py:failure_in": (failures_in, ()),
    "delivery/failed_attempts.py:_times_of": (times_in, ()),
    "delivery/claim.py:decode": (Reference.decode, (DecodeError,)),
    "delivery/encoding/compression.py:unpacked": (lambda raw: unpacked(raw, "zlib"), (DecodeError,)),
    "delivery/message.py:traceparent_of": (lambda raw: traceparent_of(b"x - - 0 w=" + raw), ()),
    "delivery/fingerprint.py:frames_in": (lambda raw: frames_in(traceback_of(raw)), ()),
    "delivery/fingerprint.py:last_frame": (lambda raw: fingerprint(stored.text_in(raw), traceback_of(raw)), ()),
    "delivery/stored.py:text_in": (stored.text_in, ()),
    "delivery/stored.py:name_in": (lambda raw: stored.as_stored(stored.name_in(raw)) == raw or 1 / 0, ()),
    "delivery/stored.py:number_in": (lambda raw: stored.number_in(stored.text_in(raw)), (ValueError,)),
    "delivery/stored.py:count_in": (stored.count_in, ()),
    "delivery/stored.py:moment_in": (stored.moment_in, ()),
    "delivery/stored.py:seconds_in": (lambda raw: stored.seconds_in(stored.text_in(raw)), ()),
    "delivery/stored.py:is_entry_id": (lambda raw: stored.is_entry_id(stored.text_in(raw)), ()),
    "delivery/stored.py:counts_in": (lambda raw: orjson.dumps(stored.counts_in(stored.json_object_in(raw))), ()),
    "broker/inspection/throughput_records.py:parse": (
        lambda raw: orjson.dumps(
            [[*(record := PeriodRecord.parse(period_of(raw))).in_handlers], record.counted_ms, record.outstanding]
        ),
        (),
    ),
    "delivery/stored.py:json_object_in": (stored.json_object_in, ()),
    "delivery/stored.py:text_of": (lambda raw: stored.text_of((stored.json_object_in(raw) or {}).get("x")), ()),
    "broker/records.py:worker_facts": (lambda raw: orjson.dumps(records.worker_facts(raw)), ()),
    "broker/records.py:counters_in": (lambda raw: records.counters_in([raw, raw]), ()),
    "broker/records.py:moments_by_name": (lambda raw: records.moments_by_name([raw, raw]), ()),
    "broker/records.py:texts_by_name": (lambda raw: records.texts_by_name([raw, raw]), ()),
    "broker/records.py:_words_of": (lambda raw: records.dead_entry(b"1-1", [records._FURTHER, raw]), ()),  # pyright: ignore[reportPrivateUsage]
    "broker/records.py:delayed_delivery": (
        lambda raw: everything_of(records.delayed_delivery(">a", raw)),
        (DecodeError,),
    ),
    "broker/migration/recorded_plan.py:recorded_edge": (recorded_edge, ()),
    "broker/shards/channel.py:parse": (Mark.parse, ()),
    "broker/keys.py:is_edge": (lambda raw: is_edge(stored.text_in(raw)), ()),
    "broker/flow_control/limiter.py:parse_hold": (parse_hold, ()),
    "broker/workers.py:silent_seconds_in": (lambda raw: silent_seconds_in(stored.text_in(raw)), ()),
    "dead_letters/letter.py:read": (lambda raw: letter_of(b"1-1", e=raw, h=raw, b=raw, x=raw), ()),
    "dead_letters/letter.py:_moment": (lambda raw: exported(died_at=raw), (ValueError,)),
    "dead_letters/letter.py:from_json": (lambda raw: exported(header=raw, edge=raw, body_base64=raw), (ValueError,)),
    "dead_letters/letter.py:json_or": (lambda raw: letter_of(b"1-1", b=raw), ()),
    "dead_letters/letter.py:body_in": (lambda raw: letter_of(b"1-1", b=raw, x=b"{}"), ()),
}

SAFE = {
    "broker/embedded/data_folder.py": "files of this user",
    "broker/embedded/aof_repair.py": "the log of this user's own server, which has numbers of up to ten digits",
    "broker/embedded/server.py": "what this user's own server says, with ValueError caught",
    "broker/inspection/health.py": "what a server says of itself",
    "broker/client/topology.py": "what a server says of itself",
    "broker/client/redis_url.py": "what the user has configured",
    "broker/client/url_options.py": "what the user has configured",
    "broker/settling.py": "writes",
    "durations.py": "what the user has written",
    "delivery/encoding/codec.py": "messages: any exception of pydantic becomes a DecodeError",
    "delivery/encoding/json_bytes.py": "messages, read by pydantic: see the codec",
    "broker/keys.py:_bands_from_the_first": "a number of flowq's own",
    "delivery/placement.py:_jump": "a number of flowq's own",
    "delivery/edge.py:parse_address": "an address that this process has written",
    "delivery/letter_ids.py:parse": "what the user has written, with ValueError",
    "dead_letters/condition.py": "what the user has written, and values of messages with errors caught",
    "monitoring/address.py": "what the user has written",
    "broker/migration/migrating.py:_sample": "an entry id",
    "broker/stored_bodies.py:_referred_to": "an entry id",
    "broker/stored_bodies.py:_last_ids": "an entry id",
    "broker/flow_control/backpressure.py:bound": "a number of flowq's own",
    "broker/paging.py:arrived": "a number of flowq's own",
    "broker/publishing.py:publish_together": "a flag of flowq's own",
    "broker/edges.py:ensure_groups": "a flag of flowq's own",
    "broker/runs.py:begin": "a flag of flowq's own",
    "broker/inspection/throughput.py:quantile": "a number of flowq's own",
    "broker/flow_control/limiter.py:reserve": "flags of flowq's own",
    "broker/flow_control/limiter.py:finish": "flags of flowq's own",
    "dead_letters/fitting.py:header_for": "the name of a type of the user's",
    "dead_letters/letter.py:body_as_json": "text that was encoded there",
    "dead_letters/letter.py:elsewhere_as_json": "any bytes become text",
    "dead_letters/letter.py:needs_body": "any bytes become text",
}
PARSERS = {"int", "float", "loads", "decode", "b64decode", "urlsafe_b64decode", "fromisoformat"}
OF_THE_CLOCK = {"TIME", "seconds", "microseconds", "cursor"}

REAL = [
    b"b7 a1 a1 1 a=2 c=1 f=1700000000000 t=Row g=1 p=W1sxLDIsIngiXV0= e=zlib w=00-0af7-b7ad-01 z=new",
    b"x - - 0",
    b"x - - 0\n{}",
    b"1700000000000-0",
    b"8 61.5",
    b"3000 2 w|>a|1-1 too many requests",
    b"ab/" + b"0" * 30 + b" 1048576",
    b"-12",
    b'{"worker":"w","host":"h","pid":7,"born":"1","where":"x","stages":["a"],"edges":[">a"],"lease_seconds":15.0}',
    b'{"accepts":["Row"],"schema":"0123","seen_ms":1700000000000}',
    b'{"reason":"rejected","error":"E: 1","traceback":"","attempts":2,"first_ms":1,"died_ms":2,"root_id":"x"}',
    b'[[1700000000000,5,"ValueError: no"]]',
    b'[1,2,"ValueError: no","pipelines/shop.py:31"]',
    b"[" * 3000,
    b'{"x":' * 3000,
]
ODD = [b"9" * 20, b"9" * 400, b"9" * 5000, b"1e400", b"-1", b"nan", b"inf", b"\xff", b"\x00", b"\n", b" ", "٣".encode()]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real value, of which some words or bytes are others."""
    raw = bytearray(draw(st.sampled_from(REAL)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 14))] = draw(st.sampled_from(ODD) | st.binary(max_size=4))
    return bytes(raw)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=60)
@given(raw=st.sampled_from(REAL) | mutated() | mutated() | st.binary(max_size=200) | st.sampled_from(ODD))
def test_a_reader_gives_a_value_or_its_own_error(name: str, raw: bytes) -> None:
    read, errors = READERS[name]
    with contextlib.suppress(errors):
        read(raw)


@given(st.binary(max_size=30), st.sampled_from([b"x", b"h", b"e", b"b"]), mutated())
def test_a_dead_letter_can_be_shown_whatever_its_id_and_fields_are(entry_id: bytes, field: bytes, raw: bytes) -> None:
    letter_of(entry_id, **{field.decode(): raw})


@given(mutated(), st.lists(st.binary(max_size=8), max_size=6))
def test_an_entry_of_any_fields_can_be_read(raw: bytes, words: list[bytes]) -> None:
    fields = [*words, *words, b"h", raw]
    (delivery,) = records.deliveries_of(">a", [(b"1-1", fields)], "w", 0)
    assert delivery.message_id
    assert Header.decode(b"y " + lineage_of(delivery)).root_id


def parsing(path: Path) -> Iterator[str]:
    """Name the functions of a module that turn bytes or text into values themselves."""
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            if not isinstance(node, ast.Call) or (not node.args and not isinstance(node.func, ast.Attribute)):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in PARSERS and not _is_harmless(node):
                yield f"{path.relative_to(FLOWQ).as_posix()}:{function.name}"


def _is_harmless(call: ast.Call) -> bool:
    """An entry id or a clock of Redis, one of flowq's own decoders, or text that was encoded here."""
    text = ast.unparse(call)
    made_here = any(
        word in text for word in ("entry_id", ".next()", ".encode(", "dumps(", "Header.decode", "Reference.decode")
    )
    return made_here or any(word in text for word in OF_THE_CLOCK)


def test_every_function_that_parses_what_is_stored_is_in_the_table() -> None:
    floors = [path for floor in ("delivery", "broker", "repair", "monitoring") for path in (FLOWQ / floor).glob("*.py")]
    found = {name for path in floors for name in parsing(path) if name.partition(":")[0] not in SAFE}

    assert found - READERS.keys() - SAFE.keys() == set()


def test_a_function_that_parses_for_itself_is_found(tmp_path: Path) -> None:
    module = FLOWQ / "broker" / "records.py"
    assert "broker/records.py:worker_facts" not in set(parsing(module))
    assert list(parsing(FLOWQ / "delivery" / "stored.py"))


@given(st.integers() | st.floats() | st.text() | st.none() | st.booleans() | st.lists(st.none()))
def test_a_moment_is_always_one_that_a_date_can_name(value: Any) -> None:
    assert 0 <= stored.moment_in(value) <= stored.LAST_MS
