"""Bodies of messages are shown on this machine or where allowed; fields named like secrets are on no page."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.dashboard.web_page import WebPage

ORDERS = """
from __future__ import annotations
from pydantic import BaseModel
from flowq import Pipeline, Reject, stage

class Order(BaseModel):
    url: str
    customer: str
    api_key: str
    headers: dict[str, str]

@stage
async def bill(order: Order) -> None:
    raise Reject("no such customer")

orders = Pipeline("orders", bill)
"""
ORDER = (
    '{"url": "https://shop.example/7", "customer": "Ann Example", "api_key": "k3y-of-ann",'
    ' "headers": {"Authorization": "Bearer b3arer", "Cookie": "c00kie", "Accept": "text/html"}}'
)
TOKEN = "k3rJq8Zt1vXw5yB7nM2pD4sF"
SECRETS = ("k3y-of-ann", "b3arer", "c00kie")


@pytest.fixture(scope="module")
def orders() -> Iterator[WebPage]:
    """A dead letter with a customer and secrets in it."""
    with WebPage({"orders": ORDERS}) as page:
        page.project.ok("push", "orders.bill", ORDER)
        page.project.run("run", "orders", "--drain")
        yield page


def texts(page: WebPage, *options: str, listen: str = "0", **variables: str) -> str:
    """All that a server says about the letter: its page, its message as a file, its trace, and the numbers."""
    page.restart(*options, listen=listen, **variables)
    headers = {"authorization": f"Bearer {TOKEN}"}
    kinds = page.get("/p/orders/dead", **headers).text
    (kind,) = set(re.findall(r'href="(/p/orders/dead/\w+)', kinds))
    letter = page.get(kind, **headers).text
    (letter_id,) = set(re.findall(r"\d{13}-\d+", letter))
    pages = [kinds, letter, *(page.get(f"{kind}/{letter_id}{path}", **headers).text for path in ("", "/message"))]
    traces = set(re.findall(r'href="(/p/orders/trace/[^"?#]+)', pages[1]))
    pages += [page.get(path, **headers).text for path in (*traces, "/p/orders", "/p/orders.json", "/p/orders/workers")]
    assert all("no such customer" in text for text in pages[:3])
    return "\n".join(pages)


@pytest.mark.parametrize(
    ("options", "listen", "variables", "shows"),
    [
        ((), "127.0.0.1:0", {}, {"url", "customer"}),
        (("--hide-bodies",), "127.0.0.1:0", {}, set[str]()),
        (("--token", TOKEN), "127.0.0.2:0", {}, set[str]()),
        (("--token", TOKEN, "--show-bodies"), "127.0.0.2:0", {}, {"url", "customer"}),
        (("--token", TOKEN), "127.0.0.2:0", {"FLOWQ_DASHBOARD_SHOW": "url"}, {"url"}),
    ],
)
def test_a_body_is_shown_on_this_machine_or_where_it_was_allowed(
    orders: WebPage, options: tuple[str, ...], listen: str, variables: dict[str, str], shows: set[str]
) -> None:
    said = texts(orders, *options, listen=listen, **variables)

    fields = {"url": "https://shop.example/7", "customer": "Ann Example"}
    assert {name for name, value in fields.items() if value in said} == shows
    assert [secret for secret in SECRETS if secret in said] == []
