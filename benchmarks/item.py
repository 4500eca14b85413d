"""The message of every workload: a model of about 200 bytes of JSON."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel


class Item(BaseModel):
    """One message. `sent_ns` is when it was pushed, on the monotonic clock of this machine."""

    id: str
    number: int
    url: str
    title: str
    tags: list[str]
    sent_ns: int = 0


class Link(BaseModel):
    """A page emits many of these."""

    url: str
    depth: int = 1


def item(number: int, sent_ns: int = 0) -> Item:
    return Item(
        id=f"item-{number:012}",
        number=number,
        url=f"https://example.org/catalogue/{number}.html",
        title=f"Part {number} of the catalogue",
        tags=["red", "green", "blue", "small", "large"],
        sent_ns=sent_ns,
    )


def items(n: int) -> Iterator[Item]:
    """Create `n` different messages."""
    return map(item, range(n))


LINKS_PER_PAGE, NEW_PER_PAGE = 100, 10


def links_of(page: Item) -> Iterator[Link]:
    """Create a hundred links: ninety are on every page, ten only on this one."""
    for place in range(LINKS_PER_PAGE):
        is_new = place < NEW_PER_PAGE
        yield Link(url=f"https://example.org/{page.number if is_new else 'menu'}/{place}")
