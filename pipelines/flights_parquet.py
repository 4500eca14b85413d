"""Writes flights to Parquet files, one for each batch: `flowq run flights_parquet`.

A batch that runs again overwrites its file. But a killed worker may leave a file whose rows appear again in another
batch, so readers remove duplicates: `select distinct * from 'flights/flown/*.parquet'`.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import duckdb

from flowq import Pipeline, stage
from pipelines.flights import Cancelled, Flown, enrich, rows, validate

FOLDER = Path(os.environ.get("FLIGHTS_PARQUET", "flights"))


@stage(batch=10_000, linger=1.0, concurrency=1)
def load(flown: list[Flown]) -> None:
    _write("flown", flown)


@stage(batch=10_000, linger=1.0, concurrency=1)
def load_cancelled(cancelled: list[Cancelled]) -> None:
    _write("cancelled", cancelled)


def _write(table: str, models: list[Flown] | list[Cancelled]) -> None:
    """Write a file named after its contents, never visible half-written."""
    rows = {model.key: model.model_dump() for model in models}
    file = FOLDER / table / f"{hashlib.blake2b(repr(sorted(rows)).encode(), digest_size=12).hexdigest()}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = [*type(models[0]).model_fields]
    selected = ", ".join(f"unnest(?) as {column}" for column in columns)
    values = [[row[column] for row in rows.values()] for column in columns]
    half_written = file.with_suffix(f".{os.getpid()}")
    with duckdb.connect() as db:
        db.execute(f"copy (select {selected}) to '{half_written}' (format parquet, compression zstd)", values)
    half_written.replace(file)


flights = Pipeline("flights_parquet", rows >> validate >> (enrich | load_cancelled), enrich >> load)
