"""Loads flights into PostgreSQL, a batch by COPY and one upsert: `flowq run flights_postgres`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import asyncpg

from flowq import Pipeline, resource, stage, use
from pipelines.flights import Cancelled, Flown, enrich, rows, validate

POSTGRES = os.environ.get("FLIGHTS_POSTGRES", "postgresql:///flights")

# Several workers may start at once: with the lock they create the tables one after the other.
TABLES = """
    select pg_advisory_xact_lock(2013);
    create table if not exists flown (
        key text primary key, departed timestamptz not null, dep_delay integer not null, arr_delay integer,
        airline text not null, plane text, origin text not null, dest text not null, dest_name text not null,
        distance integer not null);
    create table if not exists cancelled (
        key text primary key, scheduled timestamptz not null, carrier text not null,
        origin text not null, dest text not null);
"""


@resource
async def postgres() -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(POSTGRES, min_size=1, max_size=4) as pool:
        await pool.execute(TABLES)  # several statements in one call are one transaction
        yield pool


@stage(batch=5000, linger=0.5, concurrency=2)
async def load(flown: list[Flown], pool: asyncpg.Pool = use(postgres)) -> None:
    await _upsert(pool, "flown", flown)


@stage(batch=5000, linger=0.5, concurrency=1)
async def load_cancelled(cancelled: list[Cancelled], pool: asyncpg.Pool = use(postgres)) -> None:
    await _upsert(pool, "cancelled", cancelled)


async def _upsert(pool: asyncpg.Pool, table: str, models: list[Flown] | list[Cancelled]) -> None:
    """All rows or none. Sorted by key, so that two batches cannot wait for each other's rows."""
    columns = [*type(models[0]).model_fields]
    by_key = {model.key: tuple(getattr(model, column) for column in columns) for model in models}
    changes = ", ".join(f"{column} = excluded.{column}" for column in columns[1:])
    async with pool.acquire() as db, db.transaction():
        await db.execute(f"create temporary table incoming (like {table}) on commit drop")
        await db.copy_records_to_table("incoming", records=by_key.values(), columns=columns)
        await db.execute(
            f"insert into {table} select * from incoming order by key on conflict (key) do update set {changes}"
        )


flights = Pipeline("flights_postgres", rows >> validate >> (enrich | load_cancelled), enrich >> load)
