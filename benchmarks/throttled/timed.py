"""The crawl of pipelines/scrape.py, with a sink that records when each page was stored."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing

from flowq import Pipeline, resource, stage, use
from pipelines.scrape import Doc, fetch, parse, seeds

DATABASE = "timed.db"


@resource
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(DATABASE, check_same_thread=False)) as db:
        db.execute("create table if not exists stored (url text primary key, at real)")
        yield db


@stage(batch=200, linger=0.1, concurrency=1)
def store(docs: list[Doc], db: sqlite3.Connection = use(database)) -> None:
    now = time.time()
    with db:
        db.executemany("insert or ignore into stored values (?, ?)", [(doc.url, now) for doc in docs])


timed = Pipeline("timed", seeds >> fetch >> (parse | fetch), parse >> (store | fetch))
