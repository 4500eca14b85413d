"""What the tests of actions share: a server that allows them, and requests as one of its pages sends them."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, TypeVar

import flowq
from flowq import Inspector, Pipeline, Publisher
from flowq.broker.audit import AuditRecord
from flowq.broker.client.connection import Link, UrlDialer
from flowq.broker.runs import StageBalance
from flowq.dead_letters.letter import DeadLetterRecord
from flowq.delivery.encoding.codec import decoder
from tests.dashboard.web_page import Answer, WebPage

T = TypeVar("T")
_TOKEN = re.compile(r'<meta name="flowq-token" content="([0-9a-f]+)">')


def _done(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end in another thread: playwright's event loop may be running in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


class ActingPage(WebPage):
    """A web page with --allow-actions."""

    def headers(self) -> dict[str, str]:
        """The headers that the script of an open page sends."""
        found = _TOKEN.search(self.get("/p/lab").text)
        assert found
        return {
            "content-type": "application/json",
            "x-flowq-token": found[1],
            "origin": self.url,
            "sec-fetch-site": "same-origin",
        }

    def do(self, action: str, **values: Any) -> Answer:
        """Act as the script of a page does."""
        return self.sent(action, json.dumps(values).encode(), self.headers())

    def sent(self, action: str, body: bytes, headers: Mapping[str, str], method: str = "POST") -> Answer:
        """Any request to an action."""
        return self.request(method, f"/p/lab/do/{action}", body, headers)

    def inspect(self, look: Callable[[Inspector], Coroutine[Any, Any, T]]) -> T:
        """What an inspector of the pipeline sees, independent of the page."""

        async def looked() -> T:
            async with Inspector(self.pipeline, redis=self.redis.url, namespace="flowq") as inspector:
                return await look(inspector)

        return _done(looked())

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline that is served."""
        spec = importlib.util.spec_from_file_location("served_lab", self.project.folder / "pipelines" / "lab.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where annotations are looked up
        spec.loader.exec_module(module)
        return module.lab

    def stages(self) -> Mapping[str, StageBalance]:
        """The balance of each stage."""
        return self.inspect(Inspector.balance)

    def letters(self) -> list[DeadLetterRecord]:
        """All dead letters."""
        return self.inspect(Inspector.dead_letters)

    def audit(self) -> list[AuditRecord]:
        """What was done, the latest first."""
        return self.inspect(Inspector.audit)

    def push(self, stage: str, *messages: Mapping[str, Any]) -> None:
        """Push messages, in the types of the pipeline."""

        async def pushed() -> None:
            accepts = decoder(self.pipeline.plan.stage(stage).accepts)
            async with Publisher(self.pipeline, redis=self.redis.url, namespace="flowq") as publisher:
                await publisher.push_many(stage, [accepts(json.dumps(each).encode()) for each in messages])

        _done(pushed())

    def run(self) -> None:
        """Let workers handle all messages; some of them die."""
        _done(flowq.run(self.pipeline, redis=self.redis.url, namespace="flowq"))

    def clear(self) -> None:
        """Nothing waits, is dead, or is paused."""

        async def cleared() -> None:
            link = Link(UrlDialer(self.redis.url))
            await link.call(b"FLUSHALL", timeout_seconds=60)
            await link.close()

        _done(cleared())
