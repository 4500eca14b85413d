"""Fetches pages with a browser, for sites that build their pages with scripts. Needs the extra `[browser]`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncGenerator
from typing import Self

from flowq.errors import Reject, UsageError

try:
    from playwright.async_api import Browser as Chromium
    from playwright.async_api import BrowserContext, Error, Playwright, async_playwright
    from playwright.async_api import Page as Tab
    from playwright.async_api import TimeoutError as TimedOut
except ModuleNotFoundError as error:
    hint = "pip install 'flowq-streams[browser]'"
    raise UsageError(f"flowq.scraping.browser needs {error.name}", hint=hint) from error

from flowq.scraping.answers import Kind, redirected
from flowq.scraping.failures import BrowserCrashed, ConnectionFailed, DnsFailed, FetchFailed, TlsFailed, TooSlow
from flowq.scraping.messages import Link, Page
from flowq.scraping.navigation import Navigation
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
    """One Chromium per worker process, with a new window, without cookies, for each page.

    It has the robots.txt, scope and limits of `web`: the target of a redirect or a script is a link, and is not loaded.
    Frames, images and data are loaded from anywhere. If the browser crashes, the pages it was loading fail, and are
    retried in a new one. Use it in `async with`, which raises UsageError if there is no Chromium.

    web: the open `Web` whose rules it follows.
    executable: the path of the browser ($CHROMIUM, or the first on PATH).
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
        """What a link leads to, as `Web.fetch`, after the scripts of the page have run."""
        if not await self._web.may_fetch_now(link):
            return []
        seconds = self._web.limits.page_seconds
        try:
            async with asyncio.timeout(seconds), self._tab() as tab:
                return await self._read(link, tab)
        except TimeoutError as error:
            raise TooSlow(f"no complete page within {seconds:g} s") from error
        except Error as error:
            raise _failure_of(error) from error

    async def _read(self, link: Link, tab: Tab) -> list[Page | Link]:
        limits, navigation = self._web.limits, Navigation(link.url)
        await navigation.watch(tab)
        loading = asyncio.ensure_future(self._load(tab, link.url))
        leaving = asyncio.ensure_future(navigation.has_left.wait())
        try:
            await asyncio.wait({loading, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if loading.done() and navigation.status is None:
                loading.result()  # the error that prevented the request
        finally:
            leaving.cancel()
            loading.cancel()
            await asyncio.gather(loading, leaving, return_exceptions=True)
        kind = navigation.kind
        elsewhere = navigation.elsewhere or tab.url
        if isinstance(elsewhere, Reject):
            raise elsewhere
        if kind is Kind.MOVED or (kind is Kind.READ and normal_url(elsewhere) != link.url):
            target = redirected(link, elsewhere, self._web.scope, max_redirects=limits.redirects, drop=self._web.drop)
            return [target] if target is not None else []
        if kind is not Kind.READ:
            return []
        loading.result()
        html = await tab.content()
        if len(html) > limits.page_bytes:
            raise Reject(f"the page is larger than {limits.page_bytes:,} bytes")
        robots = navigation.headers.get("x-robots-tag", "").replace("\n", ", ")
        return [Page(url=link.url, site=link.site or link.host, depth=link.depth, html=html, robots=robots)]

    async def _load(self, tab: Tab, url: str) -> None:
        await tab.goto(url, timeout=self._web.limits.page_seconds * 1000)
        with contextlib.suppress(TimedOut):  # some pages never stop loading
            await tab.wait_for_load_state("networkidle", timeout=_SETTLE_SECONDS * 1000)

    @contextlib.asynccontextmanager
    async def _tab(self) -> AsyncGenerator[Tab]:
        chromium = await self._running()
        window = await chromium.new_context(user_agent=self._web.agent, accept_downloads=False, service_workers="block")
        closing = set[asyncio.Task[None]]()
        try:
            tab = await window.new_page()
            window.on("page", lambda popup: closing.add(asyncio.ensure_future(_close(popup))))
            yield tab
        finally:
            await _close(window)

    async def _running(self) -> Chromium:
        async with self._starting:
            if self._chromium is None or not self._chromium.is_connected():
                assert self._playwright is not None
                assert self._executable is not None
                options = [*_OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
                self._chromium = await self._playwright.chromium.launch(executable_path=self._executable, args=options)
            return self._chromium


async def _close(opened: Tab | BrowserContext) -> None:
    with contextlib.suppress(Error):
        await opened.close()


def _failure_of(error: Error) -> FetchFailed:
    text = error.message.splitlines()[0]
    if isinstance(error, TimedOut):
        return TooSlow(text)
    return next((kind(text) for name, kind in _FAILURES.items() if name in text), BrowserCrashed(text))
