"""Loads flights from CSV files into SQLite: validated, in UTC, with names instead of codes: `flowq run flights`.

`python -m examples.flights.dataset` fetches the data. Some airports are missing in it: flights to them become dead
letters. `FLIGHTS_AIRPORTS=all` knows every airport; `flowq dlq retry flights` then runs those flights again.
"""

from __future__ import annotations

import csv as stdlib_csv
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from flowq import Pipeline, Reject, resource, stage, use
from flowq.sources import csv

DATA = Path(os.environ.get("FLIGHTS_DATA", ".flights"))
DATABASE = os.environ.get("FLIGHTS_DB", "flights.db")
NEW_YORK = ZoneInfo("America/New_York")


class Row(BaseModel):
    """A line of the file. Times are New York local time, 517 for 05:17; a cancelled flight has no departure."""

    year: int
    month: int
    day: int
    sched_dep_time: int
    dep_time: int | None = None
    dep_delay: int | None = None
    arr_delay: int | None = None
    carrier: str
    flight: int
    tailnum: str | None = None
    origin: str
    dest: str
    distance: int

    @property
    def key(self) -> str:
        """Unique to each flight, so that loading a file twice replaces each row by itself."""
        return f"{self.year}-{self.month:02}-{self.day:02} {self.carrier}{self.flight} {self.origin}"


class Flight(BaseModel):
    key: str
    departed: datetime
    dep_delay: int
    arr_delay: int | None
    carrier: str
    tailnum: str | None
    origin: str
    dest: str
    distance: int


class Cancelled(BaseModel):
    key: str
    scheduled: datetime
    carrier: str
    origin: str
    dest: str


class Flown(BaseModel):
    """A row of the table `flown`."""

    key: str
    departed: datetime
    dep_delay: int
    arr_delay: int | None
    airline: str
    plane: str | None
    origin: str
    dest: str
    dest_name: str
    distance: int


@dataclass(frozen=True)
class Tables:
    """Names by code."""

    airlines: dict[str, str]
    airports: dict[str, str]
    planes: dict[str, str]


@resource
def tables() -> Tables:
    if not DATA.is_dir():
        raise FileNotFoundError(f"there is no folder {DATA}; to fetch it: python -m examples.flights.dataset")
    airports = _table("airports.csv", "faa", "name")
    if os.environ.get("FLIGHTS_AIRPORTS") == "all":
        import airportsdata

        airports = {code: airport["name"] for code, airport in airportsdata.load("IATA").items()} | airports
    return Tables(_table("airlines.csv", "carrier", "name"), airports, _table("planes.csv", "tailnum", "model"))


@resource
def database() -> str:
    with closing(sqlite3.connect(DATABASE)) as db:
        db.execute("pragma journal_mode = wal")
        for table, model in {"flown": Flown, "cancelled": Cancelled}.items():
            columns = ", ".join(model.model_fields)
            db.execute(f"create table if not exists {table} ({columns}, primary key (key))")
    return DATABASE


rows = csv(Row, DATA / "2013-01.csv", null=("", "NA"))  # override with -a files=…


@stage(inline=True)
def validate(row: Row) -> Flight | Cancelled:
    scheduled = _utc(row, row.sched_dep_time)
    if row.dep_time is None:
        return Cancelled(key=row.key, scheduled=scheduled, **row.model_dump(include={"carrier", "origin", "dest"}))
    if row.dep_delay is None:
        raise Reject("departed, but the delay is missing")
    departed = scheduled + timedelta(minutes=row.dep_delay)
    on_the_clock = departed.astimezone(NEW_YORK)
    if (on_the_clock.hour * 100 + on_the_clock.minute) != row.dep_time % 2400:  # 2400 is midnight
        raise Reject(f"left at {row.dep_time}, which schedule and delay contradict")
    return Flight(
        key=row.key,
        departed=departed,
        dep_delay=row.dep_delay,
        arr_delay=row.arr_delay,
        carrier=row.carrier,
        tailnum=row.tailnum,
        origin=row.origin,
        dest=row.dest,
        distance=row.distance,
    )


@stage(inline=True)
def enrich(flight: Flight, tables: Tables = use(tables)) -> Flown:
    if flight.dest not in tables.airports:
        raise Reject(f"unknown airport {flight.dest}")
    return Flown(
        key=flight.key,
        departed=flight.departed,
        dep_delay=flight.dep_delay,
        arr_delay=flight.arr_delay,
        airline=tables.airlines[flight.carrier],
        plane=tables.planes.get(flight.tailnum or ""),
        origin=flight.origin,
        dest=flight.dest,
        dest_name=tables.airports[flight.dest],
        distance=flight.distance,
    )


@stage(batch=1000, linger=0.3, concurrency=1)
def load(flown: list[Flown], database: str = use(database)) -> None:
    _replace(database, "flown", flown)


@stage(batch=1000, linger=0.3, concurrency=1)
def load_cancelled(cancelled: list[Cancelled], database: str = use(database)) -> None:
    _replace(database, "cancelled", cancelled)


def _replace(database: str, table: str, models: list[Flown] | list[Cancelled]) -> None:
    rows = [tuple(model.model_dump(mode="json").values()) for model in models]
    with closing(sqlite3.connect(database, timeout=30)) as db, db:  # the second `db` is a transaction
        db.executemany(f"replace into {table} values ({', '.join('?' * len(rows[0]))})", rows)


def _utc(row: Row, clock: int) -> datetime:
    """Convert New York local time; daylight saving begins and ends in the middle of the data."""
    hour, minute = divmod(clock, 100)
    return datetime(row.year, row.month, row.day, hour, minute, tzinfo=NEW_YORK).astimezone(UTC)


def _table(name: str, key: str, value: str) -> dict[str, str]:
    with (DATA / name).open(newline="", encoding="utf-8") as lines:
        return {row[key]: row[value] for row in stdlib_csv.DictReader(lines)}


flights = Pipeline("flights", rows >> validate >> (enrich | load_cancelled), enrich >> load)
