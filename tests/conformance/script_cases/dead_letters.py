"""Cases of the scripts for dead and kept messages."""

from __future__ import annotations

import flowq
from flowq.broker import scripts
from flowq.dead_letters.kept import Kept
from flowq.dead_letters.purging import Purging
from flowq.dead_letters.stored_letters import Exported, StoredLetters, WayBack
from tests.conformance.script_cases.case import Lab, calls
from tests.conformance.worker import IN, PLAN, parse


@calls(scripts.PURGE)
async def _(lab: Lab) -> None:
    await lab.delayed()
    edges = [PLAN.edge_by_name[IN]]
    assert await Purging(lab.worker.broker).purge(edges, {"parse": 3}) == {"parse": 3}


@calls(scripts.EDIT_LETTERS)
async def _(lab: Lab) -> None:
    await StoredLetters(lab.worker.broker, "parse").edit([((await lab.letters())[0], b"edited"), ("1-1", b"gone")])


@calls(scripts.PUT_BACK_LETTERS)
async def _(lab: Lab) -> None:
    first, second = await lab.letters()
    ways = [WayBack(first, b"m1 - - 0", ""), WayBack(second, b"m2 - - 0", "", 60_000)]
    assert await StoredLetters(lab.worker.broker, "parse").put_back(IN, ways) == 2


@calls(scripts.PUT_BACK_KEPT)
async def _(lab: Lab) -> None:
    await lab.redis(b"XADD", lab.keys.kept("parse"), b"*", b"h", b"m1 - - 0", b"b", b'{"n":1}')
    keeping = flowq.Pipeline("lab", parse.options(keep=10)).plan
    assert await Kept(keeping, lab.worker.broker, "parse").replay() == 1


@calls(scripts.REMOVE_LETTERS)
async def _(lab: Lab) -> None:
    assert await StoredLetters(lab.worker.broker, "parse").remove(await lab.letters()) == 2


@calls(scripts.RESTORE_LETTERS)
async def _(lab: Lab) -> None:
    letters = [Exported(f"t{i}", f"1-{i + 1}", IN, b"m%d - - 0" % i, b"{}", b"{}") for i in range(2)]
    assert await StoredLetters(lab.worker.broker, "parse").restore(letters) == 2


@calls(scripts.READ_LETTERS)
async def _(lab: Lab) -> None:
    await StoredLetters(lab.worker.broker, "parse").named(await lab.letters())
