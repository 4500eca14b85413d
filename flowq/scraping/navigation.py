"""Keeps a browser tab on the page that it was opened for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urljoin

from playwright.async_api import Error
from playwright.async_api import Page as Tab

from flowq.errors import Reject
from flowq.runtime.handlers.retry_after import retry_after
from flowq.scraping.answers import Kind, kind_of
from flowq.scraping.bodies import may_be_html
from flowq.scraping.urls import normal_url

_MOST_LOADS = 5  # of the same URL: some pages set a cookie and reload themselves


class Navigation:
    """Lets a tab load one URL as its page. Any other URL that it navigates to, for whatever reason, is a link.

    A browser follows redirects and scripts wherever they lead; a crawler must first check whether it may go there.

    `status` and `headers` are those of the page, once there is a response. `elsewhere` is the URL that it navigated to,
    or the reason why it is not a page; `has_left` is set then, because such a page may never finish loading.
    """

    def __init__(self, url: str) -> None:
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.elsewhere: str | Reject | None = None
        self.has_left = asyncio.Event()
        self._url = url
        self._n_loads = 0
        self._frame = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def watch(self, tab: Tab) -> None:
        """Start to decide what the tab loads."""
        session: Any = await tab.context.new_cdp_session(tab)
        self._frame = (await session.send("Page.getFrameTree"))["frameTree"]["frame"]["id"]

        def paused(event: dict[str, Any]) -> None:
            task = asyncio.ensure_future(self._decide(session, event))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        session.on("Fetch.requestPaused", paused)
        stages = [{"resourceType": "Document", "requestStage": stage} for stage in ("Request", "Response")]
        await session.send("Fetch.enable", {"patterns": stages})

    @property
    def kind(self) -> Kind | None:
        """What the response means; None before there is one. Raises what `kind_of` raises."""
        if self.status is None:
            return None
        return kind_of(self.status, retry_after_seconds=retry_after(self.headers.get("retry-after")))

    async def _decide(self, session: Any, event: dict[str, Any]) -> None:
        request = {"requestId": event["requestId"]}
        continues = event["frameId"] != self._frame or self._may_continue(event)
        with suppress(Error):  # the tab is closed
            if continues:
                await session.send("Fetch.continueRequest", request)
            else:  # a response without a body leaves the page where it is
                await session.send("Fetch.fulfillRequest", request | {"responseCode": 204})

    def _may_continue(self, event: dict[str, Any]) -> bool:
        if "responseErrorReason" in event:
            return True
        return self._may_respond(event) if "responseStatusCode" in event else self._may_request(event)

    def _may_request(self, event: dict[str, Any]) -> bool:
        request = event["request"]
        if request["method"] != "GET":
            self._leave(Reject("the page submits a form by itself"))
        elif normal_url(request["url"]) != self._url:
            self._leave(request["url"])
        elif self._n_loads < _MOST_LOADS:
            self._n_loads += 1
            return True
        else:
            self._leave(Reject(f"the page reloads itself more than {_MOST_LOADS} times"))
        return False

    def _leave(self, where: str | Reject) -> None:
        self.elsewhere = self.elsewhere or where
        self.has_left.set()

    def _may_respond(self, event: dict[str, Any]) -> bool:
        self.status = status = int(event["responseStatusCode"])
        self.headers = {field["name"].lower(): field["value"] for field in event.get("responseHeaders", [])}
        if 300 <= status < 400 and "location" in self.headers:
            target = urljoin(event["request"]["url"], self.headers["location"])
            if normal_url(target) == self._url and "set-cookie" in self.headers:
                return True  # it wants to be requested again, with its cookie
            self._leave(target)
            return False
        is_download = self.headers.get("content-disposition", "").lower().startswith("attachment")
        if 200 <= status < 300 and (is_download or not may_be_html(self.headers.get("content-type", ""))):
            self.status = 204  # there is nothing to read
        return 200 <= self.status < 300  # of other responses only the status matters
