"""A run without sources joins the current run."""

from __future__ import annotations

import flowq
from flowq import Pipeline, Reject, stage
from flowq.broker.redis_streams import Broker
from flowq.inspector import Inspector
from flowq.runtime.process.runner import Runner
from flowq.runtime.run import Run, RunOptions, Summary
from tests.eventually import eventually
from tests.runtime.lab import Item, Lab


async def test_what_dies_in_a_part_of_the_stages_dies_in_that_run_and_goes_back_into_its_balance(lab: Lab) -> None:
    @stage
    async def refuse(item: Item) -> None:
        raise Reject("no")

    pipeline = Pipeline("p", refuse)
    first = Run(pipeline.plan, lab.broker(pipeline))
    await first.begin(RunOptions())
    await lab.push(pipeline, refuse, Item())
    part = Broker(lab.dialer, lab.broker(pipeline).keys)
    joined = Run(pipeline.plan, part)

    joined.join(await joined.snapshot())
    runner = Runner(pipeline.plan, part, RunOptions(stages=("refuse",)))
    await runner.start()
    inspector = Inspector(pipeline.plan, part)

    async def has_died() -> bool:
        return len(await inspector.dead_letters()) == 1

    await eventually(has_died)
    await runner.stop()

    (letter,) = await inspector.dead_letters()
    assert letter.run == joined.id == first.id != ""
    await inspector.retry_dead_letters()
    balance = (await inspector.balance())["refuse"]
    assert (balance.entered, balance.dead, balance.waiting) == (1, 0, 1)
    await part.close()


async def test_a_program_that_runs_no_sources_joins_the_current_run(lab: Lab, url: str) -> None:
    @stage
    async def accept(item: Item) -> None: ...

    pipeline = Pipeline("p", accept)
    first = Run(pipeline.plan, lab.broker(pipeline))
    await first.begin(RunOptions())

    summaries: list[Summary] = []
    for _ in range(2):
        await lab.push(pipeline, accept, Item())
        summaries.append(await flowq.run(pipeline, redis=url, namespace=lab.namespace))

    assert [summary.run for summary in summaries] == [first.id, first.id]
    assert [summary.stages["accept"].ok for summary in summaries] == [1, 2]
