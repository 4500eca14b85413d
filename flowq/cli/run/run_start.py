"""What `flowq run` looks at before it starts: whether this Redis will do, and what earlier versions left behind."""

from __future__ import annotations

from collections.abc import Sequence

from flowq.broker.inspection.diagnosis import folder_findings, refuse_old, start_up_findings
from flowq.broker.inspection.health import examine, refuse_without_permission
from flowq.broker.migration.recorded_plan import orphans_of, record_plan
from flowq.broker.redis_streams import Broker
from flowq.graph.compilation.plan import Plan


async def warnings_at_start(broker: Broker, plan: Plan, *, is_own: bool) -> Sequence[str]:
    """Put the plan on record; lines for the user about what he should know.

    `is_own`: flowq has set this Redis up itself. Raises BrokerRefused for a server that is too
    old, or that does not permit this user all that flowq needs.
    """
    warnings: list[str] = []
    if not is_own:
        health = await examine(broker)
        refuse_old(health, broker.dialer.address)
        if health.is_primary:
            await refuse_without_permission(broker)
        found = start_up_findings(health, broker.durability)
        warnings += [f"warning[{finding.code}]: {finding.text}  ({finding.hint})" for finding in found]
    found = await folder_findings(broker.claims) if plan.claiming and broker.claims is not None else ()
    warnings += [f"warning[{finding.code}]: {finding.text}  ({finding.hint})" for finding in found]
    recorded = await record_plan(broker, plan)
    orphans = [orphan for orphan in await orphans_of(broker, plan, recorded) if orphan.outstanding]
    if orphans:
        left = ", ".join(f"{orphan.outstanding:,} on {orphan.edge}" for orphan in orphans)
        warnings.append(f"messages are left on edges that {plan.name} no longer has: {left}  (flowq gc {plan.name})")
    return warnings
