"""A network that is slow, passes nothing in one direction, or loses a machine silently."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.eventually import eventually
from tests.faults.deployments import Network, Node
from tests.faults.proxy import Proxy, Way
from tests.faults.survivor import outage
from tests.runtime.lab import Lab, items
from tests.runtime.record import SHORT_LEASE_SECONDS, Record, recorded

ROUND_TRIP_SECONDS = 0.2
CONCURRENCY = 10


@pytest.mark.parametrize("leases", [0.9, 2.0])
@pytest.mark.parametrize("way", ["commands", "replies"])
async def test_a_stall_in_one_direction_doubles_nothing_and_buries_nothing(
    way: Way, leases: float, lab: Lab, far_lab: Lab, proxy: Proxy
) -> None:
    record = Record()
    pipeline = recorded(record, seconds=0.01)
    await lab.push(pipeline, "first", *items(300))
    async with (
        far_lab.running(pipeline, lease_seconds=SHORT_LEASE_SECONDS),
        lab.running(pipeline, lease_seconds=SHORT_LEASE_SECONDS),
    ):
        await eventually(lambda: len(record.handled) >= 50)
        proxy.stall(way)
        await asyncio.sleep(leases * SHORT_LEASE_SECONDS)
        proxy.resume()
        await eventually(lambda: len(record.arrived) == 300)

    record.check(300, reruns=300)  # what the far one held, if it was taken for dead: at most all of them, once
    balance = await lab.balance(pipeline)
    assert (balance["first"].ok, balance["last"].ok) == (300, 300)
    assert (balance["first"].dead, balance["last"].dead) == (0, 0)


async def test_a_round_trip_of_200_ms_costs_no_lease_and_is_made_few_times(
    lab: Lab, far_lab: Lab, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    record = Record()
    pipeline = recorded(record, concurrency=CONCURRENCY)
    n = 10 * CONCURRENCY
    await lab.push(pipeline, "first", *items(n))
    proxy.delay(ROUND_TRIP_SECONDS / 2)
    before = await _n_reads(lab)
    async with far_lab.running(pipeline, stages=["first"], lease_seconds=SHORT_LEASE_SECONDS):
        await eventually(lambda: len(record.handled) == n)
        n_reads = await _n_reads(lab) - before
    proxy.delay(0.0)
    async with lab.running(pipeline):
        await eventually(lambda: len(record.arrived) == n)

    assert n_reads < n / CONCURRENCY, "that many if each read brought no more than the slots can run at once"
    record.check(n, reruns=0)
    assert not caplog.records


async def _n_reads(lab: Lab) -> int:
    """How often its server has been asked for messages."""
    statistics = (await lab.command(b"INFO", b"commandstats")).decode()
    found = re.search(r"cmdstat_xreadgroup:calls=(\d+)", statistics)
    return int(found[1]) if found else 0


async def test_a_machine_whose_cable_is_pulled_is_found_again(
    unique_namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    record = Record()
    pipeline = recorded(record)
    with Network() as network, Node(host=network.hosts[0], within=network.within[0]) as node:
        lab = Lab.at(node.url, unique_namespace)
        async with lab.running(pipeline, lease_seconds=SHORT_LEASE_SECONDS):
            await lab.push(pipeline, "first", *items(50))
            await eventually(lambda: len(record.arrived) == 50)
            async with outage(caplog):
                network.pull_cable(0)
                await eventually(lambda: "is not available" in caplog.text)  # its connection has been given up
                network.plug_cable(0)
            pusher = Lab.at(node.url, unique_namespace)
            await pusher.push(pipeline, "first", *items(100)[50:])
            await eventually(lambda: len(record.arrived) == 100)
            await pusher.close()
        await lab.close()

    record.check(100, reruns=0)
