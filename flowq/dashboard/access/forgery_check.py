"""Whether an action comes from a page of this server, opened by the visitor who sends it."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from starlette.requests import Request

TOKEN_HEADER = "x-flowq-token"


def forgery_in(request: Request) -> str:
    """What is wrong with the headers of an action; "" if nothing is.

    A page of another site can send a request with the cookies of a visitor. It cannot know the token of this page, and
    a browser lets it set neither the other headers nor this content type without asking this server first.
    """
    if _only(request, "content-type").partition(";")[0].strip().lower() != "application/json":
        return "its body is not application/json"
    given, expected = _only(request, TOKEN_HEADER), str(request.state.page_token)
    if not hmac.compare_digest(given.encode(errors="replace"), expected.encode()):
        return "its token is not valid: reload the page"
    origin = urlsplit(_only(request, "origin"))
    if origin.scheme not in ("http", "https") or origin.netloc.lower() != _only(request, "host").lower():
        return "it comes from another origin"
    if _only(request, "sec-fetch-site") != "same-origin":
        return "the browser does not confirm that it comes from this page: actions need https, or localhost"
    return ""


def _only(request: Request, name: str) -> str:
    """The value of a header; "" if it is missing or there are several."""
    values = request.headers.getlist(name)
    return values[0] if len(values) == 1 else ""
