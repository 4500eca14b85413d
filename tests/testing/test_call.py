"""One stage is called as a worker would call it, and returns what the next stage would get."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from flowq import (
    BatchFailed,
    Context,
    FlowqError,
    Pipeline,
    PipelineError,
    Reject,
    RetryLater,
    resource,
    source,
    stage,
    use,
)
from flowq.delivery.settlement import HandlerTimeout
from flowq.errors import EncodeError, NotFound, PayloadTooLarge, UsageError
from flowq.graph.declaration.context import Emitted
from flowq.testing import call, raises_reject, raises_retry


class Page(BaseModel):
    url: str
    words: tuple[str, ...] = ()


class Image(BaseModel):
    url: str


class Photo(Image):
    camera: str


@dataclass
class Word:
    text: str
    length: int


class Client:
    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.is_open = True


@resource
def settings() -> Iterator[str]:
    yield "from the settings"


OPENED: list[Client] = []


@resource
def client(settings: str = use(settings)) -> Iterator[Client]:
    opened = Client(settings)
    OPENED.append(opened)
    yield opened
    opened.is_open = False


@stage
async def fetch(page: Page, client: Client = use(client)) -> Image | None:
    return Image(url=client.answer) if page.words else None


@stage
def split(page: Page) -> Iterator[Word]:
    for word in page.words:
        yield Word(word, len(word))


@stage
async def store(word: Word) -> None:
    if not word.text:
        raise Reject("empty word")


# Outputs


async def test_a_stage_that_returns_one_value_or_none_returns_just_that() -> None:
    assert await call(fetch, Page(url="/", words=("a",))) == Image(url="from the settings")
    assert await call(fetch, Page(url="/")) is None
    assert await call(store, Word("a", 1)) is None


async def test_a_stage_that_may_return_many_returns_a_list_however_many_there_are() -> None:
    @stage
    async def listed(number: int) -> list[int]:
        return list(range(number))

    @stage
    async def streamed(number: int) -> AsyncIterator[int]:
        for each in range(number):
            yield each

    assert await call(split, Page(url="/", words=("one", "three"))) == [Word("one", 3), Word("three", 5)]
    for stage_ in (listed, streamed):
        assert await call(stage_, 2) == [0, 1]
        assert await call(stage_, 0) == []


async def test_a_batch_stage_is_called_once_with_all_its_messages() -> None:
    batches: list[list[int]] = []

    @stage(batch=3)
    async def add(numbers: list[int]) -> list[int]:
        batches.append(numbers)
        return [sum(numbers)]

    assert await call(add, 1, 2, 3) == [6]
    assert batches == [[1, 2, 3]]


async def test_subclasses_and_members_of_unions_arrive_as_themselves() -> None:
    @stage
    async def pick(image: Image | Page) -> Image | Page | int:
        return image if isinstance(image, Page) else Photo(url=image.url, camera="Leica")

    assert await call(pick, Page(url="/")) == Page(url="/")
    photo = await call(pick, Image(url="/a.jpg"))
    assert photo == Photo(url="/a.jpg", camera="Leica")


async def test_the_function_gets_a_copy_that_has_been_encoded_and_decoded() -> None:
    got: list[Page] = []

    @stage(inline=True)
    def keep(page: Page) -> Page:
        got.append(page)
        return page

    sent = Page(url="/")
    returned = await call(keep, sent)
    assert returned == got[0] == sent
    assert returned is not got[0]
    assert got[0] is not sent


async def test_bytes_stay_bytes() -> None:
    @stage
    async def reverse(body: bytes) -> bytes:
        return body[::-1]

    assert await call(reverse, b"\xff\x00") == b"\x00\xff"


# Types


async def test_a_message_that_the_stage_does_not_accept_is_refused() -> None:
    wrong: Any = "text"
    with pytest.raises(EncodeError, match="store accepts Word, not str"):
        await call(store, wrong)


async def test_an_output_that_the_annotation_does_not_declare_is_refused() -> None:
    @stage
    async def wrong(number: int) -> Word:
        return Page(url="/")  # type: ignore[return-value]

    with pytest.raises(EncodeError, match="wrong returned a Page, but declares Word"):
        await call(wrong, 1)


async def test_an_output_that_would_not_arrive_unchanged_is_refused() -> None:
    @stage
    async def wrong(number: int) -> Word:
        return Word(text="a", length="1")  # type: ignore[arg-type]

    with pytest.raises(EncodeError, match="length"):
        await call(wrong, 1)


async def test_a_message_above_the_limit_of_the_stage_is_refused() -> None:
    with pytest.raises(PayloadTooLarge):
        await call(store.options(max_bytes=100), Word("a" * 200, 200))


# Resources and context


async def test_resources_are_opened_and_closed_again() -> None:
    OPENED.clear()
    await call(fetch, Page(url="/"))
    assert [each.is_open for each in OPENED] == [False]


async def test_a_replaced_resource_is_not_opened_and_neither_is_what_it_requires() -> None:
    OPENED.clear()
    fake = Client("fake")
    assert await call(fetch, Page(url="/", words=("a",)), resources={client: fake}) == Image(url="fake")
    assert OPENED == []
    assert fake.is_open


async def test_a_resource_may_be_replaced_below_another() -> None:
    got = await call(fetch, Page(url="/", words=("a",)), resources={settings: "replaced"})
    assert got == Image(url="replaced")


async def test_the_function_sees_the_attempt() -> None:
    @stage
    async def third(number: int, ctx: Context) -> int:
        return ctx.attempt

    assert await call(third, 1) == 1
    assert await call(third, 1, attempt=3) == 3


async def test_what_is_emitted_is_collected_and_not_returned() -> None:
    @stage
    async def crawl(page: Page, ctx: Context) -> Word:
        await ctx.emit(store, Word("emitted", 7), delay="5m")
        return Word("returned", 8)

    pipeline = Pipeline("crawl", crawl, store)
    emitted: list[Emitted] = []
    assert await call(crawl, Page(url="/"), pipeline=pipeline, emitted=emitted) == Word("returned", 8)
    assert emitted == [Emitted("store", Word("emitted", 7), 300.0)]

    with pytest.raises(EncodeError, match='cannot emit to "store"') as raised:
        await call(crawl, Page(url="/"))
    assert any("pipeline=" in note for note in raised.value.__notes__)


async def test_what_a_stage_acknowledges_by_itself_is_returned_as_well() -> None:
    @stage(ack="manual")
    async def acknowledge(number: int, ctx: Context) -> int:
        await ctx.ack()
        return number

    assert await call(acknowledge, 4) == 4


async def test_a_stage_may_be_named_and_then_has_the_options_of_its_pipeline() -> None:
    pipeline = Pipeline("words", split >> store).tuned({"store": {"max_bytes": 100}})
    with pytest.raises(PayloadTooLarge):
        await call("store", Word("a" * 200, 200), pipeline=pipeline)


# Errors


async def test_the_functions_own_error_is_raised_as_it_is() -> None:
    error = KeyError("no such page")

    @stage
    def fail(number: int) -> int:
        raise error

    with pytest.raises(KeyError) as raised:
        await call(fail, 1)
    assert raised.value is error


async def test_a_failed_batch_is_not_called_again_in_halves() -> None:
    calls: list[int] = []

    @stage(batch=10)
    async def fail(numbers: list[int]) -> None:
        calls.append(len(numbers))
        raise BatchFailed({1: Reject("odd")})

    with pytest.raises(BatchFailed):
        await call(fail, 2, 3, 4)
    assert calls == [3]


async def test_a_function_that_is_too_slow_raises_what_a_worker_would_record() -> None:
    @stage(timeout=0.01)
    async def hang(number: int) -> None:
        await asyncio.Event().wait()

    with pytest.raises(HandlerTimeout, match=r"ran longer than 0\.01 s"):
        await call(hang, 1)


@pytest.mark.parametrize("n_messages", [0, 2])
async def test_a_stage_without_batches_takes_one_message(n_messages: int) -> None:
    with pytest.raises(UsageError, match=f"store takes one message in a call, not {n_messages}"):
        await call(store, *[Word("a", 1)] * n_messages)


async def test_a_batch_has_the_limit_of_its_stage() -> None:
    @stage(batch=2)
    async def add(numbers: list[int]) -> None: ...

    with pytest.raises(UsageError, match="add takes up to 2 messages"):
        await call(add, 1, 2, 3)


async def test_only_a_stage_can_be_called() -> None:
    @source
    def numbers() -> Iterator[int]:
        yield 1

    @stage
    def broken(number):  # type: ignore[no-untyped-def]
        ...

    refused: list[tuple[Any, type[FlowqError]]] = [
        (numbers, UsageError),
        (split >> store, UsageError),
        (print, UsageError),
        ("store", NotFound),
        (broken, PipelineError),
    ]
    for wrong, error in refused:
        with pytest.raises(error):
            await call(wrong, 1)


# Expected rejections and retries


async def test_a_rejection_is_expected_by_its_reason() -> None:
    with raises_reject("empty") as raised:
        await call(store, Word("", 0))
    assert raised.error.reason == "empty word"

    with pytest.raises(AssertionError, match="'empty word' does not match 'gone'"), raises_reject(match="gone"):
        await call(store, Word("", 0))


async def test_an_expected_rejection_that_does_not_come_fails() -> None:
    with pytest.raises(AssertionError, match="nothing was raised, where Reject was expected"), raises_reject():
        await call(store, Word("a", 1))


def test_another_error_passes() -> None:
    with pytest.raises(KeyError), raises_reject():
        raise KeyError
    with pytest.raises(Reject), raises_retry():
        raise Reject


@pytest.mark.parametrize("after", [30, 30.0, "30s", None])
@pytest.mark.parametrize("hold", ["host", None])
def test_a_retry_is_expected_by_its_delay_and_hold(after: float | str | None, hold: str | None) -> None:
    with raises_retry("thrott", after=after, hold=hold) as raised:
        raise RetryLater("throttled", after=30, hold="host")
    assert raised.error.after == 30


def test_a_retry_may_wait_for_a_time_that_was_calculated() -> None:
    with raises_retry(after="300ms"):
        raise RetryLater("throttled", after=0.1 + 0.2)


def test_a_retry_that_waits_or_holds_something_else_fails() -> None:
    later = RetryLater("throttled", after=30)
    with pytest.raises(AssertionError, match="waits 30 s, not 60 s"), raises_retry(after="1m"):
        raise later
    with pytest.raises(AssertionError, match="holds nothing, where 'host' was expected"), raises_retry(hold="host"):
        raise later
    with pytest.raises(AssertionError, match="RetryLater was expected"), raises_retry():
        pass


def test_a_group_of_errors_counts_as_the_one_that_decides() -> None:
    with raises_retry(after=5):
        raise ExceptionGroup("", [ConnectionError(), RetryLater(after=5)])
