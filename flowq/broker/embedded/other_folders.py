"""Other data folders of a project, and the messages in them: found and counted without starting a server.

A program that was started in another folder, or by an earlier version, may have put its messages into one. The log of
the server of a folder is replayed as far as it adds and removes messages.
"""

from __future__ import annotations

import os
import re
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import cast

import hiredis

from flowq.errors import Problem
from flowq.graph.compilation.plan import Plan
from flowq.settings import DATA_FOLDER, EMBEDDED, Settings

_MOST_FOLDERS, _DEEPEST = 2_000, 4
_MOST_LOG_BYTES = 32_000_000
_BYTES_AT_ONCE = 1 << 16  # a reader copies all that it has not parsed yet, at every reply
_EMPTY_SNAPSHOT_BYTES = 1_000
_NOT_OURS = ("__pycache__", "node_modules", "site-packages")
_Held = OrderedDict[bytes, None]  # the ids of a stream, or the fields of a hash
_OF_MESSAGES = re.compile(rb"[^{}]*:\{([^{}]+)\}:(?:edge|parked):")


def messages_elsewhere(settings: Settings, plans: Sequence[Plan]) -> Iterator[Problem]:
    """A warning for each other data folder of the project in which messages of these pipelines wait."""
    for folder in other_folders(settings.root, settings.data_folder if settings.is_embedded else None):
        found = waiting_in(folder)
        of_plans = plans if found is None else [plan for plan in plans if plan.name in found]
        if not of_plans:
            continue
        first, inner = of_plans[0], folder.relative_to(settings.root)
        counts = " and ".join(f"{found[plan.name]:,} of {plan.name}" for plan in of_plans) if found else ""
        what = f"messages wait ({counts})" if counts else "messages may wait"
        sources = "".join(f" -x {source.name}" for source in first.sources)
        command = f"flowq run {first.name}{sources} --drain --redis {quote(f'{EMBEDDED}:{inner}')}"
        yield Problem(
            "FQ427",
            f"{what} in {inner}, not in the Redis of this project",
            hint=f"{command} handles them; then remove {inner}",
            severity="warning",
        )


def other_folders(root: Path, own: Path | None) -> Iterator[Path]:
    """The data folders of a project except its own, the nearest first. Looks into a limited number of folders."""
    left, n_seen = deque([(root, 0)]), 0
    while left and n_seen < _MOST_FOLDERS:
        folder, depth = left.popleft()
        n_seen += 1
        inner = {entry.name: entry for entry in _entries(folder)}
        if "pyvenv.cfg" in inner or (depth and _is_project(folder / "pyproject.toml")):
            continue
        for name, entry in sorted(inner.items()):
            if not entry.is_dir(follow_symlinks=False):
                continue
            if name == DATA_FOLDER and folder / name != own:
                yield folder / name
            elif depth < _DEEPEST and not name.startswith(".") and name not in _NOT_OURS:
                left.append((folder / name, depth + 1))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:  # not readable, or gone meanwhile
        return []


def _is_project(file: Path) -> bool:
    """Whether it makes a folder a project of its own, whose data folder is not ours."""
    try:
        return b"[tool.flowq" in file.read_bytes()
    except OSError:
        return False


def waiting_in(folder: Path) -> Mapping[str, int] | None:
    """The number of messages of each pipeline that wait in a data folder or are delayed; None if it is not known."""
    logs = folder / "appendonlydir"
    try:
        lines = [line.split() for line in (logs / "appendonly.aof.manifest").read_text().splitlines()]
        files = [(logs / Path(words[1]).name, words[5]) for words in lines if len(words) >= 6 and words[5] != "h"]
        n_bytes = sum(file.stat().st_size for file, _ in files)
        if any(kind == "b" and file.stat().st_size > _EMPTY_SNAPSHOT_BYTES for file, kind in files):
            return None  # a snapshot, whose format only Redis can read
        return None if n_bytes > _MOST_LOG_BYTES else _replayed([file for file, kind in files if kind == "i"])
    except (OSError, ValueError):
        return {}  # not that of a server, or not ours to read


def _replayed(logs: list[Path]) -> Mapping[str, int]:
    """By pipeline."""
    held: dict[bytes, _Held] = {}
    for log in logs:
        for name, *arguments in _commands(log):
            _apply(held, name.upper(), arguments)
    found: Counter[str] = Counter()
    for key, ids in held.items():
        if (pipeline := _OF_MESSAGES.match(key)) and ids:
            found[pipeline[1].decode(errors="replace")] += len(ids)
    return found


def _commands(log: Path) -> Iterator[list[bytes]]:
    reader = hiredis.Reader()
    try:
        with log.open("rb") as file:
            while data := file.read(_BYTES_AT_ONCE):
                reader.feed(data)
                while (command := reader.gets()) is not False:
                    words = cast("list[object]", command) if isinstance(command, list) else []
                    if words and all(isinstance(word, bytes) for word in words):
                        yield cast("list[bytes]", words)
    except hiredis.ProtocolError:  # cut off, or something else
        return


def _apply(held: dict[bytes, _Held], name: bytes, arguments: list[bytes]) -> None:
    """What a command changes in the keys that hold messages. Redis logs the ids that it gave."""
    match name, arguments:
        case ((b"FLUSHALL" | b"FLUSHDB"), _):
            held.clear()
        case ((b"DEL" | b"UNLINK"), keys):
            for key in keys:
                held.pop(key, None)
        case b"RENAME", [key, other]:
            held[other] = held.pop(key, _Held())
        case _, [key, *rest] if _OF_MESSAGES.match(key):
            ids = held.setdefault(key, _Held())
            match name:
                case b"XADD":
                    ids[rest[0]] = None
                case b"HSET":
                    for field in rest[::2]:  # not |=, which looks at all ids each time
                        ids[field] = None
                case b"XDEL" | b"HDEL":
                    for entry_id in rest:
                        ids.pop(entry_id, None)
                case b"XTRIM":
                    _trim(ids, rest[0].upper(), rest[2] if rest[1] in b"=~" else rest[1])
                case _:
                    pass
        case _:
            pass


def _trim(ids: _Held, strategy: bytes, threshold: bytes) -> None:
    while ids and (
        len(ids) > int(threshold) if strategy == b"MAXLEN" else _numbers(next(iter(ids))) < _numbers(threshold)
    ):
        ids.popitem(last=False)


def _numbers(entry_id: bytes) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split(b"-")))
