"""Reads a call of the settle script: which deliveries it has settled, according to the server's answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from flowq.broker import scripts
from flowq.delivery.stored import text_in
from flowq.testing.simulation.calls import shard_of

_N_FIRST_ARGUMENTS = 15
_N_OF_TARGET = 7
_STREAM = 2  # among the keys
_SETTLING = frozenset(each for script in (scripts.SETTLE, scripts.SETTLE_OUT) for each in (script.digest, script.text))


@dataclass(frozen=True, slots=True)
class Settlement:
    """The deliveries of one edge in one shard that one call has settled.

    `done` succeeded. `others` were delayed (`D`, `P`, `Q`), released (`R`) or became dead letters (`X`); each with its
    kind. A call with the `token` of an earlier one has settled nothing, and repeats its answer; "" is not a token.
    """

    stage: str
    edge: str
    done: Sequence[bytes]
    others: Sequence[tuple[bytes, str]]
    token: str = ""
    shard: int = 0

    @property
    def ends_any(self) -> bool:
        """Whether a message has come to its end, and is not only tried again."""
        return bool(self.done) or any(kind == "X" for _, kind in self.others)


def settlement_in(command: Sequence[Any], reply: Any) -> Settlement | None:
    """What a command has settled; None if it is another command, or has settled nothing."""
    if len(command) < 3 or command[1] not in _SETTLING:
        return None
    if not isinstance(reply, list):
        return None
    acked, n_others_settled = (*cast("list[int]", reply), 0)[:2]
    if acked < 0:
        return None
    arguments = command[3 + int(command[2]) :]
    token, stage, edge = (text_in(argument) for argument in arguments[3:6])
    n_done, n_others, n_targets = int(arguments[8]), int(arguments[10]), int(arguments[12])
    at = _N_FIRST_ARGUMENTS
    for _ in range(n_targets):
        at += _N_OF_TARGET + int(arguments[at + 3])
    done = [bytes(entry_id) for entry_id in arguments[at : at + n_done]] if acked else []
    at += n_done
    others = [(bytes(arguments[i]), text_in(arguments[i + 1])) for i in range(at, at + 4 * n_others, 4)]
    if not acked and not n_others_settled:
        return None
    shard = shard_of(command[3 + _STREAM])
    return Settlement(stage, edge, done, others if n_others_settled else [], token, shard)
