"""Fetches pages with a browser, for sites that build their pages by script. It needs the extra `[browser]`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncGenerator
from typing import Self

from playwright.async_api import Browser as Chromium
from playwright.async_api import Error, Playwright, async_playwright
from playwright.async_api import Page as Tab
from playwright.async_api import TimeoutError as TimedOut

from flowq.errors import UsageError
from flowq.runtime.retry_after import retry_after
from flowq.scraping.answers import Kind, kind_of, redirected
from flowq.scraping.bodies import may_be_html
from flowq.scraping.failures import BrowserCrashed, ConnectionFailed, DnsFailed, FetchFailed, TlsFailed, TooSlow
from flowq.scraping.messages import Link, Page
from flowq.scraping.urls import normal_url
from flowq.scraping.web import Web

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_OPTIONS = ("--disable-background-networking", "--disable-component-update", "--disable-quic", "--disable-sync")
_SETTLE_SECONDS = 5.0
_FAILURES = {
    "net::ERR_NAME_": DnsFailed,
    "net::ERR_CERT_": TlsFailed,
    "net::ERR_SSL_": TlsFailed,
    "net::ERR_CONNECTION_": ConnectionFailed,
    "net::ERR_ADDRESS_": ConnectionFailed,
    "net::ERR_EMPTY_RESPONSE": ConnectionFailed,
    "net::ERR_TIMED_OUT": TooSlow,
}


class Browser:
    """One Chromium of a worker process; a window of its own, without cookies, for each page.

    It decides as `Web` does, by the same robots.txt, scope and limits. `executable` is the path of the browser, by
    default that in $CHROMIUM or the first on PATH. A browser that crashes fails the pages it was at, which are tried
    again in a new one.
    """

    def __init__(self, web: Web, *, executable: str | None = None) -> None:
        self._web = web
        on_path = next(filter(None, map(shutil.which, _NAMES)), None)
        self._executable = executable or os.environ.get("CHROMIUM") or on_path
        self._playwright: Playwright | None = None
        self._chromium: Chromium | None = None
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        if self._executable is None:
            raise UsageError(
                "there is no Chromium on PATH", hint="apt-get install chromium, or set $CHROMIUM to the path of one"
            )
        self._playwright = await async_playwright().start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._chromium is not None:
            with contextlib.suppress(Error):
                await self._chromium.close()
        if self._playwright is not None:
            await self._playwright.stop()

    async def fetch(self, link: Link) -> list[Page | Link]:
        """What a link leads to, as `Web.fetch` says, after the scripts of the page have run."""
        if not await self._web.may_fetch_now(link):
            return []
        seconds = self._web.limits.page_seconds
        try:
            async with asyncio.timeout(seconds), self._tab() as tab:
                return await self._read(link, tab)
        except TimeoutError as error:
            raise TooSlow(f"no whole page within {seconds:g} s") from error
        except Error as error:
            raise _failure_of(error) from error

    async def _read(self, link: Link, tab: Tab) -> list[Page | Link]:
        answer = await tab.goto(link.url, timeout=self._web.limits.page_seconds * 1000)
        if answer is None:
            return []
        headers = await answer.all_headers()
        if kind_of(answer.status, retry_after_seconds=retry_after(headers.get("retry-after"))) is not Kind.READ:
            return []
        if not may_be_html(headers.get("content-type", "")):
            return []
        with contextlib.suppress(TimedOut):  # some pages never stop asking for things
            await tab.wait_for_load_state("networkidle", timeout=_SETTLE_SECONDS * 1000)
        if normal_url(tab.url) != link.url:
            target = redirected(link, {"location": tab.url}, self._web.scope, max_redirects=self._web.limits.redirects)
            return [target] if target is not None else []
        html = await tab.content()
        robots = headers.get("x-robots-tag", "").replace("\n", ", ")
        return [Page(url=link.url, site=link.site or link.host, depth=link.depth, html=html, robots=robots)]

    @contextlib.asynccontextmanager
    async def _tab(self) -> AsyncGenerator[Tab]:
        chromium = await self._running()
        window = await chromium.new_context(user_agent=self._web.agent, accept_downloads=False)
        try:
            yield await window.new_page()
        finally:
            with contextlib.suppress(Error):
                await window.close()

    async def _running(self) -> Chromium:
        async with self._starting:
            if self._chromium is None or not self._chromium.is_connected():
                assert self._playwright is not None
                assert self._executable is not None
                options = [*_OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
                self._chromium = await self._playwright.chromium.launch(executable_path=self._executable, args=options)
            return self._chromium


def _failure_of(error: Error) -> FetchFailed:
    text = error.message.splitlines()[0]
    if isinstance(error, TimedOut):
        return TooSlow(text)
    return next((kind(text) for name, kind in _FAILURES.items() if name in text), BrowserCrashed(text))
