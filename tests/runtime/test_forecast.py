"""Forecasts from what workers record: an edge that fills is full when it was forecast to be."""

from __future__ import annotations

import asyncio

import pytest

from flowq import Pipeline, stage
from flowq.broker.inspection.causes import CauseKind
from flowq.broker.inspection.forecasts import ForecastKind
from flowq.broker.inspection.overview import Overview
from flowq.testing import Harness
from tests.runtime.kit import Kit
from tests.runtime.lab import Item, items

MAXSIZE = 100
MOST_LOOKS = 10 * MAXSIZE


async def test_an_edge_that_fills_is_full_when_it_was_forecast_to_be(kit: Kit) -> None:
    is_released = asyncio.Event()

    @stage(concurrency=1)
    async def hand_on(item: Item) -> Item:
        await asyncio.sleep(0.3)
        return item

    @stage(maxsize=MAXSIZE)
    async def stuck(item: Item) -> None:
        await is_released.wait()

    pipeline = Pipeline("filling", hand_on >> stuck)
    edge = "hand_on>stuck"

    def overview(h: Harness) -> Overview:
        return h.inspect(lambda inspector: inspector.overview())

    def is_foretold(overview: Overview) -> bool:
        forecast = overview.forecasts.get(edge)
        return forecast is not None and forecast.kind is ForecastKind.FULL_IN

    async with kit(pipeline) as h:
        await h.feed(hand_on, *items(2 * MAXSIZE))
        seen = [overview(h)]
        while seen[-1].causes["hand_on"].kind is not CauseKind.HELD_BACK:
            assert len(seen) < MOST_LOOKS
            await h.advance(seconds=1)
            seen.append(overview(h))
        is_released.set()

    full = seen[-1]
    first = next(each for each in seen if each.edges[edge].outstanding)
    foretold = next(each for each in seen if is_foretold(each))
    assert foretold.now_ms - first.now_ms >= 7_000  # nothing is said from less
    said_seconds = foretold.forecasts[edge].seconds
    assert said_seconds == pytest.approx((full.now_ms - foretold.now_ms) / 1000, abs=2)
    assert full.causes["hand_on"].by == "stuck"
    assert edge in full.full
    assert full.forecasts[edge].kind is ForecastKind.FULL
