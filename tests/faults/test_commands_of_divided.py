"""Each command while one of three servers hangs: it names that server, or does without it, and never hangs itself."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from tests.faults.divided_run import DividedRun
from tests.integration.flowq_process import FlowqProcess

NAMED: Mapping[str, int] = {
    "status divided": 0,
    "status divided --by-shard": 0,
    "status divided --json": 4,
    "graph divided --live": 0,
    "dlq ls divided": 0,
    "peek divided.first": 0,
    "trace divided 1-0": 2,
}
"""The commands that show what there is, and their exit codes: the same whichever server hangs."""
NAMED_IF_NOT_FIRST: Mapping[str, int] = {"doctor divided": 1, "healthcheck divided": 1, "pause divided": 0}
"""Those that need shard 0 alone, and what they exit with when another server hangs."""
REFUSED = (
    *("run divided", "run divided --stage second", "run divided --workers 0", "push divided.first 1"),
    *("plan divided", "apply divided --yes", "purge divided --yes", "dlq retry divided"),
)
"""Those that need all shards. Their exit code is 4."""


@pytest.mark.parametrize("hanging", [0, 1])
def test_each_command_names_the_server_that_hangs_and_ends_with_its_exit_code(
    divided: DividedRun, hanging: int
) -> None:
    divided.project.ok("run", "divided", "--workers", "0", "--for", "1s", "--forever")
    divided.servers.nodes[hanging].freeze()
    codes = {**NAMED, **dict.fromkeys(REFUSED, 4)}
    codes |= NAMED_IF_NOT_FIRST if hanging else dict.fromkeys(NAMED_IF_NOT_FIRST, 4)

    said = {command: divided.project.start(*command.split()) for command in codes}

    assert {command: each.wait() for command, each in said.items()} == codes
    for command, each in said.items():
        text = each.stdout + each.stderr
        assert divided.servers.nodes[hanging].address in text, f"{command}: {text}"
        assert "Traceback" not in text, f"{command}: {text}"
        assert "FQ900" not in text, f"{command}: {text}"
        assert ("FQ401" in text) == (codes[command] == 4 and "--json" not in command), f"{command}: {text}"
    assert _missing(said["status divided --json"]) == [hanging, hanging + 3]


def _missing(status: FlowqProcess) -> list[int]:
    return [each["shard"] for each in json.loads(status.stdout)["missing"]]
