"""What a pipeline was fed and what came of it is written to a file, and compared with what comes of it later."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from flowq import Context, Pipeline, Reject, resource, stage, use
from flowq.dead_letters.letter import DeadLetterRecord
from flowq.delivery.message import Header
from flowq.errors import NotFound, UsageError
from flowq.testing import Harness, NeverCompared, NotAsRecorded, harness, replay
from flowq.testing.recording.masking import Masking


class Order(BaseModel):
    number: int
    customer: str = "Ada"
    token: str = "s3cret"


class Line(BaseModel):
    order: int
    token: str


class Note(BaseModel):
    text: str


class Mail(BaseModel):
    number: int = Field(gt=0)


@stage
async def split(order: Order, ctx: Context) -> list[Line]:
    if order.number < 0:
        raise Reject(f"number {order.number}")
    await ctx.emit(notify, Note(text=f"order {order.number}"))
    return [Line(order=order.number, token=order.token)] * (order.number % 3)


@stage
async def store(line: Line) -> None: ...


@stage
async def notify(note: Note) -> None: ...


PIPELINE = Pipeline("orders", split >> store, notify)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "orders.ndjson"


def text_of(file: Path) -> str:
    return file.read_text()


def put(file: Path, content: str | bytes) -> None:
    file.write_bytes(content.encode() if isinstance(content, str) else content)


async def record(file: Path, *orders: Order, pipeline: Pipeline = PIPELINE, **options: Any) -> list[dict[str, Any]]:
    mask = options.pop("mask", ())
    async with harness(pipeline, **options) as h:
        h.record(file, mask=mask)
        await h.feed("split", *orders)
    return [json.loads(line) for line in text_of(file).removesuffix("\n").split("\n")]


# The file


async def test_a_recording_holds_what_was_fed_and_what_each_stage_has_made_of_it(file: Path) -> None:
    head, *lines = await record(file, Order(number=1, token="t"), Order(number=-1, token="t"))

    first, second = [{"number": n, "customer": "Ada", "token": "t"} for n in (1, -1)]
    line, note = {"order": 1, "token": "t"}, {"text": "order 1"}
    assert head == {"recording": 1, "seed": 0, "mask": []}
    assert lines == [
        {"fed": "split", "message": first},
        {"fed": "split", "message": second},
        {"stage": "split", "message": second, "died": "Reject: number -1"},
        {"stage": "split", "message": first, "returned": [{"message": note}, {"message": line}]},
        {"stage": "store", "message": line, "returned": []},
        {"stage": "notify", "message": note, "returned": []},
    ]


async def test_a_recording_does_not_depend_on_the_seed(file: Path) -> None:
    recorded = [await record(file, *[Order(number=n) for n in range(20)], seed=seed, workers=2) for seed in (1, 2, 3)]
    assert [head["seed"] for head, *_ in recorded] == [1, 2, 3]
    assert sorted(map(str, recorded[0][1:])) == sorted(map(str, recorded[1][1:])) == sorted(map(str, recorded[2][1:]))


async def test_a_test_that_fails_writes_nothing(file: Path) -> None:
    @asynccontextmanager
    async def recorded() -> AsyncIterator[Harness]:
        async with harness(PIPELINE) as h:
            h.record(file)
            await h.feed(split, Order(number=1))
            yield h

    with pytest.raises(ZeroDivisionError):
        async with recorded():
            raise ZeroDivisionError
    with pytest.raises(NeverCompared):
        async with recorded() as h:
            h.expect(store)
    assert list(file.parent.iterdir()) == []


async def test_text_with_line_separators_of_unicode_stays_in_its_line(file: Path) -> None:
    await record(file, Order(number=1, customer="Ada\u2028Lovelace\x85\u2029"))

    await replay(file, PIPELINE)


async def test_what_cannot_be_encoded_is_left_out(file: Path) -> None:
    @stage
    async def last(number: int) -> Any:
        return object()

    async with harness(Pipeline("p", last)) as h:
        h.record(file)
        await h.feed(last, 1)

    assert text_of(file).splitlines()[-1] == '{"stage": "last", "message": 1, "returned": []}'


async def test_a_file_that_is_no_text_is_refused(file: Path) -> None:
    put(file, b"\xff\xfe")
    with pytest.raises(UsageError, match=r"orders.ndjson is not text in UTF-8"):
        await replay(file, PIPELINE)


async def test_bytes_and_members_of_unions_come_back_as_they_were(file: Path) -> None:
    @stage
    async def measure(value: bytes | Order | int) -> int | str:
        return len(value) if isinstance(value, bytes) else "order" if isinstance(value, Order) else value

    pipeline = Pipeline("values", measure)
    async with harness(pipeline) as h:
        h.record(file)
        await h.feed(measure, b'{"a": \xff', b"12", Order(number=3), 12)
    await replay(file, pipeline)
    assert [json.loads(line).get("type") for line in text_of(file).splitlines()[1:5]] == [
        "bytes",
        "bytes",
        "Order",
        "int",
    ]


# Secrets


def test_fields_are_masked_by_name_at_any_depth_and_by_path_from_the_message_down() -> None:
    message = {"a": {"key": "x", "deep": {"key": 1}}, "key": 2.5, "list": [{"key": True}, {"other": ["x"]}], "n": None}

    def masked(*patterns: str) -> Any:
        return Masking(patterns).masked(message)

    assert masked("k*") == {
        "a": {"key": "***", "deep": {"key": 0}}, "key": 0.0, "list": [{"key": False}, {"other": ["x"]}], "n": None,
    }  # fmt: skip
    assert masked("a.key")["a"] == {"key": "***", "deep": {"key": 1}}
    assert masked("a.**.key")["a"] == {"key": "***", "deep": {"key": 0}}
    assert masked("*.*.key")["a"] == {"key": "x", "deep": {"key": 0}}
    assert masked("list.other")["list"] == [{"key": True}, {"other": []}]
    assert masked("a") == {**message, "a": {}}
    assert masked("b", "a.k", "n") == message


async def test_a_masked_secret_reaches_no_line_of_the_file(file: Path) -> None:
    lines = await record(file, Order(number=1), Order(number=2), mask=["token"])

    assert "s3cret" not in text_of(file)
    assert lines[0]["mask"] == ["token"]
    await replay(file, PIPELINE)


async def test_a_mask_after_which_a_stage_cannot_read_its_message_is_refused() -> None:
    @stage
    async def send(mail: Mail) -> None: ...

    async with harness(Pipeline("mail", send)) as h:
        await h.feed(send, Mail(number=5))
        await h.drain()
        with pytest.raises(UsageError, match="a masked message does not fit send: number"):
            h.recording(mask=["number"])


# Replaying


def changed(change: Any) -> Pipeline:
    """The same pipeline, its first stage changed."""

    @stage(name="split")
    async def other(order: Order, ctx: Context) -> list[Line]:
        if order.number < 0:
            raise Reject(f"number {order.number}")
        await ctx.emit(notify, Note(text=f"order {order.number}"))
        return [Line(order=change(order.number), token=order.token)] * (order.number % 3)

    return Pipeline("orders", other >> store, notify)


async def test_a_pipeline_that_does_the_same_passes_whatever_the_seed(file: Path) -> None:
    await record(file, *[Order(number=n) for n in range(-2, 10)])
    for seed in (None, 1, 2):
        await replay(file, PIPELINE, **({} if seed is None else {"seed": seed, "workers": 2}))


async def test_a_pipeline_that_does_something_else_fails_with_the_lines_that_differ(file: Path) -> None:
    await record(file, Order(number=1, token="t"), Order(number=3, token="t"))
    with pytest.raises(NotAsRecorded) as raised:
        await replay(file, changed(lambda number: number + 10))

    shown = str(raised.value)
    assert '-{"stage": "store", "message": {"order": 1, "token": "t"}, "returned": []}' in shown
    assert '+{"stage": "store", "message": {"order": 11, "token": "t"}, "returned": []}' in shown
    assert "order 3" not in shown


async def test_an_update_writes_what_the_pipeline_does_now(file: Path) -> None:
    await record(file, Order(number=1), mask=["token"])
    pipeline = changed(lambda number: number + 10)
    await replay(file, pipeline, update=True)

    await replay(file, pipeline)
    assert '"order": 11' in text_of(file)
    with pytest.raises(NotAsRecorded):
        await replay(file, PIPELINE)


async def test_batches_are_compared_message_by_message_however_they_were_formed(file: Path) -> None:
    @stage(batch=4)
    async def double(numbers: list[int]) -> list[int]:
        return [2 * number for number in numbers]

    @stage(batch=3)
    async def show(numbers: list[int]) -> None: ...

    pipeline = Pipeline("numbers", double >> show)
    async with harness(pipeline) as h:
        h.record(file)
        await h.feed(double, *range(10))
    await replay(file, pipeline, workers=3, seed=4)
    assert text_of(file).count('"returned"') == 10


async def test_resources_are_replaced_in_a_replay_as_well(file: Path) -> None:
    @resource
    def factor() -> int:
        raise AssertionError("not in a test")

    @stage
    async def scale(number: int, factor: int = use(factor)) -> int:
        return factor * number

    pipeline = Pipeline("numbers", scale)
    async with harness(pipeline, resources={factor: 2}) as h:
        h.record(file)
        await h.feed(scale, 4)
    await replay(file, pipeline, resources={factor: 2})
    with pytest.raises(NotAsRecorded):
        await replay(file, pipeline, resources={factor: 3})


async def test_a_stage_that_is_gone_or_accepts_something_else_is_named(file: Path) -> None:
    await record(file, Order(number=1))

    with pytest.raises(NotFound, match='has no stage "split"'):
        await replay(file, Pipeline("orders", store))

    @stage(name="split")
    async def other(note: Note) -> None: ...

    with pytest.raises(UsageError, match="split does not accept message 1 of the file: text: Field required"):
        await replay(file, Pipeline("orders", other))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("", "is empty"),
        ("{", "line 1 is not JSON"),
        ("[]", "line 1 is not a JSON object"),
        ('{"recording": 2}', "another version"),
        ('{"stage": "split", "id": "1-0"}', "line 1 is no dead letter"),
        ('{"id": "1-0", "message": 1}', "line 1 is no dead letter"),
        ('{"recording": 1}\n{"fed": "split"}', "split does not accept message 1 of the file: KeyError"),
    ],
)
async def test_a_file_that_is_no_recording_is_refused(file: Path, content: str, error: str) -> None:
    put(file, content)
    with pytest.raises(UsageError, match=error):
        await replay(file, PIPELINE)


async def test_a_missing_file_is_named(file: Path) -> None:
    with pytest.raises(UsageError, match=r"orders.ndjson cannot be read: No such file"):
        await replay(file, PIPELINE)


# Dead letters


def exported(*orders: Order) -> str:
    """What `flowq dlq export` writes for letters of these orders."""
    now = datetime(2030, 1, 1, tzinfo=UTC)
    letters = [
        DeadLetterRecord(
            stage="split", id=f"{number}-0", message_id=f"m{number}", edge=">split", reason="rejected",
            error="Reject: no", error_type="Reject", traceback="", attempts=1, first_at=now, died_at=now,
            root_id=f"m{number}", parent_id="", hops=0, worker="w", run="r", body=order.model_dump_json().encode(),
            header=Header.entering(f"m{number}"),
        )
        for number, order in enumerate(orders)
    ]  # fmt: skip
    return "".join(json.dumps(letter.as_json()) + "\n" for letter in letters)


async def test_exported_dead_letters_are_fed_to_the_stage_they_died_in(file: Path) -> None:
    put(file, exported(Order(number=1), Order(number=2)))
    handled: list[int] = []

    @stage(name="split")
    async def fixed(order: Order) -> None:
        handled.append(order.number)

    await replay(file, Pipeline("orders", fixed))
    assert sorted(handled) == [1, 2]


async def test_dead_letters_that_die_again_are_named_with_their_errors(file: Path) -> None:
    put(file, exported(Order(number=1), Order(number=-5)))
    with pytest.raises(NotAsRecorded, match=r"1 dead letter after the replay\n *split: Reject: number -5"):
        await replay(file, PIPELINE)


async def test_dead_letters_fixed_by_hand_need_no_more_than_stage_id_and_message(file: Path) -> None:
    put(file, '{"stage": "split", "id": "1-0", "message": {"number": 2}}\n')
    await replay(file, PIPELINE)


async def test_dead_letters_are_not_updated(file: Path) -> None:
    put(file, exported(Order(number=1)))
    with pytest.raises(UsageError, match="has dead letters, which are not updated"):
        await replay(file, PIPELINE, update=True)
