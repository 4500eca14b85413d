"""A test kit for pipelines: a virtual clock, faults and a seed around the code that runs in production.

It needs `pip install 'flowq-streams[test]'`. Nothing outside of tests imports it, apart from the command `flowq test`.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flowq.testing import strategies
    from flowq.testing.alone.expected_errors import raises_reject, raises_retry
    from flowq.testing.alone.one_stage import call
    from flowq.testing.expectation import Expectation
    from flowq.testing.exploration.exploring import Found, Report, explore
    from flowq.testing.exploration.random_faults import ALL, SURVIVABLE
    from flowq.testing.exploration.rule_machine import PipelineMachine, machine
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
    from flowq.testing.journal import Call
    from flowq.testing.ledger import Ledger
    from flowq.testing.observed_state import Balance, Dead, Waiting
    from flowq.testing.pipeline_harness import Harness, harness
    from flowq.testing.replaying import NotAsRecorded, replay
    from flowq.testing.verdicts import (
        InvariantBroken,
        NeverCompared,
        NotAsExpected,
        NotDrained,
        Verdict,
        WorkerEnded,
    )

__all__ = [
    "ALL",
    "SURVIVABLE",
    "Balance",
    "Call",
    "Crash",
    "Dead",
    "Disconnect",
    "Duplicate",
    "Expectation",
    "Failover",
    "Fault",
    "Found",
    "Harness",
    "InvariantBroken",
    "Ledger",
    "LostReply",
    "NeverCompared",
    "NotAsExpected",
    "NotAsRecorded",
    "NotDrained",
    "PipelineMachine",
    "PoisonBody",
    "Refuse",
    "Reorder",
    "Report",
    "Restart",
    "Slow",
    "Stall",
    "Verdict",
    "Waiting",
    "WorkerEnded",
    "call",
    "explore",
    "harness",
    "machine",
    "raises_reject",
    "raises_retry",
    "replay",
    "strategies",
]

# Imported on first use: a test that calls one stage needs neither fakeredis nor hypothesis. No module is named like
# something that it exports: to import the module would put it in the place of the function.
_HOME_OF = {
    name: module
    for module, names in {
        "flowq.testing.exploration.exploring": ("Found", "Report", "explore"),
        "flowq.testing.exploration.random_faults": ("ALL", "SURVIVABLE"),
        "flowq.testing.expectation": ("Expectation",),
        "flowq.testing.faults": (
            "Crash",
            "Disconnect",
            "Duplicate",
            "Failover",
            "Fault",
            "LostReply",
            "PoisonBody",
            "Refuse",
            "Reorder",
            "Restart",
            "Slow",
            "Stall",
        ),
        "flowq.testing.alone.expected_errors": ("raises_reject", "raises_retry"),
        "flowq.testing.journal": ("Call",),
        "flowq.testing.ledger": ("Ledger",),
        "flowq.testing.observed_state": ("Balance", "Dead", "Waiting"),
        "flowq.testing.alone.one_stage": ("call",),
        "flowq.testing.pipeline_harness": ("Harness", "harness"),
        "flowq.testing.replaying": ("NotAsRecorded", "replay"),
        "flowq.testing.exploration.rule_machine": ("PipelineMachine", "machine"),
        "flowq.testing.verdicts": (
            "InvariantBroken",
            "NeverCompared",
            "NotAsExpected",
            "NotDrained",
            "Verdict",
            "WorkerEnded",
        ),
    }.items()
    for name in names
}


def __getattr__(name: str) -> Any:
    if name == "strategies":
        return import_module("flowq.testing.strategies")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
