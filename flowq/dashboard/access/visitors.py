"""Who may see the page: by a token that becomes a cookie, by the login of a host program, or all of this machine."""

from __future__ import annotations

import hashlib
import hmac
import inspect
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

Auth = Callable[[Request], "Awaitable[str | Response | None] | str | Response | None"]
"""Says who sends a request: a name; None if they may not see the page; or an answer, such as a redirect to a login. It
may raise an HTTPException instead."""

MOST_FAILURES = 10
FAILURE_SECONDS = 60.0
_MOST_REMEMBERED = 1000


@dataclass(slots=True)
class Visitors:
    """Decides who may enter. `tokens` are secrets by the name of their user; without them and `auth`, all may enter.

    `secret` is what several processes share that serve the same visitors.
    """

    tokens: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    auth: Auth | None = None
    secret: str = field(default_factory=secrets.token_hex, repr=False)
    _failed: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=_MOST_REMEMBERED))

    async def asked(self, request: Request) -> str | Response | None:
        """The name of the visitor, what to answer instead, or None."""
        if self.auth is not None:
            try:
                found = self.auth(request)
                return await found if inspect.isawaitable(found) else found
            except HTTPException as refused:  # as the host's own routes raise it
                return PlainTextResponse(f"{refused.detail}\n", refused.status_code, refused.headers)
        if not self.tokens:
            return "local"
        for owner in self.tokens:
            name, value = self.cookie(owner)
            if hmac.compare_digest(request.cookies.get(name, "").encode(errors="replace"), value.encode()):
                return owner
        return None

    def owner(self, token: str) -> str | None:
        """Whose token this is. Takes the same time for every wrong one."""
        given, found = token.encode(errors="replace"), None
        for name, known in self.tokens.items():
            if hmac.compare_digest(given, known.encode()):
                found = name
        return found

    def cookie(self, owner: str) -> tuple[str, str]:
        """Name and value of the cookie that replaces a token. Neither reveals the token."""
        value = hmac.digest(self.tokens[owner].encode(), b"flowq dashboard cookie", "sha256").hex()
        return f"flowq_{hashlib.sha256(value.encode()).hexdigest()[:12]}", value

    def page_token(self, actor: str) -> str:
        """The token that a page sends with an action, and that no other site can know."""
        return hmac.digest(self.secret.encode(), actor.encode(errors="replace"), "sha256").hex()

    def fail(self, address: str, now: float) -> None:
        """Remember a wrong token."""
        self._failed.append((now, address))

    def is_shut(self, address: str, now: float) -> bool:
        """Whether so many wrong tokens came from there, or altogether, that no more are checked."""
        while self._failed and now - self._failed[0][0] >= FAILURE_SECONDS:
            self._failed.popleft()
        from_there = sum(each == address for _, each in self._failed)
        return from_there >= MOST_FAILURES or len(self._failed) == _MOST_REMEMBERED
