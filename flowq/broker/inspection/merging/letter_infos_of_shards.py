"""Reads why and when messages died in all shards of a pipeline: the letters of each stage in one order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowq.broker.inspection.letter_infos import LetterInfos, letter_infos
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.every_shard import ask_every_shard
from flowq.delivery.letter_ids import LetterId


async def letter_infos_of_all_shards(
    broker: Broker, after: Mapping[str, str], *, limit: int, ids_only: bool = False
) -> tuple[int, Mapping[str, LetterInfos]]:
    """As `letter_infos`, of all shards; `after` may also be the `position` of an earlier answer.

    Letters come in the order of their ids. Only one that died in another shard in the same moment as the last one of an
    earlier answer may come after it.
    """
    if len(broker.shards) == 1:
        return await letter_infos(broker, after, limit=limit, ids_only=ids_only)
    n = len(broker.shards)
    positions = {stage: _positions(at, n) for stage, at in after.items()}

    async def read(shard: Broker) -> tuple[int, Mapping[str, LetterInfos]]:
        first = {stage: each[shard.shard] for stage, each in positions.items()}
        return await letter_infos(shard, first, limit=max(1, limit // n), ids_only=ids_only)

    found = (await ask_every_shard(broker, read)).whole
    return max(now_ms for now_ms, _ in found), {
        stage: _merged([infos[stage] for _, infos in found], positions[stage]) for stage in after
    }


def _positions(after: str, n: int) -> Sequence[str]:
    """Where to go on in each shard: after a letter, or where each shard was left."""
    if "/" in after:
        return after.split("/")
    last = LetterId.parse(after) if after else None
    return [last.after_in(shard) if last else "" for shard in range(n)]


def _merged(seen: Sequence[LetterInfos], before: Sequence[str]) -> LetterInfos:
    """The letters of all shards up to the first that is known to be followed by others which were not read."""
    ends = [_id(infos, shard) for shard, infos in enumerate(seen) if not infos.is_all]
    end = min((each for each in ends if each is not None), default=None)
    named = {
        LetterId.parse(at)._replace(shard=shard): info
        for shard, infos in enumerate(seen)
        for at, info in infos.by_id.items()
    }
    known = [at for at in sorted(named) if end is None or at <= end]
    reached = list(before)
    for at in known:
        reached[at.shard or 0] = at.entry
    return LetterInfos(
        n_kept=sum(infos.n_kept for infos in seen),
        is_all=all(infos.is_all for infos in seen),
        by_id={str(at): named[at] for at in known},
        position="/".join(reached),
    )


def _id(infos: LetterInfos, shard: int) -> LetterId | None:
    """The last letter that was read of a shard; of one that has sent none, nothing is known at all."""
    last = next(reversed(infos.by_id), None)
    return None if last is None else LetterId.parse(last)._replace(shard=shard)
