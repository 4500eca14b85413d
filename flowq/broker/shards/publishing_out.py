"""Publishes in one shard what may be for other shards as well."""

from __future__ import annotations

from flowq.broker.publishing import Publishing
from flowq.broker.redis_streams import Broker
from flowq.broker.shards.outbox import OnSent


class PublishingOut(Publishing):
    """Publishes to edges of this shard and, through its outboxes, to those of others: all of a call in one step.

    The edge of a parcel may be an address. What is for other shards counts as appended: whether it is a duplicate is
    found out there, and its `maxsize` is not looked at here. `on_sent` is told what was put into outboxes. Each call
    raises WrongLayout, and publishes nothing, when the shard has another layout than this process.
    """

    def __init__(self, broker: Broker, *, on_sent: OnSent = lambda _: None) -> None:
        super().__init__(broker)
        self._on_sent = on_sent
