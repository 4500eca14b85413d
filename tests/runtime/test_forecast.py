"""Forecasts from what real workers record: an edge that fills is full when it was forecast to be."""

from __future__ import annotations

import asyncio

import pytest

import flowq
from flowq.broker.inspection.causes import CauseKind
from flowq.broker.inspection.forecasts import ForecastKind
from flowq.broker.inspection.overview import Overview
from flowq.inspector import Inspector
from tests.eventually import eventually
from tests.runtime.lab import Item, Lab, items

MAXSIZE = 600
BETWEEN_LOOKS_SECONDS = 0.3  # looking all the time would slow the stages down


async def test_an_edge_that_fills_is_full_when_it_was_forecast_to_be(lab: Lab) -> None:
    @flowq.stage(concurrency=1)
    async def hand_on(item: Item) -> Item:
        await asyncio.sleep(0.02)
        return item

    @flowq.stage(maxsize=MAXSIZE)
    async def stuck(item: Item) -> None:
        await asyncio.sleep(3600)

    pipeline = flowq.Pipeline("filling", hand_on >> stuck)
    edge = "hand_on>stuck"
    await lab.push(pipeline, hand_on, *items(MAXSIZE + 500))
    inspector = Inspector(pipeline.plan, lab.broker(pipeline))
    seen: list[Overview] = []

    async def look() -> Overview:
        await asyncio.sleep(BETWEEN_LOOKS_SECONDS)
        seen.append(await inspector.overview())
        return seen[-1]

    async def is_foretold() -> bool:
        forecast = (await look()).forecasts.get(edge)
        return forecast is not None and forecast.kind is ForecastKind.FULL_IN

    async def is_full() -> bool:
        return (await look()).causes["hand_on"].kind is CauseKind.HELD_BACK

    async with lab.running(pipeline):
        await eventually(is_foretold)
        foretold = seen[-1]
        await eventually(is_full)

    full = seen[-1]
    first = next(overview for overview in seen if overview.edges[edge].outstanding)
    assert foretold.now_ms - first.now_ms >= 7_000  # nothing is said from less
    said_seconds = foretold.forecasts[edge].seconds
    assert said_seconds == pytest.approx((full.now_ms - foretold.now_ms) / 1000, rel=0.3, abs=2)
    assert full.causes["hand_on"].by == "stuck"
    assert edge in full.full
    assert full.forecasts[edge].kind is ForecastKind.FULL
