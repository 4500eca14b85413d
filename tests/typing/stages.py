"""The stages that the typing corpus wires: one of each kind that users write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel
from typing_extensions import TypedDict

from flowq import Context, Dedup, Rate, Retry, SourceContext, resource, source, stage, use
from flowq.sources import csv, ndjson

T = TypeVar("T")


class Link(BaseModel):
    url: str
    depth: int = 0

    @property
    def host(self) -> str:
        return self.url.split("/")[2]


class Page(BaseModel):
    url: str
    html: str


class Doc(BaseModel):
    url: str
    title: str


class Scan(Doc):
    pages: int


class Row(TypedDict):
    id: int
    title: str


@dataclass
class Flight:
    number: str


class Box(BaseModel, Generic[T]):
    content: T


State = Literal["new", "old"]


class Client:
    async def get(self, url: str) -> str:
        return url


@resource
async def client() -> AsyncIterator[Client]:
    yield Client()


@resource
def limit() -> int:
    return 3


@source
async def seeds(url: str) -> AsyncIterator[Link]:
    yield Link(url=url)


@source
def flights() -> Iterator[Flight]:
    yield Flight("AB12")


@source
def resuming(ctx: SourceContext[int], up_to: int = 3) -> Iterator[Link]:
    for n in range(ctx.cursor or 0, up_to):
        yield Link(url=str(n))
        ctx.save(n + 1)


@source
async def resuming_async(ctx: SourceContext[int]) -> AsyncIterator[Link]:
    yield Link(url=str(ctx.cursor))


links = ndjson(Link, "links.ndjson", name="links")
docs = csv(Doc, ["docs", "more.csv.gz"], name="docs", delimiter=";")


@stage(
    concurrency=8,
    dedup=Dedup("url", scope="forever", ttl="7d"),
    rate=Rate(20, by="host", burst=2, concurrency=2, adaptive=True, keys={"slow.example": Rate(1, concurrency=1)}),
    retry=Retry(attempts=5),
    timeout="30s",
)
async def fetch(link: Link, http: Client = use(client)) -> Page | None:
    return Page(url=link.url, html=await http.get(link.url))


@stage(concurrency=2)
def parse(page: Page) -> Iterator[Doc | Link]:
    yield Doc(url=page.url, title="")
    yield Link(url=page.url)


@stage
async def crawl(page: Page) -> AsyncIterator[Link]:
    yield Link(url=page.url)


@stage
def extract(page: Page) -> Doc:
    return Doc(url=page.url, title=page.html)


@stage
def split(page: Page) -> list[Doc]:
    return [Doc(url=page.url, title=page.html)]


@stage
async def scan(page: Page) -> list[Scan]:
    return [Scan(url=page.url, title="", pages=1)]


@stage
async def tabulate(doc: Doc) -> Row:
    return Row(id=1, title=doc.title)


@stage
def land(flight: Flight) -> Doc:
    return Doc(url=flight.number, title="")


@stage(batch=200, linger=0.3)
async def store(docs: list[Doc], maximum: int = use(limit)) -> None: ...


@stage(batch=50)
async def translate(docs: list[Doc]) -> list[Doc]:
    return docs


@stage
async def wrap(doc: Doc) -> Box[Doc]:
    return Box(content=doc)


@stage
async def unwrap(box: Box[Doc]) -> Doc:
    return box.content


@stage
def judge(doc: Doc) -> State:
    return "new" if doc.title else "old"


@stage
def tell(state: State) -> None: ...


@stage
def weigh(doc: Doc) -> float:
    return 0


@stage
def total(weight: float) -> None: ...


@stage
async def insert(row: Row) -> None: ...


@stage(compress=10_000, claim_above=100_000)
def archive(page: Page) -> None: ...


@stage
async def log(doc: Doc) -> None: ...


@stage
async def count(message: Doc | Link) -> None: ...


@stage
def follow(link: Link, ctx: Context) -> None: ...


class Sieve:
    """A stage with state: its instance is called."""

    def __call__(self, doc: Doc) -> Doc | None:
        return doc

    def keep(self, doc: Doc) -> Doc:
        return doc


sieve = stage(concurrency=1, name="sieve")(Sieve())
keep = stage(Sieve().keep)
