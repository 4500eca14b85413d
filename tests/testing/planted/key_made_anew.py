"""The bug: an idempotency key that is made anew in each attempt, so that the service does not know the charge again."""

from __future__ import annotations

from uuid import uuid4

from flowq import Context, Pipeline, stage, use
from tests.testing.planted.bug import Bug
from tests.testing.planted.charged_twice import Order, Payments, build, payments


@stage
async def charge(order: Order, payments: Payments = use(payments)) -> None:
    await payments.charge(order, key=str(uuid4()))


@stage(name="charge")
async def charge_by_message(order: Order, ctx: Context, payments: Payments = use(payments)) -> None:
    await payments.charge(order, key=ctx.message_id)


BUG = Bug(Pipeline("shop", charge), Pipeline("shop", charge_by_message), build, lambda: {payments: Payments()})
