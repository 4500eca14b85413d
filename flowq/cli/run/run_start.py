"""What `flowq run` checks when it starts: whether this Redis is usable, and what earlier versions left behind."""

from __future__ import annotations

from flowq.broker.inspection.diagnosis import refuse_old, start_up_findings, store_findings
from flowq.broker.inspection.health import ServerHealth
from flowq.broker.migration.recorded_plan import RecordedPlan
from flowq.broker.redis_streams import Broker
from flowq.graph.compilation.plan import Plan


async def server_warnings(broker: Broker) -> list[str]:
    """What the user should know about a Redis that flowq has not started itself.

    Raises BrokerRefused for a server that is too old, or that does not permit this user all that flowq needs.
    """
    health = await ServerHealth(broker).examine()
    refuse_old(health, broker.dialer.address)
    if health.is_primary:
        await ServerHealth(broker).refuse_without_permission()
    found = start_up_findings(health, broker.durability)
    return [f"warning[{finding.code}]: {finding.text}  ({finding.hint})" for finding in found]


async def storage_warnings(broker: Broker, plan: Plan) -> list[str]:
    """What the user should know about the claim store, and about messages of earlier versions of the pipeline."""
    found = await store_findings(broker.claims) if plan.claiming and broker.claims is not None else ()
    warnings = [f"warning[{finding.code}]: {finding.text}  ({finding.hint})" for finding in found]
    orphans = [orphan for orphan in await RecordedPlan(broker).orphans(plan) if orphan.outstanding]
    if orphans:
        left = ", ".join(f"{orphan.outstanding:,} on {orphan.edge}" for orphan in orphans)
        warnings.append(f"messages are left on edges that {plan.name} no longer has: {left}  (flowq gc {plan.name})")
    return warnings
