"""`flowq dlq import`: reads dead letters that were exported and fixed, one JSON object per line."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BufferedReader
from typing import TYPE_CHECKING, Any, cast

import orjson

from flowq.cli.framework.error_screen import note
from flowq.cli.framework.line_batches import Line, line_batches
from flowq.delivery.letter_ids import is_letter_id
from flowq.errors import FlowqError, UsageError
from flowq.printable import json_text
from flowq.wording.quantities import counted

if TYPE_CHECKING:
    from flowq.dead_letters.dead_letters import DeadLetters

_LINES_PER_STEP = 200
_Letter = tuple[int, dict[str, Any]]
"""A letter and the number of its line."""


class BadLetter(UsageError):
    """A line that is not a dead letter in the format of `flowq dlq export`."""

    code = "FQ208"


@dataclass
class Imported:
    """What has become of the letters so far."""

    fixed: Counter[str] = field(default_factory=Counter[str])
    restored: Counter[str] = field(default_factory=Counter[str])
    unchanged: int = 0
    missing: int = 0
    already_restored: int = 0

    @property
    def n(self) -> int:
        """How many letters were changed or added."""
        return self.fixed.total() + self.restored.total()

    def as_json(self) -> dict[str, Any]:
        return {
            "fixed": dict(+self.fixed),
            "restored": dict(+self.restored),
            "unchanged": self.unchanged,
            "missing": self.missing,
            "already_restored": self.already_restored,
        }

    def report(self, name: str, *, puts_back: bool, json: bool) -> None:
        """Say it: what was done on standard output, what was not beside it."""
        if json:
            print(json_text(self.as_json(), indent=True))
            return
        done = "put back to" if puts_back else "changed in"
        for stage, n in (+self.fixed).items():
            print(f"{counted(n, 'dead letter')} {done} {stage}")
        for stage, n in (+self.restored).items():
            print(f"{counted(n, 'dead letter')} restored to {stage}")
        if self.unchanged:
            note(f"{counted(self.unchanged, 'dead letter')} unchanged")
        if self.missing:
            note(f"{counted(self.missing, 'dead letter')} skipped: no longer there")
        if self.already_restored:
            note(f"{counted(self.already_restored, 'dead letter')} skipped: already restored")
        if (+self.fixed or +self.restored) and not puts_back:
            note(f"flowq dlq retry {name}  puts them back to be run")


class Importer:
    """Fixes the letters of a stream; `restores` those that are no longer there, or puts all back at once."""

    def __init__(self, letters: DeadLetters, *, restores: bool, puts_back: bool) -> None:
        self._letters = letters
        self._restores = restores
        self._puts_back = puts_back
        self.done = Imported()

    async def read(self, stream: BufferedReader) -> None:
        """Every line. One that cannot be used ends it; those of earlier steps are done."""
        for batch in line_batches(stream, most=_LINES_PER_STEP):
            await self._import(batch)

    async def _import(self, batch: Sequence[Line]) -> None:
        bodies: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
        by_id = dict[tuple[str, str], _Letter]()
        for line in batch:
            values, body = _read(line)
            bodies[values["stage"]][values["id"]] = body
            by_id[values["stage"], values["id"]] = line.number, values
        for stage, of_stage in bodies.items():
            try:
                fixed = await self._letters.fix(stage, of_stage, and_put_back=self._puts_back)
            except FlowqError as error:
                error.message = f"lines {batch[0].number} to {batch[-1].number}: {error.message}"
                raise
            self.done.fixed[stage] += fixed.n
            self.done.unchanged += 0 if self._puts_back else fixed.unchanged
            if self._restores and fixed.missing:
                await self._restore([by_id[stage, letter_id] for letter_id in fixed.missing])
            else:
                self.done.missing += len(fixed.missing)

    async def _restore(self, exported: Sequence[_Letter]) -> None:
        from flowq.dead_letters.letter import DeadLetterRecord

        letters: list[DeadLetterRecord] = []
        for line_number, values in exported:
            try:
                letters.append(DeadLetterRecord.from_json(values))
            except ValueError as error:
                raise BadLetter(
                    f"line {line_number} cannot be restored: {error}",
                    hint="lines as flowq dlq export writes them",
                ) from None
        added = await self._letters.restore(letters)
        self.done.restored.update(added)
        self.done.already_restored += len(letters) - sum(added.values())


def _read(line: Line) -> tuple[dict[str, Any], bytes]:
    """A line as a letter, and its body. Raises BadLetter, which names the line."""
    from flowq.dead_letters.letter import body_in

    hint = "lines as flowq dlq export writes them: stage, id, message"
    try:
        values = orjson.loads(line.content)
    except orjson.JSONDecodeError as error:
        raise BadLetter(f"line {line.number} is not JSON: {error}", hint=hint) from None
    if not isinstance(values, dict):
        raise BadLetter(f"line {line.number} is not a JSON object", hint=hint)
    letter = cast("dict[str, Any]", values)
    for name in ("stage", "id"):
        if not isinstance(letter.get(name), str):
            raise BadLetter(f"line {line.number} has no {name}", hint=hint)
    if not is_letter_id(letter["id"]):
        raise BadLetter(f"line {line.number}: the id of a letter is two numbers, such as 1700000000000-0", hint=hint)
    try:
        return letter, body_in(letter)
    except (ValueError, TypeError):
        raise BadLetter(f"line {line.number} has no message", hint=hint) from None
