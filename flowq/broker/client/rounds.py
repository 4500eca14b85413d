"""Readings whose later questions depend on earlier answers of Redis, made in as few calls as possible.

A reading is a generator: it yields what to ask next, and is sent the replies. Several at once take no more calls than
the longest of them alone.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.exceptions import NoScriptError

from flowq.broker.client.connection import Command, Link
from flowq.broker.client.retrying import CALL_TIMEOUT_SECONDS, check_answer
from flowq.broker.scripts import Script

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ScriptCall:
    """A script that may run twice, with its keys and arguments."""

    script: Script
    keys: Sequence[Any]
    arguments: Sequence[Any] = ()


Question = Command | ScriptCall
Rounds = Generator[Sequence[Question], Sequence[Any], T]


def together(*readings: Rounds[Any]) -> Rounds[list[Any]]:
    """Several readings in one: the questions of each round go out together. Returns their results in order."""
    results: list[Any] = [None] * len(readings)
    asked: dict[int, Sequence[Question]] = {}
    replies: dict[int, Sequence[Any] | None] = dict.fromkeys(range(len(readings)))
    while replies:
        asked = {}
        for number, answer in replies.items():
            try:
                asked[number] = readings[number].send(answer)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            except StopIteration as ended:
                results[number] = ended.value
        found = iter((yield [question for questions in asked.values() for question in questions]) if asked else ())
        replies = {number: [next(found) for _ in questions] for number, questions in asked.items()}
    return results


async def answered(reading: Rounds[T], link: Link, address: str) -> T:
    """The result of a reading. It is sent an exception for a command that Redis refuses.

    Raises BrokerUnavailable and BrokerRefused as `run_script` does.
    """
    try:
        questions = next(reading)
        while True:
            replies = await link.call_all(list(map(_by_digest, questions)), timeout_seconds=CALL_TIMEOUT_SECONDS)
            calls = {n: each for n, each in enumerate(questions) if isinstance(each, ScriptCall)}
            unknown = [n for n in calls if isinstance(replies[n], NoScriptError)]
            if unknown:
                by_text = [calls[n].script.by_text(calls[n].keys, calls[n].arguments) for n in unknown]
                for n, reply in zip(
                    unknown, await link.call_all(by_text, timeout_seconds=CALL_TIMEOUT_SECONDS), strict=True
                ):
                    replies[n] = reply
            for n, call in calls.items():
                await check_answer(link, call.script, replies[n], address)
            questions = reading.send(replies)
    except StopIteration as ended:
        result: T = ended.value
        return result


def _by_digest(question: Question) -> Command:
    if isinstance(question, ScriptCall):
        return question.script.by_digest(question.keys, question.arguments)
    return question
