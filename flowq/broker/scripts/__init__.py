"""The Lua scripts that change a pipeline, and how they are called.

No decision is made here: scripts write what was decided before."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its text and the digest by which Redis knows it.

    `keeps_answer`: it takes one more key and a token at the end, and answers a call that is sent again with the same
    token as before, without doing anything (`once.lua`). Every other script may be sent again as it is.
    `gives_list`: it answers with a list, so that an answer of another kind is none.
    """

    name: str
    text: bytes
    digest: bytes
    keeps_answer: bool = False
    gives_list: bool = False

    def can_answer(self, reply: object) -> bool:
        """Whether this is what the script may answer with: a proxy, or no Redis at all, may say something else."""
        return isinstance(reply, list) or not self.gives_list

    def by_digest(self, keys: Sequence[Any], arguments: Sequence[Any]) -> tuple[Any, ...]:
        """The command that runs it where it is loaded."""
        return (b"EVALSHA", self.digest, len(keys), *keys, *arguments)

    def by_text(self, keys: Sequence[Any], arguments: Sequence[Any]) -> tuple[Any, ...]:
        """The command that runs it anywhere, and loads it."""
        return (b"EVAL", self.text, len(keys), *keys, *arguments)


def _read(name: str) -> bytes:
    return files(__name__).joinpath(f"{name}.lua").read_bytes()


_PARTS = ("append", "entries", "groups", "guards")
"""Functions that scripts share. Each part may call those after it."""


def _load(name: str, *, keeps_answer: bool = False, gives_list: bool = False) -> Script:
    text = _read(name)
    if keeps_answer:
        text = _read("parts/once").replace(b"--[[ the script ]]", text)
    for part in (_read(f"parts/{part}") for part in _PARTS):
        functions = re.findall(rb"^local function (\w+)", part, re.MULTILINE)
        if any(re.search(rb"\b%b\(" % function, text) for function in functions):
            text = part + text
    digest = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
    return Script(name.partition("/")[2], text, digest, keeps_answer, gives_list)


SETTLE = _load("path/settle", gives_list=True)
MAKE_GROUPS = _load("path/make_groups")
PUBLISH = _load("path/publish", gives_list=True)
PROMOTE = _load("path/promote", keeps_answer=True, gives_list=True)
REGISTER = _load("workers/register")
RETIRE = _load("workers/retire")
RECORD_DEATH = _load("workers/record_death")
RECLAIM = _load("workers/reclaim", gives_list=True)
SNAPSHOT = _load("inspection/snapshot", gives_list=True)
BEGIN_RUN = _load("path/begin_run", gives_list=True)
PUT_BACK = _load("dead_letters/put_back", keeps_answer=True)
READ_DEAD = _load("dead_letters/read_dead", gives_list=True)
AMEND = _load("dead_letters/amend")
PEEK = _load("inspection/peek", gives_list=True)
FIND = _load("inspection/find", gives_list=True)
PURGE = _load("dead_letters/purge", keeps_answer=True)
PUT_BACK_KEPT = _load("dead_letters/put_back_kept", keeps_answer=True)
REMOVE_DEAD = _load("dead_letters/remove_dead", keeps_answer=True)
RESTORE_DEAD = _load("dead_letters/restore_dead", keeps_answer=True)
BURY = _load("workers/bury")
RESERVE = _load("flow_control/reserve", keeps_answer=True)
HOLD = _load("flow_control/hold", keeps_answer=True)
CALL = _load("flow_control/call", keeps_answer=True)
STRIKE_OFF = _load("workers/strike_off")
FORGET = _load("flow_control/forget", keeps_answer=True)
RECORD_PLAN = _load("migration/record_plan", keeps_answer=True)
DROP_EDGE = _load("migration/drop_edge", keeps_answer=True)
PAUSE = _load("flow_control/pause", keeps_answer=True)
MOVE_EDGE = _load("migration/move_edge", keeps_answer=True)
MOVE_DEAD = _load("migration/move_dead", keeps_answer=True)
RENAME_STAGE = _load("migration/rename_stage")
CALL_ALL = _load("flow_control/call_all", keeps_answer=True)
RECORD_THROUGHPUT = _load("inspection/record_throughput", keeps_answer=True)
EDGE_STATS = _load("inspection/edge_stats", gives_list=True)
TAKE_SOURCE = _load("workers/take_source")
REFERENCES = _load("inspection/references")
SLOWEST = _load("inspection/slowest")
FOLLOW_CLOCK = _load("workers/follow_clock", keeps_answer=True)
