"""Cases of the scripts that look, and of those that record for them."""

from __future__ import annotations

from flowq.broker import scripts
from flowq.broker.audit import Audit, AuditRecord
from flowq.broker.inspection.browse import Browser
from flowq.broker.inspection.edge_stats import EdgeInspection
from flowq.broker.inspection.family import FamilySearch
from flowq.broker.inspection.letter_infos import letter_infos
from flowq.broker.inspection.retried_errors import RetriedErrors
from flowq.broker.inspection.throughput import Throughputs
from flowq.dead_letters.stored_letters import StoredLetters
from tests.conformance.script_cases.case import Lab, calls
from tests.conformance.worker import EDGES, PLAN


@calls(scripts.RECORD_THROUGHPUT)
async def _(lab: Lab) -> None:
    await Throughputs(lab.worker.broker).record({"parse": {3: 1}}, edges=EDGES)


@calls(scripts.RECORD_ACTION)
async def _(lab: Lab) -> None:
    await Audit(lab.worker.broker).record(AuditRecord(0, "ana", "pause", "parse", 0, "done"))


@calls(scripts.LETTER_INFOS)
async def _(lab: Lab) -> None:
    await lab.letters()
    await letter_infos(lab.worker.broker, {"parse": ""}, limit=10)


@calls(scripts.LETTERS_BEFORE)
async def _(lab: Lab) -> None:
    await lab.letters()
    await StoredLetters(lab.worker.broker, "parse").before("", limit=10)


@calls(scripts.SNAPSHOT)
async def _(lab: Lab) -> None:
    await lab.delayed()
    await lab.worker.snapshot()


@calls(scripts.EDGE_STATS)
async def _(lab: Lab) -> None:
    await lab.delayed()
    await EdgeInspection(lab.worker.broker).stats(EDGES)


@calls(scripts.DELAYED_FAILURES)
async def _(lab: Lab) -> None:
    await lab.delayed()
    assert (await RetriedErrors(lab.worker.broker).of(PLAN, await lab.worker.snapshot()))["parse"][0].delayed == 2


@calls(scripts.SLOWEST)
async def _(lab: Lab) -> None:
    await lab.delayed()
    await EdgeInspection(lab.worker.broker).slowest(EDGES, at_least_seconds=0)


@calls(scripts.BROWSE)
async def _(lab: Lab) -> None:
    await lab.delayed()
    await Browser(lab.worker.broker).peek(EDGES, most=10)


@calls(scripts.FIND_FAMILY)
async def _(lab: Lab) -> None:
    delivery = await lab.worker.given_one()
    search = FamilySearch(PLAN, lab.worker.broker, delivery.message_id)
    await search.step()
    assert len(search.found) == 1


@calls(scripts.BODY_REFERENCES)
async def _(lab: Lab) -> None:
    await lab.redis(b"XADD", lab.keys.released, b"*", b"r", b"a reference\n")
    await lab.worker.broker.script(scripts.BODY_REFERENCES, [lab.keys.released], 1, 10, "0-0")
