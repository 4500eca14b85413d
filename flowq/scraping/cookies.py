"""Keeps the cookies of a crawl, within what can be sent back."""

from __future__ import annotations

from http.cookiejar import Cookie, CookieJar

LONGEST_COOKIE = 4_096
MOST_PER_DOMAIN, MOST_COOKIES = 50, 3_000
"""As many as RFC 6265 (6.1) asks a browser to keep at least."""


class Cookies(CookieJar):
    """Cookies of one worker process. Ones that HTTP cannot carry back are not taken; when it is full, it is emptied.

    A cookie beyond ASCII would make every further request to its host fail, and thousands of them would make it too
    long for any server.
    """

    def set_cookie(self, cookie: Cookie) -> None:
        """Take a cookie, or leave it."""
        text = f"{cookie.name}={cookie.value or ''}"
        if not text.isascii() or not text.isprintable() or len(text) > LONGEST_COOKIE:
            return
        same_domain = [kept.name for kept in self if kept.domain == cookie.domain]
        if len(same_domain) >= MOST_PER_DOMAIN and cookie.name not in same_domain:
            return
        if len(self) >= MOST_COOKIES:
            self.clear()
        super().set_cookie(cookie)
