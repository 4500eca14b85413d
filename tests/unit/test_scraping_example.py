"""The scraping example: its server with faults, its oracle, and its stages called as plain functions."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx2
import pytest

from examples.scraping.faults import ALL, Fault, FaultPlan
from examples.scraping.oracle import Expected, expected
from examples.scraping.server import SiteServer, robots_txt, serve
from examples.scraping.sites import Site
from flowq import Context, Reject, RetryLater, retry_after
from flowq.scraping import FetchFailed, Link, Page, Web
from pipelines import scrape

# What the fault plan does with a path follows from its CRC-32: these meet 429, 503 twice, and one of each;
# the calm ones are what is left for `slow`, `cut` and `loop`.
THROTTLED, FAILING, BOTH = "/17.html", "/18.html", "/4.html"
CALM = ("/1.html", "/2.html", "/3.html")

PAGES = {
    "index.html": """<title> Start </title>
        <a href="about.html">About</a> <a href="about.html#team">Team</a> <a href="#top">Up</a>
        <a href="">Here</a>
        <a href="sub/">Folder</a> <a href="sub/page.html?print=1">Page</a> <a href=latin.html>Latin</a>
        <a name="anchor">no link</a> <a href>empty</a> <!-- <a href="comment.html">no</a> -->
        <a href="mailto:me@example.org">Mail</a> <a href="http://elsewhere.example/index.html">Away</a>
        <a href="https:secure.html">Other scheme</a> <a href="http://[">Malformed</a>
        <a href="/sub\\page.html">Odd</a> <a href="missing.html">Broken</a> <a href="logo.png">Picture</a>""",
    "about.html": '<a href="/index.html">Start</a> <a href="./about.html">I</a> <a href="open.html">Open</a>',
    "open.html": '<ul><li><a href="about.html">never closed</li><li><a href="index.html">Start</a></li></ul>',
    "sub/index.html": '<a href="page.html">A</a> <a href="../private/key.html">B</a> <a href="../sub">C</a>',
    "sub/page.html": '<a href="../../about.html">About</a>',
    "private/key.html": '<a href="unlinked-elsewhere.html">Deep</a>',
    "private/unlinked-elsewhere.html": "nothing",
    "orphan.html": "linked from nowhere",
}
LATIN = '<meta charset="iso-8859-1"><title>Caf\u00e9</title><a href="caf\u00e9.html">\u00e9</a>'


@pytest.fixture
def pages(tmp_path: Path) -> Site:
    """A site whose numbers can be counted by hand."""
    root = tmp_path / "site"
    for name, html in PAGES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(html)
    (root / "latin.html").write_bytes(LATIN.encode("latin-1"))
    (root / "caf\u00e9.html").write_text("<title>Coffee</title>")
    (root / "logo.png").write_bytes(b"\x89PNG")
    return Site("hand-made", root)


@pytest.fixture
def faulty(tmp_path: Path) -> Site:
    """A site in which each page links to all, and which meets every kind of fault."""
    names = [path[1:] for path in ("/index.html", THROTTLED, FAILING, BOTH, *CALM)]
    for name in names:
        (tmp_path / name).write_text(" ".join(f'<a href="{other}">{other}</a>' for other in names))
    return Site("faulty", tmp_path)


def path_with(fault: Fault, pages: Site) -> str:
    """The one page of a site that meets the fault."""
    (path,) = [path for path in pages.pages() if FaultPlan.of(pages, [fault]).faults_of(path)]
    return path


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with scrape.crawler.open() as web:
        yield web


# The oracle


def test_the_oracle_counts_a_site_as_by_hand(pages: Site) -> None:
    outcome = expected(pages, url="http://h")

    assert outcome.pages == {
        "http://h/index.html": 15,
        "http://h/about.html": 3,
        "http://h/open.html": 2,
        "http://h/sub/": 3,
        "http://h/sub/page.html": 1,
        "http://h/sub/page.html?print=1": 1,
        "http://h/latin.html": 1,
        "http://h/caf%C3%A9.html": 0,
        "http://h/private/key.html": 1,
        "http://h/private/unlinked-elsewhere.html": 0,
    }
    assert outcome.broken == {"http://h/missing.html"}
    assert outcome.other == {"http://h/logo.png"}
    assert (outcome.looped, outcome.blocked, outcome.redirects) == (set(), set(), 1)
    assert (outcome.rows, outcome.links, outcome.dead) == (10, 27, 1)
    # 13 URLs: the pages, /sub that leads to one of them, one that is broken, and the picture
    assert (outcome.unique, outcome.requests) == (13, 13)
    # of the 27, four leave the site and are not followed; the redirect is
    assert outcome.followed == 27 - 4 + 1
    assert outcome.duplicates == 24 - 12


def test_the_oracle_knows_which_pages_a_browser_reads_differently(pages: Site) -> None:
    assert expected(pages, url="http://h").unclosed == {"http://h/open.html"}


def test_the_oracle_neither_asks_for_blocked_pages_nor_follows_their_links(pages: Site) -> None:
    free, ruled = expected(pages), expected(pages, robots=robots_txt(["/private/"]))

    assert ruled.blocked == {"http://site.test/private/key.html"}
    assert ruled.rows == free.rows - 2
    assert ruled.requests == free.requests - 2


def test_the_oracle_obeys_the_robots_txt_that_a_site_ships(pages: Site) -> None:
    (pages.root / "robots.txt").write_text("User-agent: *\nDisallow: /private/\n")

    assert expected(pages).blocked == {"http://site.test/private/key.html"}
    assert expected(pages, robots="").blocked == set()


def test_the_oracle_expects_each_fault_once_and_the_requests_that_follow_from_it(faulty: Site) -> None:
    calm, outcome = expected(faulty), expected(faulty, faults=["429", "503"])

    assert outcome.faults == {"429": 2, "503": 3}
    assert (outcome.retries, outcome.requests) == (5, calm.requests + 5)
    assert outcome.pages == calm.pages


def test_a_page_that_redirects_for_ever_is_expected_as_a_dead_letter_and_not_as_a_row(faulty: Site) -> None:
    outcome = expected(faulty, url="http://h", faults=["loop"])

    looped = "http://h" + path_with("loop", faulty)
    assert outcome.looped == {"http://h/__loop__/b"}
    assert outcome.pages.keys() == expected(faulty, url="http://h").pages.keys() - {looped}


def test_differences_name_each_row_that_is_missing_too_much_or_miscounted() -> None:
    outcome = Expected(pages={"a": 1, "b": 2, "c": 3, "open": 4}, unclosed={"open"})

    assert outcome.differences({"a": 1, "b": 2, "c": 3, "open": 6}) == []
    assert outcome.differences({"b": 2, "c": 5, "open": 3, "d": 0}) == [
        "missing: a",
        "not expected: d",
        "c: 5 links stored, 3 on the page",
        "open: 3 links stored, 4 on the page",
    ]


# The server


def test_the_server_shows_its_faults_first_and_then_the_page(faulty: Site) -> None:
    with serve(faulty, faults=["429", "503"]) as server, httpx2.Client() as http:
        seen = {
            path: [http.get(server.origin + path).status_code for _ in range(4)]
            for path in ("/index.html", THROTTLED, FAILING, BOTH)
        }

    assert seen == {
        "/index.html": [200, 200, 200, 200],
        THROTTLED: [429, 200, 200, 200],
        FAILING: [503, 503, 200, 200],
        BOTH: [429, 503, 200, 200],
    }


def test_a_server_without_faults_answers_every_first_request(faulty: Site) -> None:
    with serve(faulty) as server, httpx2.Client() as http:
        assert [http.get(server.origin + path).status_code for path in ("/index.html", THROTTLED, FAILING, BOTH)] == [
            200
        ] * 4


def test_the_server_counts_requests_but_not_those_for_its_counts(faulty: Site) -> None:
    with serve(faulty, faults=["429"], robots="") as server, httpx2.Client() as http:
        before = datetime.now(UTC).timestamp()
        for path in (THROTTLED, THROTTLED, "/missing.html", "/robots.txt"):
            http.get(server.origin + path)
        answer = http.get(server.origin + "/__stats__").json()
        after = datetime.now(UTC).timestamp()

        assert answer == json.loads(json.dumps(server.stats()))
    assert (answer["requests"], answer["robots"]) == (3, 1)
    assert answer["paths"] == {THROTTLED: 2, "/missing.html": 1}
    assert answer["faults"] == {"429": 1, "503": 0, "slow": 0, "cut": 0, "loop": 0}
    assert all(before <= moment <= after for moments in answer["times"].values() for moment in moments)


def test_retry_after_comes_as_a_number_for_most_paths_and_as_a_date_for_some(tmp_path: Path) -> None:
    plan = FaultPlan(["429"], [])
    throttled = [path for path in (f"/{n}" for n in range(400)) if plan.faults_of(path)]
    with serve(Site("empty", tmp_path), faults=["429"], retry_after=30) as server, httpx2.Client() as http:
        before = datetime.now(UTC).timestamp()
        sent = [http.get(server.origin + path).headers["retry-after"] for path in throttled]
        after = datetime.now(UTC).timestamp()

    dates = [value for value in sent if value != "30"]
    assert 0 < len(dates) < len(sent) / 2
    for value in dates:
        assert before + 30 <= parsedate_to_datetime(value).timestamp() <= after + 31


def test_the_one_page_that_is_cut_fails_in_the_middle_and_is_whole_the_second_time(pages: Site) -> None:
    path = path_with("cut", pages)
    with serve(pages, faults=["cut"]) as server, httpx2.Client() as http:
        with pytest.raises(httpx2.RemoteProtocolError):
            http.get(server.origin + path)
        assert http.get(server.origin + path).content == (pages.root / path[1:]).read_bytes()


def test_the_one_slow_page_is_late_once(pages: Site) -> None:
    path = path_with("slow", pages)
    with serve(pages, faults=["slow"], slow=0.3) as server, httpx2.Client(timeout=60) as http:
        with pytest.raises(httpx2.ReadTimeout):
            http.get(server.origin + path, timeout=httpx2.Timeout(60, read=0.1))
        assert http.get(server.origin + path).status_code == 200


def test_the_server_does_not_leave_its_folder(pages: Site, tmp_path: Path) -> None:
    (tmp_path / "secret.html").write_text("secret")
    (pages.root / "link.html").symlink_to(tmp_path / "secret.html")
    with serve(pages) as server, httpx2.Client() as http:
        for path in ("/%2e%2e/secret.html", "/..%2fsecret.html", "//etc/passwd", "/link.html"):
            assert http.get(server.origin + path).status_code == 404


def test_a_server_that_stops_does_not_wait_for_idle_clients(pages: Site) -> None:
    with httpx2.Client() as http, serve(pages) as server:
        assert http.get(server.url).status_code == 200  # the client keeps the connection


@pytest.mark.parametrize(("robots", "status", "text"), [("Disallow: /x", 200, "Disallow: /x"), (503, 503, "")])
def test_robots_txt_is_a_text_or_a_status(pages: Site, robots: str | int, status: int, text: str) -> None:
    with serve(pages, robots=robots) as server, httpx2.Client() as http:
        answer = http.get(server.origin + "/robots.txt")
    assert (answer.status_code, answer.text) == (status, text)


# The stages of the pipeline, called as plain functions


async def crawl(server: SiteServer, web: Web, folder: Path) -> tuple[dict[str, scrape.Doc], list[str], list[str]]:
    """Runs the stages with a list for a queue: the rows, the URLs rejected, and those filtered."""
    rows, rejected, filtered = dict[str, scrape.Doc](), list[str](), list[str]()
    waiting = [link async for link in scrape.seeds(server.url, web=web)]
    seen = {link.url for link in waiting}
    with database(folder) as db:
        while waiting:
            link = waiting.pop(0)
            try:
                found = await scrape.fetch(link, Context(), web=web, db=db)
            except Reject:
                rejected.append(link.url)
                continue
            except (RetryLater, FetchFailed):
                waiting.append(link)
                continue
            if not found:
                filtered.append(link.url)
            links = [item for item in found if isinstance(item, Link)]
            for page in (item for item in found if isinstance(item, Page)):
                doc, *links = scrape.parse(page)
                rows[doc.url] = doc
            for new in links:
                if new.url not in seen:
                    seen.add(new.url)
                    waiting.append(new)
    return rows, rejected, filtered


@contextlib.contextmanager
def database(folder: Path) -> Iterator[sqlite3.Connection]:
    """The store of the pipeline, in a folder of its own."""
    with contextlib.chdir(folder), contextlib.contextmanager(scrape.database.fn)() as db:
        yield db


@pytest.mark.parametrize("name", ["pages", "faulty"])
async def test_the_stages_find_what_the_oracle_expects(
    name: str, web: Web, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    served: Site = request.getfixturevalue(name)
    faults: tuple[Fault, ...] = ALL if name == "faulty" else ()
    robots = robots_txt(["/private/unlinked"])
    with serve(served, faults=faults, retry_after=0, slow=0, robots=robots) as server:
        rows, rejected, filtered = await crawl(server, web, tmp_path_factory.mktemp("store"))
        outcome = expected(served, url=server.url, faults=faults, robots=robots)

        assert outcome.differences({url: doc.links for url, doc in rows.items()}) == []
        assert set(rejected) == outcome.broken | outcome.looped
        assert set(filtered) == outcome.other | outcome.blocked
        assert server.stats()["requests"] == outcome.requests
        assert server.stats()["faults"] == {kind: outcome.faults[kind] for kind in ALL}
        assert server.stats()["robots"] == 1


async def test_a_page_is_decoded_as_it_says_of_itself(pages: Site, web: Web) -> None:
    with serve(pages) as server:
        [page] = await web.fetch(scrape.crawler.start(server.origin + "/latin.html"))
    assert isinstance(page, Page)
    doc, link = scrape.parse(page)
    assert (doc.title, link.url) == ("Caf\u00e9", server.origin + "/caf%C3%A9.html")


async def test_a_busy_host_is_held_for_as_long_as_it_asks(faulty: Site, web: Web) -> None:
    with serve(faulty, faults=["429"], retry_after=7) as server, pytest.raises(RetryLater) as caught:
        await web.fetch(scrape.crawler.start(server.origin + THROTTLED))
    assert caught.value.hold == "host"
    assert 6 < caught.value.after <= 8


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("120", 120, 120),
        (" 3 ", 3, 3),
        ("0", 0, 0),
        ("soon", 5, 5),
        ("-1", 5, 5),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0, 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400, 86_400),
        ("9" * 400, 86_400, 86_400),
    ],
)
def test_retry_after_is_understood_in_both_forms_up_to_a_day(header: str, least: float, most: float) -> None:
    response = httpx2.Response(429, headers={"Retry-After": header})
    assert least <= retry_after(response) <= most


def test_a_host_that_does_not_say_how_long_is_left_alone_for_a_little() -> None:
    assert retry_after(httpx2.Response(503)) == 5


async def test_stored_rows_are_replaced_and_not_doubled(tmp_path: Path) -> None:
    docs = [scrape.Doc(url=f"http://h/{n}", title="old", links=n) for n in range(3)]
    with database(tmp_path) as db:
        scrape.store.fn(docs, db=db)
        scrape.store.fn([scrape.Doc(url="http://h/1", title="new", links=9)], db=db)
    with contextlib.closing(sqlite3.connect(tmp_path / "scrape.db")) as db:
        rows = db.execute("select url, title, links from doc order by url").fetchall()
    assert rows == [("http://h/0", "old", 0), ("http://h/1", "new", 9), ("http://h/2", "old", 2)]
