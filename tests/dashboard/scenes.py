"""Pipelines in all states that a page shows: at work, jammed, on hold, paused, with dead letters, large, never run.

A sleep in a handler is the work that it simulates; no test waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.dashboard.web_page import WebPage

SCRAPE = '''
"""A crawl of three hosts: one has a low rate, one asks for a pause, some pages are missing."""
from __future__ import annotations
import asyncio, random
from collections.abc import AsyncIterator, Iterator
from pydantic import BaseModel
from flowq import Pipeline, Rate, Reject, Retry, RetryLater, source, stage

HOSTS = ("docs.sqlite.test", "www.sqlite.test", "archive.sqlite.test")

class Link(BaseModel):
    url: str
    host: str
    depth: int = 0

class Page(BaseModel):
    url: str
    html: str = ""

class Doc(BaseModel):
    url: str
    title: str

@source
async def seeds() -> AsyncIterator[Link]:
    for n in range(20_000):
        yield Link(url=f"http://{HOSTS[n % 3]}/c3ref/{n}.html", host=HOSTS[n % 3])
        if n > 300:
            await asyncio.sleep(0.03)  # a source that goes on while someone watches

@stage(dedup="url", rate=Rate(30, by="host"), concurrency=8, maxsize=10_000)
async def fetch(link: Link) -> Page:
    n = hash(link.url) % 100
    await asyncio.sleep(0.02 + random.random() ** 3 / 4)  # the work of this stage
    if link.host.startswith("archive") and n < 8:
        raise RetryLater("HTTP 429", after=40, hold="host")
    if n < 14:
        raise Reject("HTTP 404")
    return Page(url=link.url, html="<p>" * 40)

@stage(concurrency=2)
async def parse(page: Page) -> AsyncIterator[Doc | Link]:
    await asyncio.sleep(0.004 + random.random() / 50)
    yield Doc(url=page.url, title="SQLite C Interface")
    if hash(page.url) % 9 == 0:
        yield Link(url=page.url + "?more", host=page.url.split("/")[2], depth=1)

@stage(concurrency=10, retry=Retry(attempts=2, base=0.2))
async def store(doc: Doc) -> None:
    await asyncio.sleep(0.006)
    if hash(doc.url) % 90 == 1:
        raise ValueError("the title is longer than 200 characters")

scrape = Pipeline("scrape", seeds >> fetch >> parse >> (store | fetch))
'''

DISPATCH = '''
"""Webhooks and e-mails about late flights; e-mail is slow, and what feeds it is held back."""
from __future__ import annotations
import asyncio, random
from collections.abc import AsyncIterator
from pydantic import BaseModel
from flowq import Pipeline, Reject, source, stage

class Row(BaseModel):
    key: str
    late: int

class Hook(BaseModel):
    id: str

class Mail(BaseModel):
    id: str
    to: str

@source
async def rows() -> AsyncIterator[Row]:
    for n in range(200_000):
        yield Row(key=f"2013-01-01 UA{n}", late=n % 90)

@stage(concurrency=4, maxsize=600)
async def notify(row: Row) -> Hook | Mail:
    await asyncio.sleep(0.002)
    return Mail(id=row.key, to="ops@airline.example") if row.late % 2 else Hook(id=row.key)

@stage(concurrency=8)
async def webhook(hook: Hook) -> None:
    await asyncio.sleep(0.01 + random.random() / 50)
    if hash(hook.id) % 60 == 0:
        raise Reject("HTTP 410: the receiver no longer accepts webhooks")

@stage(concurrency=2, maxsize=800)
async def email(mail: Mail) -> None:
    await asyncio.sleep(0.03 + random.random() / 10)
    if hash(mail.id) % 50 == 0:
        raise Reject("SMTP 550 no such mailbox")

dispatch = Pipeline("dispatch", rows >> notify >> (webhook | email))
'''

THUMBNAILS = '''
"""Never run."""
from __future__ import annotations
from collections.abc import Iterator
from pydantic import BaseModel
from flowq import Pipeline, source, stage

class Image(BaseModel):
    path: str

class Thumbnail(BaseModel):
    path: str
    width: int

@source
def images() -> Iterator[Image]:
    yield Image(path="a.png")

@stage
def resize(image: Image) -> Thumbnail:
    return Thumbnail(path=image.path, width=200)

@stage
def upload(thumbnail: Thumbnail) -> None: ...

thumbnails = Pipeline("thumbnails", images >> resize >> upload)
'''

INVOICES = THUMBNAILS.replace("thumbnails", "invoices").replace("Never run.", "Paused with work in it.")


def catalogue(branches: int = 9, length: int = 5) -> str:
    """A pipeline of `branches` × `length` stages and a few more, jammed in one of them."""
    lines = [
        '"""Many stages."""',
        "from __future__ import annotations",
        "import asyncio",
        "from collections.abc import AsyncIterator",
        "from pydantic import BaseModel",
        "from flowq import Pipeline, source, stage",
        "class Offer(BaseModel):\n    n: int",
        "@source\nasync def feed() -> AsyncIterator[Offer]:\n    for n in range(100_000):\n"
        "        yield Offer(n=n)\n        await asyncio.sleep(0.1)",
        "@stage\nasync def validate_offer(offer: Offer) -> Offer:\n    return offer",
        "@stage(maxsize=400)\nasync def merge_product(offer: Offer) -> Offer:\n    await asyncio.sleep(0.4)\n"
        "    return offer",
        "@stage\nasync def publish(offer: Offer) -> None: ...",
    ]
    words = ("translate", "resize_image", "match_category", "score", "enrich")[:length]
    flows = ["feed >> validate_offer", "merge_product >> publish"]
    for branch in range(branches):
        names = [f"{word}_{branch}" for word in words]
        lines += [f"@stage\nasync def {name}(offer: Offer) -> Offer:\n    return offer" for name in names]
        flows.append(" >> ".join(["validate_offer", *names, "merge_product"]))
    lines.append(f'catalogue = Pipeline("catalogue", {", ".join(flows)})')
    return "\n\n".join(lines) + "\n"


@contextmanager
def scenes(*options: str, many_stages: bool = True) -> Iterator[WebPage]:
    """The page of all of them, with two or three at work and dead letters in one. `options`: of `flowq dashboard`."""
    pipelines = {"scrape": SCRAPE, "dispatch": DISPATCH, "thumbnails": THUMBNAILS, "invoices": INVOICES}
    if many_stages:
        pipelines["catalogue"] = catalogue()
    with WebPage(pipelines, *options, "--show-bodies") as page:
        page.project.ok("push", "invoices.resize", '{"path": "2013.png"}')
        page.project.ok("pause", "invoices")
        for name in ["scrape", "dispatch", "catalogue"][: 2 + many_stages]:
            page.project.start("run", name)
        page.process.wait_for(lambda: 'class="kinds"' in page.get("/p/scrape/dead").text)
        yield page
