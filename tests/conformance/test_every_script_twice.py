"""A reply may be lost: a script that is sent again changes nothing more and gives the same answer.

Each case calls one script as flowq does; then the recorded call is sent again. A script without a case fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest

from flowq.broker import scripts
from flowq.broker.client.connection import Dialer
from flowq.broker.keys import Keys
from flowq.broker.scripts import Script
from tests.conformance.conftest import Command
from tests.conformance.recorder import Recorder, keyspace
from tests.conformance.script_cases import CASES, Lab
from tests.conformance.worker import Worker

ALL = {value.name: value for value in vars(scripts).values() if isinstance(value, Script)}


def _timeless_browse(answer: Any) -> Any:
    _, *edges = answer  # without the time, and the idle time of running messages
    return [([row[:3] for row in running], waiting, delayed) for running, waiting, delayed in edges]


def _timeless_family(answer: Any) -> Any:
    where, n, *found = answer
    return [where, n, *(found[i : i + 3] for i in range(0, len(found), 4))]  # without since when it is running


def _without_what_was_new(answer: Any) -> Any:
    status, cursor, _, *outstanding = answer
    return status, cursor, outstanding


TIMELESS: dict[str, Callable[[Any], Any]] = {
    "browse": _timeless_browse,
    "letter_infos": lambda answer: answer[1:],  # without the time
    "find_family": _timeless_family,
    "slowest": lambda rows: [(*row[:3], *row[4:]) for row in rows],  # without the idle time
    "apply": _without_what_was_new,
    "publish_out": lambda answer: answer[:4],  # without what was put into outboxes: the forwarder finds it there
    "snapshot": lambda answer: [*answer[:3], *answer[4:]],  # without the time
}

TWICE: dict[str, Any] = {"publish_plain": [-2], "give": [-1], "join_run": 0}
"""What a script answers if it leaves repeated calls to another one, or finds nothing left to do."""


def _but_for_the_time_of_a_token(found: Mapping[bytes, Any], keys: Keys) -> Mapping[bytes, Any]:
    """A push that is sent again updates its token, so that WAIT covers it (`publish.lua`)."""
    published = {token: float(score) % 1 for token, score in found[keys.published.encode()].items()}
    return {**found, keys.published.encode(): published}


def test_every_script_has_a_case() -> None:
    assert CASES.keys() == ALL.keys()


@pytest.mark.parametrize("name", ALL)
async def test_sent_again_it_changes_nothing_and_answers_the_same(
    name: str, dialer: Dialer, keys: Keys, redis: Command
) -> None:
    recorder, script = Recorder(dialer), ALL[name]
    async with AsyncExitStack() as stack:
        worker, other = [await Worker.sign_on(recorder, keys, one) for one in ("first", "second")]
        for one in (worker, other):
            stack.push_async_callback(one.close)
        recorder.calls.clear()
        await CASES[name](Lab(worker, other, keys, redis))
    call, before = recorder.first(script), await keyspace(redis, keys)

    words, n_keys = call.command[3:], int(call.command[2])
    answer = await redis(*script.by_text(words[:n_keys], words[n_keys:]))

    timeless = TIMELESS.get(name, lambda answer: answer)
    assert timeless(answer) == TWICE.get(name, timeless(call.answer))
    after = await keyspace(redis, keys)
    if name in {"publish", "publish_out"}:
        before, after = (_but_for_the_time_of_a_token(found, keys) for found in (before, after))
    assert after == before
