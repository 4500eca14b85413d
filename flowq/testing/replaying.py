"""Feeds a recording to a pipeline again, and compares what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import unified_diff
from pathlib import Path
from typing import Any

from flowq.errors import CodecError, UsageError
from flowq.graph.pipeline import Pipeline
from flowq.printable import printable
from flowq.testing.alone.lone_stage import LoneStage
from flowq.testing.pipeline_harness import Harness, harness
from flowq.testing.recording.recording_file import Record, Recording, written_in
from flowq.testing.verdicts import Verdict
from flowq.wording.quantities import counted

__tracebackhide__ = True  # pytest shows the line of the test

_MOST_LINES = 60


class NotAsRecorded(Verdict):
    """A pipeline makes something else of recorded messages than it did, or dead letters die again."""

    code = "FQ606"


async def replay(file: str | Path, pipeline: Pipeline, *, update: bool = False, **options: Any) -> None:
    """Feed what was recorded to a pipeline again, and compare what its stages make of it.

    Compares, for each stage, the messages it handled with what it returned for each of them, and its dead letters with
    their errors. Order does not matter. Secrets are masked as in the file, on both sides.

    With a file of `flowq dlq export`, each letter is fed to the stage that it died in, and must be handled this time,
    as must everything that comes of it.

    file: written by `h.record(file)`, or by `flowq dlq export`.
    pipeline: the pipeline, as it is now.
    update: write the file anew instead of comparing, when the pipeline is meant to do something else than it did.
    options: those of `harness`, such as `resources`; the seed is that of the recording.

    Raises NotAsRecorded, which shows the difference line by line. Raises UsageError for a file that cannot be read or
    is neither of the two, for a message that its stage no longer accepts, and for `update` with dead letters. Raises
    NotFound for a stage that is no longer in the pipeline, and what a harness raises.

    >>> import asyncio, tempfile
    >>> from flowq import stage
    >>> @stage
    ... async def double(number: int) -> int:
    ...     return 2 * number
    >>> async def test(file: Path) -> None:
    ...     pipeline = Pipeline("numbers", double)
    ...     async with harness(pipeline) as h:
    ...         h.record(file)
    ...         await h.feed(double, 1, 2)
    ...     await replay(file, pipeline)
    ...     print(file.read_text(), end="")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(test(Path(folder, "numbers.ndjson")))
    {"recording": 1, "seed": 0, "mask": []}
    {"fed": "double", "message": 1}
    {"fed": "double", "message": 2}
    {"stage": "double", "message": 1, "returned": [{"message": 2}]}
    {"stage": "double", "message": 2, "returned": [{"message": 4}]}
    """
    file = Path(file)
    recorded = Recording.read(file)
    if update and recorded.letters:
        raise UsageError(f"{file} has dead letters, which are not updated", hint="leave update= out")
    options.setdefault("seed", recorded.seed)
    async with harness(pipeline, **options) as h:
        for stage, message in _messages(file, pipeline, recorded.fed):
            await h.feed(stage, message)
        await h.drain()
        if recorded.letters:
            _check_letters(h)
        found = h.recording(recorded.mask)
    if recorded.letters:
        return
    if update:
        Recording(recorded.fed, found.lines, mask=recorded.mask, seed=recorded.seed).write(file)
    elif found.lines != recorded.lines:
        raise NotAsRecorded(
            f"{pipeline.name} makes something else of what is recorded in {file}",
            detail=_difference(recorded.lines, found.lines),
            hint="if it is meant: replay(..., update=True) writes the file anew",
        )


def _messages(file: Path, pipeline: Pipeline, fed: Sequence[Record]) -> list[tuple[str, Any]]:
    stages: Mapping[str, LoneStage] = {
        name: LoneStage.of(name, pipeline) for name in {str(each["fed"]) for each in fed}
    }
    messages: list[tuple[str, Any]] = []
    for number, record in enumerate(fed, 1):
        name = record["fed"]
        try:
            messages.append((name, stages[name].read(written_in(record))))
        except (CodecError, KeyError, TypeError, ValueError) as error:
            why = error.detail or error.message if isinstance(error, CodecError) else repr(error)
            raise UsageError(
                f"{file}: {name} does not accept message {number} of the file: {why}", hint="record it again"
            ) from None
    return messages


def _check_letters(h: Harness) -> None:
    if dead := h.dead():
        lines = [f"{each.stage}: {each.error or each.reason}" for each in dead]
        raise NotAsRecorded(
            f"{counted(len(dead), 'dead letter')} after the replay",
            detail="\n  ".join(lines[:_MOST_LINES]),
            hint="h.dead() of a harness of your own shows all about them",
        )


def _difference(recorded: Sequence[str], found: Sequence[str]) -> str:
    """The lines that differ, as people know them from version control."""
    lines = list(unified_diff(recorded, found, "recorded", "now", n=0, lineterm=""))
    shown = [line for line in lines if not line.startswith("@@")]
    n_more = len(shown) - _MOST_LINES
    shown = shown[:_MOST_LINES] + [f"and {n_more:,} more lines"] * (n_more > 0)
    return "\n  ".join(map(printable, shown))
