"""Who may see the page: nothing is served without the token, under another name, or by another spelling of a path."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from html import unescape
from http.cookies import SimpleCookie

import pytest

from tests.dashboard.pipelines import LAB
from tests.dashboard.web_page import WebPage
from tests.integration.project import Project

TOKEN, ANNS = "k3rJq8Zt1vXw5yB7nM2pD4sF", "Qw9Er2Ty7Ui4Op1As6Df3Gh8"
OPEN = {"authorization": f"Bearer {TOKEN}"}

ROUTES = [
    "/",
    "/p/lab",
    "/p/lab/s/fetch",
    "/p/lab/dead",
    "/p/lab/trace",
    "/p/lab/workers",
    "/p/lab/events",
    "/p/lab/at?t=0",
    "/p/lab.json",
    "/static/flowq.css",
    "/static/js/main.js",
]
"""One address of each kind."""


@pytest.fixture(scope="module")
def guarded() -> Iterator[WebPage]:
    """A web page with two tokens, one of them Ann's, that may also be called queue.example."""
    with WebPage({"lab": LAB}, "--allow-host", "queue.example", FLOWQ_DASHBOARD_TOKEN=f"{TOKEN},ann:{ANNS}") as page:
        yield page


def cookie_of(page: WebPage, token: str = TOKEN) -> dict[str, str]:
    """The header of a browser that has been given the token."""
    (morsel,) = SimpleCookie(page.get(f"/?token={token}").headers["set-cookie"]).values()
    return {"cookie": f"{morsel.key}={morsel.value}"}


# Where it listens


@pytest.mark.project({"lab": LAB})
@pytest.mark.parametrize(
    ("options", "variables", "text"),
    [
        (("--listen", "0.0.0.0:0"), {}, "it needs a token"),
        (("--listen", "[::]:0"), {}, "it needs a token"),
        (("--token", "short"), {}, "at least 22 random letters and digits"),
        (("--token", "a" * 40), {}, "at least 22 random letters and digits"),
        ((), {"FLOWQ_DASHBOARD_TOKEN": "hunter2"}, "at least 22 random letters and digits"),
        (("--listen", "localhost:99999"), {}, "is not an address"),
        (("--allow-host", "https://queue.example/"), {}, "is not the name of a host"),
        (("nothing",), {}, 'no pipeline "nothing"'),
    ],
)
def test_it_does_not_start_where_others_could_reach_it(
    project: Project, options: tuple[str, ...], variables: dict[str, str], text: str
) -> None:
    done = project.run("dashboard", *options, **variables)

    assert done.wait() == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_it_listens_on_this_machine_alone_and_prints_its_address(dashboard: WebPage) -> None:
    host, port = re.fullmatch(r"http://(.+):(\d+)", dashboard.url).groups()  # type: ignore[union-attr]

    assert host == "127.0.0.1"
    with socket.socket() as other, pytest.raises(ConnectionRefusedError):
        other.connect(("127.0.0.2", int(port)))  # of this machine too, but not the one that was bound


def test_a_new_token_is_long_and_printed_once() -> None:
    with WebPage({"lab": LAB}, "--token", "new") as page:
        (token,) = re.findall(r"/\?token=(\S+)", page.process.stderr)
        assert page.get("/").status == 401
        assert page.get(f"/?token={token}").status == 303
        assert page.get("/", authorization=f"Bearer {token}").status == 200

        assert len(token) >= 22  # of 64 letters, so 128 bits
        assert page.process.stderr.count(token) == 1


# Nothing without the token


@pytest.mark.parametrize("path", ROUTES)
def test_every_route_needs_the_token(guarded: WebPage, path: str) -> None:
    refused = guarded.get(path)
    wrong = guarded.get(path, authorization="Bearer nothing-like-the-token", x_forwarded_for=path)

    assert (refused.status, wrong.status) == (401, 401)
    with guarded.open("GET", path, headers=OPEN) as allowed:
        assert allowed.status in (200, 204)


@pytest.mark.parametrize(
    "path",
    [
        "/x/static",
        "/p/lab%2Fevents",
        "/p%2flab",
        "/p/lab/..;/dead",
        "/p/lab;x=1/dead",
        "//p/lab",
        "///",
        "/P/LAB",
        "/p/lab/",
        "/p/lab/.",
        "/p/lab./events",
        "/static/../p/lab",
        "/static/%2e%2e/application.py",
        "/static/..%2f..%2fapplication.py",
        "/.",
        "/nothing",
        "/p/lab.json/",
        "/favicon.ico",
        "/robots.txt",
        "/healthz",
        "http://127.0.0.1/p/lab",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_no_spelling_of_a_path_bypasses_it(guarded: WebPage, method: str, path: str) -> None:
    assert guarded.request(method, path).status == 401


@pytest.mark.parametrize(
    "path", ["../application.py", "%2e%2e/application.py", "..%2fserving.py", "js/../../serving.py"]
)
def test_static_files_are_those_of_the_folder_alone(guarded: WebPage, path: str) -> None:
    assert guarded.get(f"/static/{path}", **OPEN).status == 404


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PUT", "DELETE", "PATCH", "PROPFIND"])
def test_other_methods_are_refused_and_say_nothing(guarded: WebPage, method: str) -> None:
    answer = guarded.request(
        method, "/p/lab", headers={"origin": "https://evil.example", "access-control-request-method": "POST"}
    )

    assert (answer.status, answer.text, answer.headers["allow"]) == (405, "", None)
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


# The token becomes a cookie


def test_a_token_in_the_address_becomes_a_cookie_and_leaves_it(guarded: WebPage) -> None:
    answer = guarded.get(f"/p/lab/dead?stage=fetch&token={TOKEN}&since=1h")
    (cookie,) = SimpleCookie(answer.headers["set-cookie"]).values()

    assert (answer.status, answer.headers["location"]) == (303, "/p/lab/dead?stage=fetch&since=1h")
    assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["secure"]) == (True, "strict", "/", "")
    assert TOKEN not in str(answer.headers)
    assert guarded.get("/p/lab", cookie=f"{cookie.key}={cookie.value}").status == 200
    assert guarded.get("/p/lab", cookie=f"{cookie.key}={cookie.value[:-1]}").status == 401


def test_under_tls_the_cookie_is_never_sent_without_it(guarded: WebPage) -> None:
    answer = guarded.get(f"/?token={TOKEN}", x_forwarded_proto="https")

    assert SimpleCookie(answer.headers["set-cookie"]).popitem()[1]["secure"] is True


@pytest.mark.parametrize(
    "path", ["//evil.example/", "/\\evil.example", "///evil.example", "/%5cevil.example", "//%5c/x"]
)
def test_no_address_with_a_token_leads_to_another_server(guarded: WebPage, path: str) -> None:
    location = guarded.get(f"{path}?token={TOKEN}").headers["location"]

    assert re.match(r"/([^/\\]|$)", location), location


def test_the_token_is_in_no_log_and_no_answer(guarded: WebPage) -> None:
    cookie = cookie_of(guarded)
    answers = [guarded.get(path, **cookie) for path in ("/", "/p/lab", "/p/lab.json", "/nothing")]
    guarded.get(f"/nothing?token={TOKEN}")
    guarded.get(f"/p/lab?token={TOKEN}&token=x", x_forwarded_for="10.0.0.2")

    assert not [answer for answer in answers if TOKEN in answer.text + str(answer.headers)]
    assert guarded.process.stderr.count(TOKEN) == 1  # where it is printed, at the start
    assert guarded.process.stdout == ""


def test_the_page_to_sign_in_takes_a_token_without_putting_it_into_an_address(guarded: WebPage) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    page = guarded.get('/p/lab/dead?stage=fetch&x="><script>')
    (action,) = re.findall(r'method="post" action="([^"]+)"', page.text)
    right = guarded.request("POST", unescape(action), f"token={TOKEN}".encode(), form)
    wrong = guarded.request("POST", "/", b"token=wrong", {**form, "x-forwarded-for": "10.0.0.1"})

    assert "<script>" not in page.text
    assert (right.status, right.headers["location"]) == (303, "/p/lab/dead?stage=fetch&x=%22%3E%3Cscript%3E")
    assert "set-cookie" in right.headers
    assert (wrong.status, "not a valid token" in wrong.text) == (401, True)


def test_each_token_has_its_own_cookie_so_that_one_can_be_revoked(guarded: WebPage) -> None:
    assert cookie_of(guarded) != cookie_of(guarded, ANNS)


def test_ten_wrong_tokens_a_minute_are_checked_and_cookies_stay_valid() -> None:
    with WebPage({"lab": LAB}, "--token", TOKEN) as page:
        cookie = cookie_of(page)
        for n in range(10):
            assert page.get(f"/?token=wrong{n}").status == 401

        shut, right = page.get("/?token=wrong"), page.get(f"/?token={TOKEN}")

        assert (shut.status, shut.headers["retry-after"], right.status) == (429, "60", 429)
        assert page.get("/p/lab", **cookie).status == 200
        assert page.get("/p/lab").status == 401


# The name in the request


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example:8080",
        "127.0.0.2",
        "0.0.0.0",
        "[::]",
        "localhost@evil.example",
        "localhost:80:80",
        "localhost:x",
        "queue.example.",
        "xqueue.example",
        "",
    ],
)
def test_another_host_name_is_refused_with_and_without_the_token(guarded: WebPage, host: str) -> None:
    for path in ("/", f"/?token={TOKEN}", "/p/lab/events", "/static/flowq.css"):
        answer = guarded.request("GET", path, headers={**OPEN, "host": host})

        assert answer.status in (400, 421)
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:8080", "queue.example:443"])
def test_its_own_host_names_are_answered(guarded: WebPage, host: str) -> None:
    assert guarded.request("GET", "/", headers={**OPEN, "host": host}).status == 200


def test_two_host_names_in_one_request_are_refused(guarded: WebPage) -> None:
    with socket.create_connection(guarded.address.split(":")) as raw:  # type: ignore[arg-type]
        raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n")

        assert re.match(rb"HTTP/1.1 (400|421) ", raw.makefile("rb").readline())
