"""The crawl of pipelines/scrape.py as a Scrapy spider, run by an interpreter without flowq."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

import scrapy


class StoreInSqlite:
    """Stores 200 pages in one transaction, like the sink of the pipeline."""

    def open_spider(self) -> None:
        self._rows: list[tuple[str, str, int]] = []
        self._db = sqlite3.connect("scrapy.db")
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("create table doc (url text primary key, title text, links integer)")

    def process_item(self, item: dict[str, Any]) -> dict[str, Any]:
        self._rows.append((item["url"], item["title"], item["links"]))
        if len(self._rows) >= 200:
            self._store()
        return item

    def close_spider(self) -> None:
        self._store()
        self._db.close()

    def _store(self) -> None:
        self._db.executemany("replace into doc values (?, ?, ?)", self._rows)
        self._db.commit()
        self._rows.clear()


class Pages(scrapy.Spider):
    """Follows every link within the site of `url`."""

    name = "pages"
    custom_settings = {  # noqa: RUF012  (as every spider writes it)
        "ITEM_PIPELINES": {StoreInSqlite: 100},
        "CONCURRENT_REQUESTS": 8,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 8,
        "DOWNLOAD_DELAY": 0,
        "ROBOTSTXT_OBEY": True,
        "HTTPERROR_ALLOWED_CODES": [404],
        "LOG_LEVEL": "WARNING",
        "TELNETCONSOLE_ENABLED": False,
    }

    def __init__(self, url: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.start_urls = [url]

    def parse(self, response: Any) -> Iterator[Any]:
        if response.status == 404 or not hasattr(response, "css"):
            return
        links = [absolute(response.url, href) for href in response.css("a::attr(href)").getall()]
        yield {"url": response.url, "title": response.css("title::text").get("").strip(), "links": len(links)}
        site = urlsplit(response.url)[:2]
        for link in links:
            if urlsplit(link)[:2] == site:
                yield scrapy.Request(link, callback=self.parse)


def absolute(base: str, href: str) -> str:
    try:
        return urldefrag(urljoin(base, href)).url
    except ValueError:  # such as http://[
        return ""
