"""The layout by which a publisher that is open places messages: another one once shards have been moved."""

from __future__ import annotations

from dataclasses import replace

from flowq.broker.redis_streams import Broker
from flowq.broker.shards.brokers import close_shards
from flowq.broker.shards.layout import WrongLayout
from flowq.broker.shards.layout_in_force import broker_in_force
from flowq.graph.compilation.plan import Plan

_LOOK_SECONDS = 0.25


class Layout:
    """A number of shards, with the broker of each and what the plan says for that number."""

    def __init__(self, plan: Plan, broker: Broker) -> None:
        self.plan = replace(plan, shards=len(broker.shards))
        self.broker = broker


class Layouts:
    """The layout in force. All inlets of one publisher share it."""

    def __init__(self, plan: Plan, broker: Broker) -> None:
        self.current = Layout(plan, broker)
        self._found = list[Broker]()

    async def after(self, refused: Layout, error: WrongLayout, *, waits: bool) -> Layout:
        """The layout that is in force now, where shards have refused another one with this error.

        Waits while shards are moved; unless it `waits`, that raises the error. Raises BrokerUnavailable as well.
        """
        while self.current is refused:
            broker = await broker_in_force(refused.broker)
            if broker is None:
                if not waits:
                    raise error
                await refused.broker.world.pause(_LOOK_SECONDS)
                continue
            self._found.append(broker)
            if self.current is refused:  # unless another push has found it meanwhile
                self.current = Layout(refused.plan, broker)
        return self.current

    async def close(self) -> None:
        """Close the brokers that were opened here."""
        for each in self._found:
            await close_shards(each)
