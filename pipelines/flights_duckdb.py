"""Loads flights into DuckDB, which allows one writing process at a time: `flowq run flights_duckdb`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import duckdb

from flowq import Pipeline, resource, stage, use
from pipelines.flights import Cancelled, Flown, enrich, rows, validate

DATABASE = os.environ.get("FLIGHTS_DUCKDB", "flights.duckdb")
COLUMNS = {
    "flown": """key varchar primary key, departed timestamptz, dep_delay integer, arr_delay integer, airline varchar,
        plane varchar, origin varchar, dest varchar, dest_name varchar, distance integer""",
    "cancelled": "key varchar primary key, scheduled timestamptz, carrier varchar, origin varchar, dest varchar",
}
ONE_AT_A_TIME = threading.Lock()  # two threads must not use one connection at once


@resource
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(DATABASE) as db:
        for table, columns in COLUMNS.items():
            db.execute(f"create table if not exists {table} ({columns})")
        yield db


@stage(batch=5000, linger=0.5, concurrency=1)
def load(flown: list[Flown], db: duckdb.DuckDBPyConnection = use(database)) -> None:
    _replace(db, "flown", flown)


@stage(batch=5000, linger=0.5, concurrency=1)
def load_cancelled(cancelled: list[Cancelled], db: duckdb.DuckDBPyConnection = use(database)) -> None:
    _replace(db, "cancelled", cancelled)


def _replace(db: duckdb.DuckDBPyConnection, table: str, models: list[Flown] | list[Cancelled]) -> None:
    """One statement for the whole batch, a list for each column: row by row would take a hundred times as long."""
    by_key = {model.key: model.model_dump(mode="json").values() for model in models}
    columns = [list(column) for column in zip(*by_key.values(), strict=True)]
    with ONE_AT_A_TIME:
        db.execute(f"insert or replace into {table} select {', '.join(['unnest(?)'] * len(columns))}", columns)


flights = Pipeline("flights_duckdb", rows >> validate >> (enrich | load_cancelled), enrich >> load)
