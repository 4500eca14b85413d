"""The Lua scripts that change a pipeline, and how they are called.

No decision is made here: scripts write what was decided before."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_letters, digits
from typing import Any


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its text and the digest by which Redis knows it.

    `keeps_answer`: it takes one more key and a token at the end, and answers a call that is sent again with the same
    token as before, without doing anything (`once.lua`). Every other script may be sent again as it is.
    `gives_list`: it always answers with a list; any other reply is not from it.
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


_FOLDER = Path(__file__).parent


def _read(name: str) -> bytes:
    return (_FOLDER / f"{name}.lua").read_bytes()


_PARTS = (
    "guards", "arguments", "clock", "answers", "groups", "entries", "append", "letters", "released", "seen", "edges",
    "kept", "limiter", "failure_counts", "deaths", "removal", "outboxes",
)  # fmt: skip
"""Functions and constants that scripts share. Each part may use those before it."""
_PLACE = b"--[[ the script ]]"
_BETWEEN_WORDS = bytes(set(range(256)) - set(f"{ascii_letters}{digits}_".encode()))
_AS_SPACES = bytes.maketrans(_BETWEEN_WORDS, b" " * len(_BETWEEN_WORDS))
_WITH_SUBCOMMANDS = (b"XGROUP", b"XINFO")
_CALL = re.compile(rb"\b(?:call|attempt)\('([A-Z]+)'(?:, '(\w+)')?")
_HEAD = re.compile(rb"^local (?:function )?([\w, ]+)", re.MULTILINE)


def _words(code: bytes) -> set[bytes]:
    return set(
        re.sub(rb"--.*", b"", code).translate(_AS_SPACES).split()
    )  # a regular expression takes three times as long


def _shared() -> list[tuple[bytes, set[bytes], set[bytes]]]:
    """Each shared definition, with the names that it defines and the words that it uses."""
    blocks = [block for part in _PARTS for block in re.split(rb"\n\n(?=\S)", _read(f"parts/{part}").rstrip())]
    defined = [(block, _words(b",".join(_HEAD.findall(block)))) for block in blocks]
    return [(block + b"\n\n", names, _words(block)) for block, names in defined if names]


_SHARED = _shared()


def _commands(code: bytes) -> list[bytes]:
    """Each command that a script may call, whose refusal it does not handle itself (`try`)."""
    calls = set(_CALL.findall(re.sub(rb"--.*", b"", code)))
    return sorted(command + b" " + second if command in _WITH_SUBCOMMANDS else command for command, second in calls)


def _load(name: str, *, around: str = "", keeps_answer: bool = False, gives_list: bool = False) -> Script:
    """A script, preceded by the shared definitions that it uses.

    `around`: another script that it contains, except for its last line, which returns the answer.
    """
    text = _read(name)
    if around:
        text = text.replace(_PLACE, _read(around).rstrip().rpartition(b"\n")[0])
    if keeps_answer:
        text = _read("parts/once").replace(_PLACE, text)
    used, blocks = _words(text), [text]
    for block, names, words in reversed(_SHARED):
        if not names.isdisjoint(used):
            blocks.append(block)
            used |= words
    text = b"".join(reversed(blocks))
    if b"COMMANDS" in used:
        text = b"local COMMANDS = {%s}\n\n" % b", ".join(b"'%s'" % name for name in _commands(text)) + text
    digest = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
    return Script(name.partition("/")[2], text, digest, keeps_answer, gives_list)


# All are loaded at the start, used or not: the files of a worker that runs may be replaced by those of a newer version.
SETTLE = _load("path/settle", gives_list=True)
CREATE_GROUPS = _load("path/create_groups")
PUBLISH = _load("path/publish", gives_list=True)
PUBLISH_PLAIN = _load("path/publish_plain", gives_list=True)
PROMOTE = _load("path/promote", keeps_answer=True, gives_list=True)
REGISTER = _load("workers/register")
RETIRE = _load("workers/retire")
RECORD_DEATH = _load("workers/record_death")
RECLAIM = _load("workers/reclaim", gives_list=True)
SNAPSHOT = _load("inspection/snapshot", gives_list=True)
START_RUN = _load("path/start_run", gives_list=True)
PUT_BACK_LETTERS = _load("dead_letters/put_back_letters", keeps_answer=True)
READ_LETTERS = _load("dead_letters/read_letters", gives_list=True)
LETTER_INFOS = _load("inspection/letter_infos", gives_list=True)
LETTERS_BEFORE = _load("inspection/letters_before", gives_list=True)
EDIT_LETTERS = _load("dead_letters/edit_letters")
BROWSE = _load("inspection/browse", gives_list=True)
FIND_FAMILY = _load("inspection/find_family", gives_list=True)
PURGE = _load("dead_letters/purge", keeps_answer=True)
PUT_BACK_KEPT = _load("dead_letters/put_back_kept", keeps_answer=True)
REMOVE_LETTERS = _load("dead_letters/remove_letters", keeps_answer=True)
RESTORE_LETTERS = _load("dead_letters/restore_letters", keeps_answer=True)
ADD_DEAD_LETTER = _load("workers/add_dead_letter")
RESERVE = _load("flow_control/reserve", keeps_answer=True)
HOLD = _load("flow_control/hold", keeps_answer=True)
FINISH = _load("flow_control/finish", keeps_answer=True)
DEQUEUE = _load("flow_control/dequeue", keeps_answer=True)
FORGET_WORKERS = _load("workers/forget_workers")
EXPIRE_IDLE_KEYS = _load("flow_control/expire_idle_keys", keeps_answer=True)
RECORD_PLAN = _load("migration/record_plan", keeps_answer=True)
DROP_EDGE = _load("migration/drop_edge", keeps_answer=True)
PAUSE = _load("flow_control/pause", keeps_answer=True)
MOVE_EDGE = _load("migration/move_edge", keeps_answer=True)
MOVE_LETTERS = _load("migration/move_letters", keeps_answer=True)
RENAME_STAGE = _load("migration/rename_stage")
MOVE_SEEN = _load("migration/move_seen")
TAKE_OVER_SEEN = _load("migration/take_over_seen")
DEQUEUE_ALL = _load("flow_control/dequeue_all", keeps_answer=True)
RECORD_THROUGHPUT = _load("inspection/record_throughput", keeps_answer=True)
RECORD_ACTION = _load("inspection/record_action", keeps_answer=True)
EDGE_STATS = _load("inspection/edge_stats", gives_list=True)
CLAIM_SOURCE = _load("workers/claim_source")
BODY_REFERENCES = _load("inspection/body_references")
DELAYED_FAILURES = _load("inspection/delayed_failures")
SLOWEST = _load("inspection/slowest")
FOLLOW_CLOCK = _load("workers/follow_clock", keeps_answer=True)
SETTLE_OUT = _load("shards/settle_out", around="path/settle", gives_list=True)
PUBLISH_OUT = _load("shards/publish_out", around="path/publish", gives_list=True)
APPLY = _load("shards/apply", gives_list=True)
WAVE = _load("shards/wave", gives_list=True)
BRIDGE = _load("shards/bridge", gives_list=True)
START_RUN_OF_SHARDS = _load("shards/start_run_of_shards", around="path/start_run", gives_list=True)
JOIN_RUN = _load("shards/join_run")
GIVE = _load("shards/give", gives_list=True)
PACK_SEEN = _load("shards/pack_seen")
ADD_SEEN = _load("shards/add_seen")
DROP_SEEN = _load("shards/drop_seen")
