"""The file of a recording: one JSON object per line. Also reads dead letters, as `flowq dlq export` writes them."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from flowq.dead_letters.letter import body_in
from flowq.delivery.message import Header
from flowq.errors import UsageError
from flowq.testing.alone.lone_stage import Written

FORMAT = 1

Record = Mapping[str, Any]
"""One line: what was fed to a stage, or what a stage has made of a message."""


@dataclass(frozen=True)
class Recording:
    """What a file holds. `fed` are messages and their stages, `lines` what each stage has made of its messages.

    Dead letters, whose ids are in `letters`, are fed to the stages that they died in, and there are no lines to compare
    with. `mask` and `seed` are those of the harness that was recorded.
    """

    fed: Sequence[Record]
    lines: Sequence[str] = ()
    mask: Sequence[str] = ()
    seed: int = 0
    letters: Sequence[str] = ()

    @classmethod
    def read(cls, file: Path) -> Recording:
        """Read a file. Raises UsageError, which names the line, for one that is neither of the two."""
        try:
            with file.open(encoding="utf-8") as text:  # splitlines() would end a line at U+2028 as well
                lines = [line.removesuffix("\n") for line in text]
        except OSError as error:
            hint = "record it: async with harness(pipeline) as h: h.record(file)"
            raise UsageError(f"{file} cannot be read: {error.strerror}", hint=hint) from None
        except UnicodeDecodeError:
            raise UsageError(f"{file} is not text in UTF-8", hint="record it again") from None
        records = list(_records(file, lines))
        if not records:
            raise UsageError(f"{file} is empty", hint="record it again")
        head, *others = records
        if "recording" not in head:
            return cls._of_letters(file, records)
        if head["recording"] != FORMAT:
            raise UsageError(f"{file} is of another version of flowq", hint="record it again")
        fed = [each for each in others if "fed" in each]
        lines = [line for line, each in zip(lines[1:], others, strict=True) if "fed" not in each]
        return cls(fed, lines, mask=head.get("mask", ()), seed=head.get("seed", 0))

    @classmethod
    def _of_letters(cls, file: Path, letters: Sequence[Record]) -> Recording:
        fed: list[Record] = []
        for number, letter in enumerate(letters, 1):
            try:
                body = body_in(letter)
                tag = Header.decode(letter["header"].encode()).type_tag if "header" in letter else ""
                fed.append({"fed": letter["stage"], "type": tag, "body_base64": b64encode(body).decode()})
            except (KeyError, ValueError, TypeError, AttributeError):
                hint = "lines of h.record(), or as flowq dlq export writes them: stage, id, message"
                raise UsageError(f"{file}, line {number} is no dead letter", hint=hint) from None
        return cls(fed, letters=[str(letter.get("id", "")) for letter in letters])

    def write(self, file: Path) -> None:
        """Write it in full; what the file held is gone. Raises UsageError if that is not possible."""
        head = {"recording": FORMAT, "seed": self.seed, "mask": list(self.mask)}
        lines = [line_of(head), *map(line_of, self.fed), *self.lines]
        try:
            file.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        except OSError as error:
            hint = "name a file in a folder that exists"
            raise UsageError(f"{file} cannot be written: {error.strerror}", hint=hint) from None


def line_of(record: Record) -> str:
    """A record as a line: always the same for equal ones."""
    return json.dumps(record, ensure_ascii=False, separators=(", ", ": "))


def written_in(record: Record) -> Written:
    """The message of a line. Raises KeyError, TypeError or ValueError if there is none."""
    tag = record.get("type", "")
    if "body_base64" in record:
        return Written(tag, b64decode(record["body_base64"], validate=True))
    return Written(tag, json.dumps(record["message"]).encode())


def _records(file: Path, lines: Sequence[str]) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        try:
            record: Any = json.loads(line)
        except json.JSONDecodeError as error:
            raise UsageError(f"{file}, line {number} is not JSON: {error}", hint="one JSON object per line") from None
        if not isinstance(record, dict):
            raise UsageError(f"{file}, line {number} is not a JSON object", hint="one JSON object per line")
        yield cast("Record", record)
