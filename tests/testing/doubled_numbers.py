"""The smallest pipeline of two stages, for tests of the kit that are not about its stages."""

from __future__ import annotations

from flowq import Pipeline, stage


@stage
async def double(number: int) -> int:
    return 2 * number


@stage
async def keep(number: int) -> None: ...


NUMBERS = Pipeline("numbers", double >> keep)
