"""Messages that a stage with keep= has settled can be run again."""

from __future__ import annotations

from flowq import Pipeline, Reject, stage
from flowq.dead_letters.kept import Kept
from tests.runtime.lab import Item, Lab


async def test_kept_messages_run_again_from_their_stage_on(lab: Lab) -> None:
    stored: list[tuple[int, int]] = []
    factor = 1

    @stage(keep=100)
    async def scale(item: Item) -> Item | None:
        if item.n == 0:
            raise Reject("nothing")
        return None if item.n == 1 else Item(n=item.n * factor)

    @stage
    async def store(item: Item) -> None:
        stored.append((factor, item.n))

    pipeline = Pipeline("p", scale >> store)
    await lab.run(pipeline, *(Item(n=n) for n in range(4)))
    assert sorted(stored) == [(1, 2), (1, 3)]

    factor = 10
    assert await Kept(pipeline.plan, lab.broker(pipeline), "scale").replay() == 3
    summary = await lab.run(pipeline)

    assert sorted(stored) == [(1, 2), (1, 3), (10, 20), (10, 30)]
    assert (summary.stages["scale"].ok, summary.stages["scale"].filtered) == (4, 2)
    assert await Kept(pipeline.plan, lab.broker(pipeline), "scale").replay(dry_run=True) == 3
