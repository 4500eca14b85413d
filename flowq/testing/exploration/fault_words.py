"""What a fault looks like to someone who watches the worker that it hits: the words of a story."""

from __future__ import annotations

from typing import assert_never

from flowq.testing.faults import (
    Crash,
    Disconnect,
    Duplicate,
    Failover,
    Fault,
    LostReply,
    PoisonBody,
    Refuse,
    Reorder,
    Restart,
    Slow,
    Stall,
)

_POINTS = {"read": "a read", "handler": "the handler", "settle": "the settlement"}


def happening(fault: Fault) -> str:
    """What happens, without its subject: the worker.

    >>> happening(Crash("store", after="handler"))
    'dies after the handler of store'
    """
    match fault:
        case Crash():
            when = "before" if fault.before else "after"
            return f"dies {when} {_POINTS[fault.point]} of {fault.stage}"
        case LostReply():
            return f"does not get the reply to its {fault.call}"
        case Duplicate():
            return f"sends a {fault.call} that arrives twice"
        case Reorder():
            return "sends a call that others overtake"
        case Disconnect():
            return "loses all its connections"
        case Stall():
            return f"waits, as all do: Redis does not answer for {fault.seconds:g} s"
        case Refuse():
            return f"is refused with {fault.error}, and will be for {fault.seconds:g} s"
        case Failover():
            return f"finds another Redis, which lacks the last {fault.forget} calls"
        case PoisonBody():
            return f"gets a message of {fault.stage} with a damaged body"
        case Slow():
            return f"is slow: {fault.stage} takes {fault.seconds:g} s longer"
        case Restart():
            return "is told to stop, and another takes its place"
        case _:
            assert_never(fault)
