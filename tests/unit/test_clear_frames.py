"""Objects that a failed handler held are freed, and no other code is affected."""

from __future__ import annotations

import asyncio
import gc
import traceback
import weakref
from collections.abc import Callable, Iterator

import pytest

from flowq.runtime.handlers.frames import clear_frames


class Held:
    """Stands for a large message."""


References = list["weakref.ref[Held]"]


def in_a_chain(references: References) -> None:
    held = Held()
    references.append(weakref.ref(held))
    try:
        raise KeyError("first")
    except KeyError as error:
        first = error
    raise RuntimeError("second") from first


def in_a_context(references: References) -> None:
    held = Held()
    references.append(weakref.ref(held))
    try:
        raise KeyError("first")
    except KeyError as error:
        first = error  # noqa: F841  (the cycle)
        raise RuntimeError("second") from None


def in_a_list(references: References) -> None:
    held, errors = Held(), list[Exception]()
    references.append(weakref.ref(held))
    try:
        raise KeyError("first")
    except KeyError as error:
        errors.append(error)
    raise RuntimeError("second")


def in_a_group(references: References) -> None:
    held, errors = Held(), list[Exception]()
    references.append(weakref.ref(held))
    try:
        in_a_chain(references)
    except RuntimeError as error:
        errors.append(error)
    raise ExceptionGroup("all", errors)


def in_a_ring(references: References) -> None:
    held = Held()
    references.append(weakref.ref(held))
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    raise first


def in_a_generator(references: References) -> None:
    def values() -> Iterator[int]:
        held = Held()
        references.append(weakref.ref(held))
        try:
            raise KeyError("first")
        except KeyError as error:
            first = error
        yield 1
        raise RuntimeError("second") from first

    list(values())


def in_a_coroutine(references: References) -> None:
    async def work() -> None:
        held = Held()
        references.append(weakref.ref(held))
        await asyncio.sleep(0)
        in_a_chain(references)

    asyncio.new_event_loop().run_until_complete(work())


def failure_of(handler: Callable[[References], None], references: References) -> BaseException:
    try:
        handler(references)
    except (RuntimeError, ExceptionGroup, ValueError) as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    "handler", [in_a_chain, in_a_context, in_a_list, in_a_group, in_a_ring, in_a_generator, in_a_coroutine]
)
@pytest.mark.filterwarnings("ignore:unclosed event loop")
def test_what_was_held_in_a_cycle_of_errors_is_free_without_collector(handler: Callable[[References], None]) -> None:
    references: References = []
    gc.collect()
    gc.disable()
    try:
        error = failure_of(handler, references)
        before = traceback.format_exception(error)
        clear_frames(error)

        assert references
        assert [reference() for reference in references] == [None] * len(references)
        assert traceback.format_exception(error) == before
    finally:
        gc.enable()
        gc.collect()


async def test_a_coroutine_that_has_caught_the_same_error_continues() -> None:
    shared, go_on = ValueError("shared by many"), asyncio.Event()

    async def other() -> str:
        kept = "kept"
        try:
            raise shared
        except ValueError:
            await go_on.wait()
        return kept

    waiting = asyncio.create_task(other())
    await asyncio.sleep(0)
    try:
        raise shared
    except ValueError as error:
        clear_frames(error)
    go_on.set()

    assert await waiting == "kept"


def test_a_generator_that_has_caught_the_same_error_continues() -> None:
    shared = ValueError("shared by many")

    def values() -> Iterator[int]:
        try:
            raise shared
        except ValueError:
            yield 1
        yield 2

    waiting = values()
    assert next(waiting) == 1
    clear_frames(shared)

    assert next(waiting) == 2


def test_a_chain_of_ten_thousand_errors_is_walked() -> None:
    error = ValueError(0)
    for n in range(10_000):
        following = ValueError(n)
        following.__cause__ = error
        error = following

    clear_frames(error)
