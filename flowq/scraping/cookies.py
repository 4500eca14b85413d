"""Keeps the cookies of a crawl, as far as they can be sent back."""

from __future__ import annotations

from http.cookiejar import Cookie, CookieJar

LONGEST_COOKIE = 4_096
MOST_PER_DOMAIN, MOST_COOKIES = 50, 3_000
"""The minimum that RFC 6265 (6.1) asks of a browser."""


class Cookies(CookieJar):
    """The cookies of one worker process. Those that HTTP cannot send back are ignored; a full jar is emptied.

    A non-ASCII cookie would make every further request to its host fail, and thousands of cookies would make requests
    too long for any server.
    """

    def set_cookie(self, cookie: Cookie) -> None:
        """Keep a cookie, or ignore it."""
        text = f"{cookie.name}={cookie.value or ''}"
        if not text.isascii() or not text.isprintable() or len(text) > LONGEST_COOKIE:
            return
        same_domain = [kept.name for kept in self if kept.domain == cookie.domain]
        if len(same_domain) >= MOST_PER_DOMAIN and cookie.name not in same_domain:
            return
        if len(self) >= MOST_COOKIES:
            self.clear()
        super().set_cookie(cookie)
