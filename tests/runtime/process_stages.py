"""Stages for tests of the process pool: child processes import this module."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel

from flowq import Pipeline, Reject, Retry, RetryLater, stage


class Work(BaseModel):
    """What to do, and where to note that it was begun."""

    what: str
    n: int = 0
    notes: str = ""


class Done(BaseModel):
    n: int
    pid: int
    thread: str


class WithoutCopy(Exception):
    """Cannot travel between processes."""

    def __init__(self, lock: object) -> None:
        super().__init__("cannot be copied")
        self.lock = lock


class Gone(Reject):
    """A subclass whose constructor takes something else than what it hands on."""

    def __init__(self, url: str, *, lock: object) -> None:
        super().__init__(f"{url} is gone")
        self.url, self.lock = url, lock


class Unimportant(KeyError):
    """Not worth another try, and it cannot be copied."""

    def __init__(self) -> None:
        super().__init__("unimportant")
        self.lock = threading.Lock()


async def answer() -> int:
    await asyncio.sleep(0)
    return 42


def local_rejection() -> Reject:
    class Local(Reject):
        """Exists in this function alone."""

    return Local("local")


def gone() -> Gone:
    return Gone("https://example.org", lock=threading.Lock())


MEANT: dict[str, Callable[[], Exception]] = {
    "gone": gone,
    "local": local_rejection,
    "unimportant": Unimportant,
    "group": lambda: ExceptionGroup("unhandled", [gone()]),
}


def note(work: Work) -> None:
    """One line for each time that a handler was begun, whatever became of it."""
    if work.notes:
        with Path(work.notes).open("a") as notes:
            notes.write(f"{work.what} {work.n} {os.getpid()}\n")


@stage(process=True, concurrency=2, retry=Retry(attempts=2, base=0, max=0, give_up_on=Unimportant))
def heavy(work: Work) -> Iterator[Done]:  # noqa: C901  (each fate is a line)
    note(work)
    match work.what:
        case "fail":
            raise ValueError("no luck")
        case "reject":
            raise Reject("not wanted")
        case "gone" | "local" | "unimportant" | "group":
            error = MEANT[work.what]()
            raise error
        case "asyncio":
            assert asyncio.run(answer()) == 42
        case "later":
            raise RetryLater("busy", after=0.01)
        case "exit":
            raise SystemExit(3)
        case "stop iteration":
            raise StopIteration
        case "cannot travel":
            raise WithoutCopy(threading.Lock())
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "spin":
            until = time.monotonic() + 20
            while time.monotonic() < until:
                pass
        case "wait":
            time.sleep(20)
        case "nap":
            time.sleep(0.2)
        case _:
            pass
    yield Done(n=work.n, pid=os.getpid(), thread=threading.current_thread().name)


@stage
async def collect(done: Done) -> None:
    collected.append(done)


collected: list[Done] = []
PIPELINE = Pipeline("heavy", heavy >> collect)


class Words(BaseModel):
    text: str


@stage(process=True, claim_above=5000)
def count_words(words: Words) -> None:
    assert len(words.text.split()) == 10_000


claiming = Pipeline("claiming", count_words)


@stage(process=True, place="spread")
def double(number: int) -> int:
    return 2 * number


doubled: list[int] = []


@stage(dedup=str)
async def gather(number: int) -> None:
    doubled.append(number)


DOUBLING = Pipeline("doubling", double >> gather)
