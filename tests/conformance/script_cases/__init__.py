"""One case for each script, which calls it as flowq does: a file for each folder of `broker/scripts/`."""

from __future__ import annotations

from tests.conformance.script_cases import dead_letters, flow_control, inspection, migration, path, shards, workers
from tests.conformance.script_cases.case import CASES, Case, Lab

__all__ = [
    "CASES",
    "Case",
    "Lab",
    "dead_letters",
    "flow_control",
    "inspection",
    "migration",
    "path",
    "shards",
    "workers",
]
