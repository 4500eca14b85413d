"""`flowq run flights` and its variants: what they load and reject, compared with an oracle that reads the files."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import duckdb
import pytest

from examples.flights.oracle import Expected, expected
from tests.integration.flowq_process import FlowqProcess
from tests.integration.january import January, january
from tests.integration.project import Project
from tests.postgres_server import PostgresServer

ONE_DAY = (1,)

Rows = dict[str, tuple[str, str, int]]


@dataclass(frozen=True)
class Loading:
    """A project with the pipelines for flights, and what is to come of its file."""

    flights: January
    expected: Expected

    @property
    def project(self) -> Project:
        return self.flights.project

    @property
    def file(self) -> Path:
        return self.flights.file

    def run(self, pipeline: str, *options: str, **variables: str) -> FlowqProcess:
        return self.flights.run(pipeline, *options, **variables)


@pytest.fixture
def few(tmp_path: Path) -> Iterator[Loading]:
    """One day of flights."""
    with january(tmp_path, days=ONE_DAY) as flights:
        yield Loading(flights, expected(flights.data, days=ONE_DAY))


def sqlite_rows(project: Project) -> tuple[Rows, dict[str, str]]:
    with contextlib.closing(sqlite3.connect(project.folder / "flights.db")) as db:
        flown = db.execute("select key, departed, dest, distance from flown").fetchall()
        cancelled = db.execute("select key, scheduled from cancelled").fetchall()
    return {key: (departed, dest, distance) for key, departed, dest, distance in flown}, dict(cancelled)


def test_january_and_the_repair_of_its_dead_letters(tmp_path: Path) -> None:
    with january(tmp_path) as flights:
        outcome, project = expected(flights.data), flights.project
        assert min(len(outcome.flown), len(outcome.cancelled), len(outcome.unknown)) > 100

        first = flights.run("flights")

        assert first.wait() == 3, first.stderr
        stages = first.summary["stages"]
        assert stages["validate"]["in"] == stages["validate"]["ok"] == outcome.rows
        assert stages["enrich"]["in"] == outcome.departed
        assert stages["enrich"]["ok"] == stages["load"]["ok"] == len(outcome.flown)
        assert stages["enrich"]["dead"] == len(outcome.unknown)
        assert stages["load_cancelled"]["ok"] == len(outcome.cancelled)
        assert sqlite_rows(project) == (outcome.flown, outcome.cancelled)
        listed = project.ok("dlq", "ls", "flights")
        for airport, count in outcome.dead.items():
            assert f"Reject: unknown airport {airport} " in listed.stdout
            assert f" {count} " in listed.stdout

        project.ok("dlq", "retry", "flights", "--stage", "enrich")
        repaired = flights.run("flights", FLIGHTS_AIRPORTS="all")

        assert repaired.wait() == 0, repaired.stderr
        assert repaired.summary["stages"]["load"]["ok"] == outcome.departed
        assert [counters["dead"] for counters in repaired.summary["stages"].values()] == [0] * 5
        assert sqlite_rows(project) == (outcome.flown | outcome.unknown, outcome.cancelled)


def test_a_second_run_loads_only_what_was_appended_and_rejects_what_is_wrong(few: Loading) -> None:
    few.run("flights")
    with few.file.open(encoding="utf-8") as lines:
        row = next(csv.DictReader(lines))
    new = row | {"flight": "9999"}
    not_a_number = row | {"distance": "far"}
    contradictory = row | {"dep_time": "1200"}
    with few.file.open("a", encoding="utf-8", newline="") as lines:
        csv.DictWriter(lines, row).writerows([new, not_a_number, contradictory])

    again = few.run("flights")

    assert again.wait() == 3, again.stderr
    validate = again.summary["stages"]["validate"]
    assert (validate["in"], validate["ok"], validate["dead"]) == (3, 1, 2)
    flown, _ = sqlite_rows(few.project)
    assert len(flown) == len(few.expected.flown) + 1


async def test_postgres_holds_each_flight_once_when_a_file_comes_twice(few: Loading) -> None:
    with PostgresServer() as postgres:
        await asyncio.to_thread(run_twice, few, "flights_postgres", FLIGHTS_POSTGRES=postgres.url)
        db = await asyncpg.connect(postgres.url)
        flown = await db.fetch("select key, departed, dest, distance from flown")
        cancelled = await db.fetch("select key, scheduled from cancelled")
        await db.close()
    assert {key: (written(departed), dest, distance) for key, departed, dest, distance in flown} == few.expected.flown
    assert {key: written(scheduled) for key, scheduled in cancelled} == few.expected.cancelled


@pytest.mark.parametrize(
    ("pipeline", "where"),
    [
        ("flights_duckdb", lambda folder, table: (str(folder / "flights.duckdb"), f"select * from {table}")),
        (
            "flights_parquet",
            lambda folder, table: (":memory:", f"select distinct * from '{folder}/flights/{table}/*.parquet'"),
        ),
    ],
)
def test_duckdb_and_parquet_hold_each_flight_once_when_a_file_comes_twice(
    few: Loading, pipeline: str, where: Callable[[Path, str], tuple[str, str]]
) -> None:
    run_twice(few, pipeline)

    written = "strftime({} at time zone 'UTC', '%Y-%m-%dT%H:%M:%SZ')"
    database, flown = where(few.project.folder, "flown")
    _, cancelled = where(few.project.folder, "cancelled")
    with duckdb.connect(database) as db:
        rows = db.execute(f"select key, {written.format('departed')}, dest, distance from ({flown})").fetchall()
        stopped = db.execute(f"select key, {written.format('scheduled')} from ({cancelled})").fetchall()
    assert len(rows) == len(few.expected.flown)
    assert {key: tuple(rest) for key, *rest in rows} == few.expected.flown
    assert len(stopped) == len(few.expected.cancelled)
    assert dict(stopped) == few.expected.cancelled


def written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def run_twice(few: Loading, pipeline: str, **variables: str) -> None:
    for options in ((), ("--fresh",)):
        run = few.run(pipeline, *options, **variables)
        assert run.wait() == 3, run.stderr
        stages = run.summary["stages"]
        assert stages["load"]["ok"] == len(few.expected.flown)
        assert stages["enrich"]["dead"] == len(few.expected.unknown)
        assert stages["load_cancelled"]["ok"] == len(few.expected.cancelled)
