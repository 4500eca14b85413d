"""What every answer has and lacks: headers, nothing inline, no password, no traceback, no more than is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from tests.dashboard.pipelines import LAB
from tests.dashboard.web_page import Answer, WebPage

POLICY = {
    "default-src 'none'",
    "style-src 'self'",
    "script-src 'self'",
    "connect-src 'self'",
    "img-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
}
PAGES = [
    *("/", "/p/lab", "/p/lab/s/fetch", "/p/lab/dead", "/p/lab/workers", "/p/lab/trace", "/p/lab/trace/1-0"),
    *("/nothing", "/p/nothing", "/p/lab/s/nothing"),
]
REQUESTS: list[tuple[str, str, dict[str, str]]] = [
    *(("GET", path, {}) for path in PAGES),
    ("GET", "/p/lab.json", {}),
    ("GET", "/p/lab/at?t=0", {}),
    ("GET", "/p/lab/at?t=x", {}),
    ("GET", "/static/flowq.css", {}),
    ("GET", "/static/nothing", {}),
    ("POST", "/p/lab", {}),
    ("OPTIONS", "/", {}),
    ("GET", "/", {"host": "evil.example"}),
    ("HEAD", "/p/lab/events", {}),
]


def check_headers(headers: dict[str, str]) -> None:
    assert set(headers["content-security-policy"].split("; ")) == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert not [name for name in headers if name.startswith("access-control-") or name in ("server", "allow")]


def lower(answer: Answer) -> dict[str, str]:
    names = [name.lower() for name in answer.headers]
    assert len(names) == len(set(names)), "a header twice"
    return {name.lower(): value for name, value in answer.headers.items()}


@pytest.mark.parametrize(("method", "path", "headers"), REQUESTS)
def test_every_answer_has_the_headers(dashboard: WebPage, method: str, path: str, headers: dict[str, str]) -> None:
    origin = {"origin": "https://evil.example", **headers}
    check_headers(lower(dashboard.request(method, path, b"" if method == "POST" else None, origin)))


def test_the_stream_has_the_headers(dashboard: WebPage) -> None:
    with dashboard.open("GET", "/p/lab/events", headers={"origin": "https://evil.example"}) as response:
        check_headers(lower(Answer(200, response.headers, "")))


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_inline(dashboard: WebPage, path: str) -> None:
    answer = dashboard.get(path)
    page = _Inline()
    page.feed(answer.text)

    assert answer.headers.get_content_type() == "text/html"
    assert page.found == []


class _Inline(HTMLParser):
    """What the policy would stop: it must not be needed."""

    def __init__(self) -> None:
        super().__init__()
        self.found = list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("style", "iframe", "object", "embed", "base") or (tag == "script" and "src" not in given):
            self.found.append(tag)
        for name, value in attrs:
            if name == "style" or name.startswith("on"):
                self.found.append(f"{tag} {name}")
            if name in ("href", "src", "action", "formaction", "xlink:href") and not re.match(
                r"[/#]($|[^/])", value or ""
            ):
                self.found.append(f"{tag} {name}={value}")


def test_a_body_is_at_most_a_megabyte(dashboard: WebPage) -> None:
    json = {"content-type": "application/json"}
    big = dashboard.request("POST", "/p/lab", b"x" * 1_000_001, json)
    said = dashboard.request("POST", "/p/lab", b"x", {**json, "content-length": "1000001"})
    small = dashboard.request("POST", "/p/lab", b"x" * 1_000_000, json)

    assert (big.status, said.status, small.status) == (413, 413, 405)
    check_headers(lower(big))


@pytest.fixture(scope="module")
def without_redis() -> Iterator[WebPage]:
    """A web page whose Redis, of a URL with a password, does not answer."""
    with WebPage({"lab": LAB}, FLOWQ_REDIS_URL="redis://ann:s3cr3t-pass@127.0.0.1:1/0") as page:
        yield page


def test_a_password_of_redis_is_nowhere(without_redis: WebPage) -> None:
    answers = [without_redis.get(path) for path in ("/", "/p/lab", "/p/lab/dead", "/p/lab/workers", "/p/lab.json")]
    with without_redis.open("GET", "/p/lab/events") as stream:
        event = b"".join(stream.readline() for _ in range(4)).decode()

    assert "127.0.0.1:1" in answers[1].text
    assert answers[-1].status == 503
    for text in (*(answer.text for answer in answers), event, without_redis.process.stderr):
        assert "s3cr3t" not in text
        assert "Traceback" not in text


def test_a_pipeline_of_another_project_or_namespace_is_not_there(dashboard: WebPage) -> None:
    dashboard.project.ok("push", "lab", '{"url": "https://example.org/1"}', "--namespace", "other")
    dashboard.project.write("elsewhere/other.py", LAB.replace("lab", "other"))

    before = dashboard.get("/p/lab.json").json
    assert before["stages"]["fetch"]["in"] == 0
    assert dashboard.get("/p/other").status == dashboard.get("/p/other/events").status == 404
    assert "other" not in dashboard.get("/").text.replace("another", "")
