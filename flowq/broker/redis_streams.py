"""The broker: the connections of one shard of a pipeline to Redis, which every other module of this package uses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

from flowq.broker import scripts
from flowq.broker.client.connection import Command, Dialer, Link
from flowq.broker.client.redis_errors import is_denied, translate
from flowq.broker.client.retrying import CALL_TIMEOUT_SECONDS, again_if_lost, run_script
from flowq.broker.client.rounds import Rounds, answered
from flowq.broker.keys import Keys
from flowq.broker.message_ids import MessageIds
from flowq.broker.paging import Paging, pass_over
from flowq.delivery.policy import Durability
from flowq.delivery.stored import text_in
from flowq.large_bodies.store import BodyStore
from flowq.world import REAL, World

T = TypeVar("T")


class Broker:
    """The connections of one shard of a pipeline to Redis.

    Calls raise BrokerUnavailable when Redis does not answer, and BrokerRefused when asking again would not help.
    `losses` counts connections that broke and groups that were lost, `epoch` the connections that were opened as well:
    a delivery read in an earlier epoch is settled by itself, because a restart or a failover since then may have
    delivered it to another worker.
    """

    def __init__(
        self,
        dialer: Dialer,
        keys: Keys,
        *,
        durability: Durability = "local",
        claims: BodyStore | None = None,
        world: World = REAL,
    ) -> None:
        self.dialer = dialer
        self.world = world  # the clock and the random numbers of everything that uses this broker
        self.claims = claims  # the store of large bodies, if there is one
        self.durability: Durability = durability  # of what is published
        self.keys = keys
        self.shards: Sequence[Broker] = (self,)
        self.moving = ""  # the layout while this process moves what is in the shards
        self.epoch = self.losses = 0
        self.run_id = ""  # written into dead letters
        self.paging = Paging()  # of the calls whose replies may be large
        self._tokens = MessageIds(world)
        self.name = self.new_token()
        self._control = self.link(renews=True)
        # Waiting for a replica must not block anything else.
        self.publishing = self.link(renews=True) if durability == "replicated" else self._control

    @property
    def shard(self) -> int:
        """The number of its shard."""
        return self.keys.shard

    @property
    def layout(self) -> str | int:
        """What scripts find in `heads` of a shard that has the same layout as this process."""
        return self.moving or len(self.shards)

    def link(self, *, renews: bool = False) -> Link:
        """A connection for a reader or a settler. `renews`: for calls that do not depend on the last connection."""
        return Link(self.dialer, self.world, on_open=self._begin_epoch, on_failure=self.note_loss, renews=renews)

    def note_loss(self) -> None:
        """A reply may have been lost, or a group with everything pending in it."""
        self.losses += 1
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        """From now on, other workers may have received what was read so far."""
        self.epoch += 1

    async def close(self) -> None:
        await self._control.close()
        await self.publishing.close()
        if self.claims is not None:
            self.claims.close()

    async def ping(self) -> None:
        """Raise BrokerUnavailable or BrokerRefused if this Redis cannot be used."""
        (reply,) = await self._control.replies_to([(b"PING",)], timeout_seconds=CALL_TIMEOUT_SECONDS)
        if isinstance(reply, Exception) and not is_denied(reply):  # a user who may not PING has logged in
            raise translate(reply, self.dialer.address)

    async def unblock(self, client_id: int) -> None:
        """End the blocking read of another connection as if its time were up."""
        await self._control.call(b"CLIENT", b"UNBLOCK", client_id, timeout_seconds=CALL_TIMEOUT_SECONDS)

    async def script(
        self, script: scripts.Script, keys: Sequence[Any], *arguments: Any, token: str = "", caller: str = ""
    ) -> Any:
        """Run a script. One that keeps its answers returns the same answer for the same `token`, for ten minutes.

        Without a token it is sent again here, once, if its reply is lost. Of a `caller` only the last answer is kept.
        """
        if not script.keeps_answer:
            return await run_script(self._control, script, keys, arguments)
        own = token or self.new_token()
        names, words = [*keys, self.keys.answered(caller or own)], (*arguments, own)
        call = partial(run_script, self._control, script, names, words)
        return await (call() if token else again_if_lost(call))

    def new_token(self) -> str:
        """A unique token for one call."""
        return self._tokens.next().decode()

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send several commands at once. The reply to one that Redis refuses is an exception."""
        return await self._control.call_all(commands, timeout_seconds=CALL_TIMEOUT_SECONDS)

    async def read(self, reading: Rounds[T]) -> T:
        """The result of a reading, in as many calls as it has rounds."""
        return await answered(reading, self._control, self.dialer.address)

    async def ask_each(self, commands: Sequence[Command]) -> list[Any]:
        """The reply to each command that reads one message, None for an error. One too large to arrive is skipped."""

        async def ask(some: Sequence[Command]) -> list[tuple[Any]]:
            return [(reply,) for reply in await self.ask(some)]

        replies: list[Any] = []
        for command, answer in zip(commands, await self.paging.of_each(commands, ask), strict=True):
            if answer is None:
                pass_over(f"{text_in(command[2])} of {command[1]}")
            replies.append(None if answer is None or isinstance(answer[0], Exception) else answer[0])
        return replies

    async def answer(self, *command: Any) -> Any:
        """The answer to one command. Raises BrokerError."""
        (reply,) = await self.answers([command])
        return reply

    async def now_ms(self) -> int:
        """The time by the clock of Redis, in milliseconds since 1970. Raises BrokerError."""
        seconds, microseconds = await self.answer(b"TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def answers(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to several commands, sent at once. Raises BrokerError if Redis refuses one."""
        return await self._control.answers(commands, timeout_seconds=CALL_TIMEOUT_SECONDS)
