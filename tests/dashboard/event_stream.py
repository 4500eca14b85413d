"""Reads server-sent events by the rules of the HTML standard, as a browser does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SeenEvent:
    """One event, as the script of a page gets it."""

    kind: str
    id: str
    data: Any

    @property
    def number(self) -> int:
        """Its place among all that the server has sent; all pages get the same."""
        return int(self.id.partition("-")[2])


def events_in(lines: Iterable[bytes]) -> Iterator[SeenEvent]:
    """The events of a stream; comments are left out. Any line end counts, as the standard says."""
    kind, last_id, data = "message", "", list[str]()
    for raw in lines:
        for line in raw.decode().replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n"):
            if not line:
                if data:
                    yield SeenEvent(kind, last_id, json.loads("\n".join(data)))
                kind, data = "message", []
                continue
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                kind = value
            elif field == "id":
                last_id = value
            elif field == "data":
                data.append(value)
