"""The Lua scripts that change a pipeline, and how they are called."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its text and the digest by which Redis knows it."""

    name: str
    text: bytes
    digest: bytes

    def by_digest(self, keys: Sequence[Any], arguments: Sequence[Any]) -> tuple[Any, ...]:
        """The command that runs it where it is loaded."""
        return (b"EVALSHA", self.digest, len(keys), *keys, *arguments)

    def by_text(self, keys: Sequence[Any], arguments: Sequence[Any]) -> tuple[Any, ...]:
        """The command that runs it anywhere, and loads it."""
        return (b"EVAL", self.text, len(keys), *keys, *arguments)


_GUARDS = files(__name__).joinpath("guards.lua").read_bytes()


def _load(name: str) -> Script:
    text = _GUARDS + files(__name__).joinpath(f"{name}.lua").read_bytes()
    return Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


SETTLE = _load("settle")
MAKE_GROUPS = _load("make_groups")
PUBLISH = _load("publish")
PROMOTE = _load("promote")
REGISTER = _load("register")
RETIRE = _load("retire")
CERTIFY = _load("certify")
RECLAIM = _load("reclaim")
SNAPSHOT = _load("snapshot")
BEGIN_RUN = _load("begin_run")
PUT_BACK = _load("put_back")
READ_DEAD = _load("read_dead")
AMEND = _load("amend")
PEEK = _load("peek")
FIND = _load("find")
PURGE = _load("purge")
PUT_BACK_KEPT = _load("put_back_kept")
REMOVE_DEAD = _load("remove_dead")
RESTORE_DEAD = _load("restore_dead")
BURY = _load("bury")
RESERVE = _load("reserve")
HOLD = _load("hold")
CALL = _load("call")
FORGET = _load("forget")
RECORD_PLAN = _load("record_plan")
DROP_EDGE = _load("drop_edge")
PAUSE = _load("pause")
MOVE_EDGE = _load("move_edge")
MOVE_DEAD = _load("move_dead")
RENAME_STAGE = _load("rename_stage")
CALL_ALL = _load("call_all")
RECORD_TEMPO = _load("record_tempo")
VITALS = _load("vitals")
TAKE_SOURCE = _load("take_source")
REFERENCES = _load("references")
SLOWEST = _load("slowest")
FOLLOW_CLOCK = _load("follow_clock")
