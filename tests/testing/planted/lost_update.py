"""The bug: a handler reads, waits, and writes back. What another handler wrote in between is lost."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from flowq import Context, Pipeline, resource, stage, use
from flowq.testing.pipeline_harness import Harness
from tests.testing.planted.bug import Bug


class Deposit(BaseModel):
    cents: int


class Account:
    """A balance, and the deposits that it consists of."""

    def __init__(self) -> None:
        self.balance = 0
        self._deposits: dict[str, int] = {}

    async def deposit(self, key: str, cents: int) -> None:
        await asyncio.sleep(0.001)
        self._deposits[key] = cents
        self.balance = sum(self._deposits.values())


@resource
def account() -> Account:
    return Account()


@stage(concurrency=1)
async def credit(deposit: Deposit, account: Account = use(account)) -> None:
    balance = account.balance
    await asyncio.sleep(0.001)
    account.balance = balance + deposit.cents


@stage(name="credit", concurrency=1)
async def credit_by_message(deposit: Deposit, ctx: Context, account: Account = use(account)) -> None:
    await account.deposit(ctx.message_id, deposit.cents)


async def build(h: Harness, size: int) -> None:
    for _ in range(size):
        await h.feed("credit", Deposit(cents=100))
    await h.drain()
    balance = h.resource(account).balance
    assert balance == 100 * size, f"{size} deposits of 100 make {balance}"


BUG = Bug(Pipeline("bank", credit), Pipeline("bank", credit_by_message), build, lambda: {account: Account()})
