"""Pipelines that the tests of the web page share."""

from __future__ import annotations

LAB = """
from __future__ import annotations
from collections.abc import Iterator
from pydantic import BaseModel
from flowq import Pipeline, Rate, Reject, Retry, source, stage

class Link(BaseModel):
    url: str
    host: str = "example.org"
    depth: int = 0

class Page(BaseModel):
    url: str
    html: str = ""

@source
def seeds() -> Iterator[Link]:
    for n in range(10):
        yield Link(url=f"https://example.org/{n}")

@stage(dedup="url", rate=Rate(1000, by="host"), concurrency=4, maxsize=1000)
async def fetch(link: Link) -> Page:
    if link.url.endswith("/404"): raise Reject("HTTP 404")
    return Page(url=link.url)

@stage
def parse(page: Page) -> Iterator[Page | Link]:
    yield page

@stage(retry=Retry(attempts=1))
async def store(page: Page) -> None:
    if page.url.endswith("/bad"): raise ValueError("no title")

lab = Pipeline("lab", seeds >> fetch >> parse >> (store | fetch))
"""
"""A crawl without network: "…/404" dies in fetch, "…/bad" in store, ten others are stored."""
