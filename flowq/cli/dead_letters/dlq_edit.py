"""Gives dead letters new messages: by a person in an editor, or field by field."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import orjson

from flowq.errors import UsageError
from flowq.printable import json_text, printable

if TYPE_CHECKING:
    from flowq.dead_letters.fitting import Edit
    from flowq.dead_letters.letter import DeadLetterRecord

MOST_TO_EDIT = 100
_HELP = """\
# Edit the messages, then save and close: the letters are put back with them. To leave a letter dead, delete its block.
"""


def with_fields(assignments: Sequence[str]) -> Edit:
    """An edit that sets fields, each written `field=value`: a JSON value, or else text. Raises UsageError."""
    fields: list[tuple[list[str], Any]] = []
    for written in assignments:
        path, equals, value = written.partition("=")
        if not path.strip() or not equals:
            raise UsageError(
                f'--set "{written}" is not FIELD=VALUE', hint="write  --set field=value, with dots for nested fields"
            )
        fields.append((path.strip().split("."), _json_or_text(value)))

    def edit(letter: DeadLetterRecord) -> bytes:
        message = letter.message
        for path, value in fields:
            _set(message, path, value, letter.id)
        return orjson.dumps(message)

    return edit


def _json_or_text(value: str) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def _set(message: Any, path: Sequence[str], value: Any, letter_id: str) -> None:
    *parents, last = path
    for name in parents:
        message = cast("dict[str, Any]", message).get(name) if isinstance(message, dict) else None
    if not isinstance(message, dict):
        raise UsageError(
            f"letter {letter_id}: {'.'.join(path)} cannot be set: its parent is not an object; nothing was put back",
            hint="narrow it down with --where, or fix the message with --edit",
        )
    message[last] = value


def in_editor(letters: Sequence[DeadLetterRecord]) -> Mapping[str, bytes]:
    """The edited messages by the ids of their letters. Raises UsageError for a message that is not JSON."""
    blocks = [f"# {letter.stage} {letter.id}  {printable(letter.line)}\n{_shown(letter)}\n" for letter in letters]
    with tempfile.TemporaryDirectory(prefix="flowq-") as folder:
        file = Path(folder, "dead-letters.json")
        file.write_text("\n".join((_HELP, *blocks)), encoding="utf-8")
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        try:
            subprocess.run([*shlex.split(editor), str(file)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise UsageError(f"{editor} failed; nothing was put back", detail=str(error), hint="set EDITOR") from None
        return _messages(file.read_text(encoding="utf-8"), {letter.id for letter in letters})


def _shown(letter: DeadLetterRecord) -> str:
    if letter.message is None and letter.body != b"null":
        return printable(letter.body[:2000].decode("utf-8", "backslashreplace"))
    return json_text(letter.message, indent=True)


def _messages(text: str, known: set[str]) -> dict[str, bytes]:
    messages: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.split("\n"):  # splitlines() would end a line at U+2028 as well, which JSON text may contain
        if line.startswith("#"):
            words = line.split()
            current = messages.setdefault(words[2], []) if len(words) > 2 and words[2] in known else []
        else:
            current.append(line)
    found: dict[str, bytes] = {}
    for letter_id, lines in messages.items():
        if body := "\n".join(lines).strip():
            try:
                found[letter_id] = orjson.dumps(orjson.loads(body))
            except orjson.JSONDecodeError as error:
                raise UsageError(f"letter {letter_id} is not JSON: {error}; nothing was put back") from None
    return found
