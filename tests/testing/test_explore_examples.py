"""The pipelines of the repository under random schedules and faults, with fakes for everything outside."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiosmtplib
import httpx2

from flowq.scraping import Known, Link, Page
from flowq.testing import explore
from flowq.testing.pipeline_harness import Harness
from pipelines import dispatch, flights, scrape
from tests.testing.seeds import SEEDS

AIRPORTS = {"ATL": "Atlanta", "ORD": "Chicago"}  # BQN is missing


def row(flight: int, *, dest: str = "ATL", dep_delay: int | None = 5) -> flights.Row:
    """A flight that should leave at 8:00, and leaves so many minutes later; None if it is cancelled."""
    dep_time = None if dep_delay is None else 800 + dep_delay // 60 * 100 + dep_delay % 60
    return flights.Row(
        year=2013,
        month=1,
        day=1,
        sched_dep_time=800,
        dep_time=dep_time,
        dep_delay=dep_delay,
        carrier=("AA", "DL")[flight % 2],
        flight=flight,
        origin="JFK",
        dest=dest,
        distance=100,
    )


# scrape

SITE: Mapping[str, tuple[str, ...]] = {
    "/": ("/a", "/b", "/c"),
    "/a": ("/", "/d"),
    "/b": ("/d", "/gone"),
    "/c": ("/e",),
    "/d": ("/a", "/b"),
    "/e": (),
}


class Site:
    """A website in memory, which takes the place of a `Web`."""

    async def fetch(self, link: Link, known: Known | None = None) -> list[Page | Link]:
        await asyncio.sleep(0.05)
        path = link.url.removeprefix("http://site.example")
        if path not in SITE:
            return []
        html = f"<title>{path}</title>" + "".join(f"<a href={target}>x</a>" for target in SITE[path])
        return [Page(url=link.url, site=link.site, depth=link.depth, html=html)]

    async def crawl_delay_seconds(self, url: str) -> float:
        return 0.0


async def crawl(h: Harness) -> None:
    await h.run("seeds", url="http://site.example/")
    await h.drain()
    titles = h.resource(scrape.database).execute("select title from doc order by title").fetchall()
    assert titles == [(path,) for path in sorted(SITE)]


def site_and_database() -> Mapping[Any, Any]:
    db = sqlite3.connect(":memory:", check_same_thread=False)
    db.execute("create table doc (url text primary key, title text, links integer)")
    db.execute("create table known (url text primary key, page text)")
    return {scrape.web: Site(), scrape.database: db, scrape.last_crawl: db}


async def test_a_crawl_stores_every_page_whatever_happens() -> None:
    await explore(scrape.scrape, crawl, seeds=SEEDS, resources=site_and_database)


# flights

ROWS = [
    *(row(number) for number in range(6)),
    *(row(number, dest="ORD", dep_delay=90) for number in range(6, 9)),
    *(row(number, dest="BQN") for number in (9, 10)),
    *(row(number, dep_delay=None) for number in (11, 12)),
]


def tables_and_database(folder: Path) -> Callable[[], Mapping[Any, Any]]:
    """A function that gives the names of everything, and an empty database."""
    numbers = iter(range(10_000))

    def make() -> Mapping[Any, Any]:
        database = str(folder / f"{next(numbers)}.db")
        with closing(sqlite3.connect(database)) as db:
            for table, model in {"flown": flights.Flown, "cancelled": flights.Cancelled}.items():
                db.execute(f"create table {table} ({', '.join(model.model_fields)}, primary key (key))")
        tables = flights.Tables({"AA": "American", "DL": "Delta"}, AIRPORTS, {})
        return {flights.tables: tables, flights.database: database}

    return make


async def load(h: Harness) -> None:
    await h.feed(flights.validate, *ROWS)
    await h.drain()
    with closing(sqlite3.connect(h.resource(flights.database))) as db:
        flown = [key for (key,) in db.execute("select key from flown order by key")]
        cancelled = [key for (key,) in db.execute("select key from cancelled order by key")]
    assert flown == sorted(each.key for each in ROWS if each.dest in AIRPORTS and each.dep_time is not None)
    assert cancelled == sorted(each.key for each in ROWS if each.dep_time is None)
    assert len(h.dead(flights.enrich)) == 2


async def test_every_flight_is_loaded_or_a_dead_letter_whatever_happens(tmp_path: Path) -> None:
    await explore(flights.flights, load, seeds=SEEDS, resources=tables_and_database(tmp_path))


# dispatch

NOTIFIED = [
    *(row(number) for number in range(3)),
    *(row(number, dep_delay=90) for number in range(3, 9)),
    *(row(number, dep_delay=None) for number in range(9, 12)),
]


class Receivers:
    """Webhooks by their id, of which a receiver takes each once. It is busy at first."""

    def __init__(self) -> None:
        self.applied: dict[str, str] = {}
        self._requests = Counter[str]()

    async def post(self, url: str, *, content: str, headers: Mapping[str, str]) -> httpx2.Response:
        await asyncio.sleep(0.1)
        self._requests[url] += 1
        request = httpx2.Request("POST", f"http://receivers.example{url}")
        if self._requests[url] <= 2:
            return httpx2.Response(503, headers={"Retry-After": "20"}, request=request)
        self.applied[headers["webhook-id"]] = json.loads(content)["data"]["id"]
        return httpx2.Response(204, request=request)


class Mailbox:
    """Mails by their Message-ID. It asks to try the second one again later."""

    is_connected = False

    def __init__(self) -> None:
        self.subjects: dict[str, str] = {}
        self._n = 0

    async def connect(self) -> None:
        self.is_connected = True

    async def send_message(self, message: EmailMessage) -> None:
        await asyncio.sleep(0.1)
        self._n += 1
        if self._n == 2:
            raise aiosmtplib.SMTPResponseException(451, "try again later")
        self.subjects[message["Message-ID"]] = message["Subject"]


async def send(h: Harness) -> None:
    await h.feed(dispatch.notify, *NOTIFIED)
    await h.drain()
    applied = sorted(h.resource(dispatch.client).applied.values())
    assert applied == sorted(each.key for each in NOTIFIED if (each.dep_delay or 0) >= 60)
    subjects = sorted(h.resource(dispatch.mailer).subjects.values())
    assert subjects == sorted(f"{each.key} to ATL is cancelled" for each in NOTIFIED if each.dep_time is None)
    assert not h.dead(dispatch.webhook)
    assert not h.dead(dispatch.email)


async def test_every_webhook_and_mail_is_sent_once_for_its_id_whatever_happens() -> None:
    fakes = {dispatch.client: Receivers, dispatch.mailer: Mailbox}
    await explore(
        dispatch.dispatch, send, seeds=SEEDS, resources=lambda: {resource: fake() for resource, fake in fakes.items()}
    )
