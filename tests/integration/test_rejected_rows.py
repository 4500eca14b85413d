"""What a source had to reject is on the screen when a run ends, and in its logs: how much, where, and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.project import Project

SHOP = """
    from pydantic import BaseModel

    from flowq import Pipeline, Retry, stage
    from flowq.sources import csv


    class Order(BaseModel):
        id: int
        note: str = "none"


    @stage(retry=Retry(attempts=1))
    def store(order: Order) -> None:
        if order.id == 99:
            raise ValueError("the handler fails")


    shop = Pipeline("shop", csv(Order, "orders.csv") >> store)
"""
NOT_A_NUMBER = (
    "DecodeError: not a valid Order: id: Input should be a valid integer, unable to parse string as an integer"
)
ORDERS = b"id,note\n1,a\nx,b\n3\n4,d,e\nfive,f\n6,g\n" + "7,größe\n".encode("latin-1")


pytestmark = pytest.mark.project({"shop": SHOP})


def test_a_run_ends_with_the_first_of_what_was_rejected_with_line_and_reason(project: Project) -> None:
    (project.folder / "orders.csv").write_bytes(ORDERS)
    run = project.flowq("run", "shop", "--memory", "--max-dead", "9")

    assert run.returncode == 0, run.stderr
    screen = run.stderr.splitlines()
    at = screen.index("rejected      5 values from sources, first:")
    assert screen[at + 1 : at + 7] == [
        "  orders.csv, line 3, column id: x,b",
        f"      {NOT_A_NUMBER.removeprefix('DecodeError: ')}",
        "  orders.csv, line 4, column note: 3",
        "      a ragged row, cells: 1, columns: 2",
        "  orders.csv, line 5, column note: 4,d,e",
        "      a ragged row, cells: 3, columns: 2",
    ]


def test_logs_and_summaries_in_json_have_it_too_and_only_what_is_new(project: Project) -> None:
    orders: Path = project.folder / "orders.csv"
    orders.write_bytes(ORDERS)
    run = project.flowq("run", "shop", "--log-format", "json")
    last = json.loads(run.stderr.splitlines()[-1])["summary"]
    assert last["rejected"]["count"] == 5
    assert last["rejected"]["first"][0] == {
        "stage": "store",
        "read_at": "orders.csv, line 3, column id: x,b",
        "error": NOT_A_NUMBER,
    }

    with orders.open("ab") as file:
        file.write(b"99,fails\n")  # dies in the handler: no row was rejected
    assert "rejected" not in json.loads(project.flowq("run", "shop", "--json").stdout.splitlines()[-1])
    with orders.open("ab") as file:
        file.write(b"y,late\n")
    summary = json.loads(project.flowq("run", "shop", "--json").stdout.splitlines()[-1])
    assert summary["rejected"]["count"] == 1
    assert summary["rejected"]["first"][0]["read_at"] == "orders.csv, line 10, column id: y,late"
