"""Settles deliveries of one shard whose outputs may go to other shards."""

from __future__ import annotations

from collections.abc import Mapping

from flowq.broker.claims import ClaimCheck
from flowq.broker.redis_streams import Broker
from flowq.broker.settling import Settling
from flowq.broker.shards.outbox import OnSent
from flowq.delivery.policy import DedupMemory, Keep


class SettlingOut(Settling):
    """Settles, and puts outputs for other shards into the outboxes of this one in the same step.

    An output asks for another shard by its edge: see `address`. `on_sent` is told what was put into outboxes; what it
    is not told, because a reply was lost, lies there all the same. Raises WrongLayout, which ends the worker, when the
    shard has another layout than this process.
    """

    def __init__(
        self,
        broker: Broker,
        deduplicating: Mapping[str, DedupMemory],
        keeping: Mapping[str, Keep] | None = None,
        claims: ClaimCheck | None = None,
        *,
        keeps_answers: bool = False,
        on_sent: OnSent = lambda _: None,
    ) -> None:
        super().__init__(broker, deduplicating, keeping, claims, keeps_answers=keeps_answers)
        self._on_sent = on_sent
