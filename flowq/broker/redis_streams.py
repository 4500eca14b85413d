"""The broker: everything flowq asks of Redis that is not on the path of a single message."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import orjson

from flowq.broker import scripts
from flowq.broker.claim_folder import ClaimFolder
from flowq.broker.client.connection import Command, Dialer, Link
from flowq.broker.client.redis_errors import is_denied, translate
from flowq.broker.client.retrying import CALL_TIMEOUT_SECONDS, again_if_lost, run_script
from flowq.broker.keys import GROUP, Keys
from flowq.broker.message_ids import MessageIds
from flowq.broker.paging import Paging
from flowq.broker.publishing import CursorMove, Parcel, packed
from flowq.broker.records import (
    Published,
    Reclaimed,
    Snapshot,
    deliveries_of,
    pairs,
    snapshot_of,
    worker_facts,
)
from flowq.delivery.dead_letter import CRASHES_BEFORE_BURIAL, crash_info
from flowq.delivery.message import Delivery
from flowq.delivery.policy import Durability
from flowq.delivery.settlement import Output
from flowq.delivery.stored import as_stored, name_in, text_in
from flowq.errors import ReplyCutOff


class Broker:
    """One pipeline's door to Redis.

    Calls raise BrokerUnavailable when Redis does not answer, and BrokerRefused when asking again would not help.
    `losses` counts connections that broke and groups that were lost, `epoch` the connections that were opened as well:
    a delivery read in an earlier epoch is settled by itself, because a restart or a failover in between may have given
    it to somebody else.
    """

    def __init__(
        self, dialer: Dialer, keys: Keys, *, durability: Durability = "local", claims: ClaimFolder | None = None
    ) -> None:
        self.dialer = dialer
        self.claims = claims  # where large bodies lie, if that is known
        self.durability: Durability = durability  # of what is published
        self.keys = keys
        self.epoch = self.losses = 0
        self.run_id = ""  # written into dead letters
        self.paging = Paging()  # of the calls whose replies may be large
        self._tokens = MessageIds()
        self.name = self.new_token()
        self._control = self.link(renews=True)
        # Waiting for a replica must not keep anything else waiting.
        self._publishing = self.link(renews=True) if durability == "replicated" else self._control

    def link(self, *, renews: bool = False) -> Link:
        """A connection for a reader or a settler. `renews`: for calls that need nothing of the last connection."""
        return Link(self.dialer, on_open=self._begin_epoch, on_failure=self.note_loss, renews=renews)

    def note_loss(self) -> None:
        """A reply may have been lost on its way, or a group with all that was pending in it."""
        self.losses += 1
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        """From now on somebody else may have been given what has been read so far."""
        self.epoch += 1

    async def close(self) -> None:
        await self._control.close()
        await self._publishing.close()
        if self.claims is not None:
            self.claims.close()

    async def ping(self) -> None:
        """Raise BrokerUnavailable or BrokerRefused if this Redis cannot be used."""
        (reply,) = await self._control.replies_to([(b"PING",)], timeout_seconds=CALL_TIMEOUT_SECONDS)
        if isinstance(reply, Exception) and not is_denied(reply):  # who may not even ask has been let in
            raise translate(reply, self.dialer.address)

    async def unblock(self, client_id: int) -> None:
        """End the blocking read of another connection as if its time were up."""
        await self._control.call(b"CLIENT", b"UNBLOCK", client_id, timeout_seconds=CALL_TIMEOUT_SECONDS)

    async def script(
        self, script: scripts.Script, keys: Sequence[Any], *arguments: Any, token: str = "", caller: str = ""
    ) -> Any:
        """Run a script. One that keeps its answers gives the same one to the same `token`, for ten minutes.

        Without a token it is sent again here, once, if its reply is lost. Of a `caller` only the last answer is kept.
        """
        if not script.keeps_answer:
            return await run_script(self._control, script, keys, arguments)
        own = token or self.new_token()
        names, words = [*keys, self.keys.answered(caller or own)], (*arguments, own)
        call = partial(run_script, self._control, script, names, words)
        return await (call() if token else again_if_lost(call))

    def new_token(self) -> str:
        """A token for one call, given by nobody else."""
        return self._tokens.next().decode()

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Several questions in one go. One that Redis refuses, as for want of a key, is answered with an error."""
        return await self._control.call_all(commands, timeout_seconds=CALL_TIMEOUT_SECONDS)

    async def answer(self, *command: Any) -> Any:
        """The answer to one command. Raises BrokerError."""
        (reply,) = await self.ask([command])
        if isinstance(reply, Exception):
            raise translate(reply, self.dialer.address)
        return reply

    # Edges

    async def ensure_groups(self, edges: Sequence[str], *, revoke: bool = False) -> None:
        """Make the consumer group of each edge, from the first entry on; one that exists is left as it is.

        Making a group again, or `revoke`, ends the registrations of its workers: what it gives again is settled once.
        """
        names = [self.keys.workers, *(self.keys.edge(edge) for edge in edges)]
        await self.script(scripts.MAKE_GROUPS, names, GROUP, int(revoke), *edges)

    async def promote(self, edges: Sequence[str], *, limit: int = 1000, token: str = "") -> tuple[int, int | None]:
        """Move due messages back to their streams: how many, and milliseconds until the next is due."""
        keys = [key for edge in edges for key in self._edge_keys(edge)]
        moved, next_ms = await self.script(scripts.PROMOTE, keys, limit, token=token, caller=f"{self.name}:promote")
        return moved, (None if next_ms < 0 else next_ms)

    def _edge_keys(self, edge: str) -> tuple[str, str, str]:
        return self.keys.edge(edge), self.keys.delayed(edge), self.keys.delayed_bodies(edge)

    async def publish(
        self,
        edge: str,
        messages: Sequence[Output],
        *,
        deduplicated_by: str | None = None,
        seen_ms: int = -1,
        token: str = "",
        maxsize: int = 0,
        delay_ms: int = 0,
        source: str = "",
    ) -> Published:
        """Append messages to an edge; the same token again appends nothing. `deduplicated_by` names a stage."""
        parcel = Parcel(edge, messages, (), deduplicated_by, maxsize, seen_ms)
        return await self.publish_together([parcel], token=token, delay_ms=delay_ms, source=source)

    async def publish_together(
        self,
        parcels: Sequence[Parcel],
        *,
        token: str = "",
        delay_ms: int = 0,
        source: str = "",
        move: CursorMove | None = None,
        finished: str = "",
        runner: str = "",
    ) -> Published:
        """Append to several edges in one step, and move the cursor of the source that all this comes from.

        `runner` is the worker that runs it. `finished`: the signature of its arguments, when this is the last that it
        gives. Where a replica must confirm it first, that is not noted here.
        """
        names, arguments = packed(
            self.keys, parcels, token=token, delay_ms=delay_ms, source=source, move=move,
            finished=_done(finished) if finished and self.durability == "local" else "", runner=runner,
            releases=self.claims is not None and self.claims.has_stored,
        )  # fmt: skip
        replicated = self.durability == "replicated"
        reply = await run_script(self._publishing, scripts.PUBLISH, names, arguments, replicated=replicated)
        match reply[0]:
            case 1:
                return Published(reply[1], reply[2])
            case 0:
                return Published(0, 0, full_at=reply[1])
            case _:
                return Published(0, 0, is_elsewhere=True)

    async def was_published(self, token: str) -> bool:
        """Whether a call with this token has been stored, of whose reply nothing is known."""
        score = await self._control.call(b"ZSCORE", self.keys.published, token, timeout_seconds=CALL_TIMEOUT_SECONDS)
        return score is not None

    async def cursor(self, name: str) -> bytes:
        """Where a source shall go on; b"" for the beginning."""
        stored = await self._control.call(b"HGET", self.keys.cursors, name, timeout_seconds=CALL_TIMEOUT_SECONDS)
        return stored or b""

    async def outstanding(self, edges: Sequence[str]) -> dict[str, int]:
        """Messages waiting, running and delayed on each edge."""
        keys = self.keys
        commands = [
            command for edge in edges for command in ((b"XLEN", keys.edge(edge)), (b"ZCARD", keys.delayed(edge)))
        ]
        replies = await self._control.call_all(commands, timeout_seconds=CALL_TIMEOUT_SECONDS)
        counts = [reply if isinstance(reply, int) else 0 for reply in replies]
        return {edge: counts[2 * i] + counts[2 * i + 1] for i, edge in enumerate(edges)}

    # Workers

    async def register(self, worker: str, info: Mapping[str, Any], *, lease_ms: int, heartbeat: str) -> None:
        """Enter a worker under a name that has not been used before."""
        keys = [self.keys.workers, self.keys.lease(worker)]
        await self.script(scripts.REGISTER, keys, worker, lease_ms, heartbeat, orjson.dumps({"worker": worker, **info}))

    async def renew(self, worker: str, *, lease_ms: int, heartbeat: str) -> bool:
        """Keep a lease alive. False: the worker's messages have been reclaimed and it needs a new name."""
        keys = [self.keys.workers, self.keys.lease(worker)]
        return bool(await self.script(scripts.REGISTER, keys, worker, lease_ms, heartbeat, b""))

    async def retire(self, worker: str, edges: Sequence[str], *, reason: str = "stopped") -> int:
        """Sign a worker off; returns the number of edges on which something is still pending for it."""
        keys = self.keys
        streams = [keys.edge(edge) for edge in edges]
        names = [keys.workers, keys.death_records, as_stored(keys.lease(worker)), *streams]
        left: int = await self.script(scripts.RETIRE, names, GROUP, as_stored(worker), reason)
        return left

    async def record_death(self, worker: str, reason: str) -> None:
        """Tell everybody that a worker's process is gone, so that nobody waits for its lease."""
        names = [self.keys.death_records, as_stored(self.keys.lease(worker)), self.keys.workers]
        await self.script(scripts.RECORD_DEATH, names, as_stored(worker), reason)

    async def forget(self, workers: Sequence[str]) -> None:
        """Strike off workers that are gone and have left nothing behind."""
        if workers:
            keys, names = self.keys, [as_stored(worker) for worker in workers]
            await self.script(scripts.STRIKE_OFF, [keys.workers, keys.death_records, keys.suspects], *names)

    async def registered_workers(self) -> dict[str, dict[str, Any]]:
        """Everybody who is signed on, by name, with what they told of themselves."""
        reply = await self._control.call(b"HGETALL", self.keys.workers, timeout_seconds=CALL_TIMEOUT_SECONDS)
        return {name_in(name): worker_facts(info) for name, info in pairs(reply)}

    async def death_records(self) -> dict[str, str]:
        """The workers known to be gone, and how they went."""
        reply = await self._control.call(b"HGETALL", self.keys.death_records, timeout_seconds=CALL_TIMEOUT_SECONDS)
        return {name_in(name): text_in(how) for name, how in pairs(reply)}

    async def consumers_of(self, edges: Sequence[str]) -> dict[str, set[str]]:
        """The consumer names that Redis knows on each edge."""
        commands = [(b"XINFO", b"CONSUMERS", self.keys.edge(edge), GROUP) for edge in edges]
        replies = await self._control.call_all(commands, timeout_seconds=CALL_TIMEOUT_SECONDS)
        return {
            edge: set() if isinstance(reply, Exception) else {name_in(dict(pairs(row))[b"name"]) for row in reply}
            for edge, reply in zip(edges, replies, strict=True)
        }

    async def leases(self, workers: Sequence[str]) -> dict[str, str | None]:
        """The heartbeat of each worker's lease, None where it has none."""
        if not workers:
            return {}
        names = [as_stored(self.keys.lease(worker)) for worker in workers]
        reply = await self._control.call(b"MGET", *names, timeout_seconds=CALL_TIMEOUT_SECONDS)
        return {worker: heartbeat and text_in(heartbeat) for worker, heartbeat in zip(workers, reply, strict=True)}

    async def reclaim(
        self, edge: str, victim: str, worker: str, *, limit: int, heartbeat: str | None = None, crashed: str = ""
    ) -> Reclaimed | None:
        """Take over what a dead worker left on an edge. None: its lease lives, or this worker is not registered.

        `crashed` says how it crashed, if it did: what it was at is then counted, and buried at the third time.
        """
        epoch, keys, stage = self.epoch, self.keys, edge.rpartition(">")[2]
        names = [
            keys.workers, as_stored(keys.lease(victim)), keys.edge(edge), keys.suspects, keys.dead(stage), keys.stats,
            keys.answered(f"{self.name}:reclaim:{edge}"),
        ]  # fmt: skip
        limit_of_crashes = CRASHES_BEFORE_BURIAL if crashed else 0
        letter = orjson.dumps(crash_info(as_stored(victim), crashed, self.run_id))
        limit = self.paging.bound(limit)
        arguments = GROUP, as_stored(victim), worker, limit, heartbeat or "", edge, stage, limit_of_crashes, letter
        try:
            reply = await again_if_lost(partial(self.script, scripts.RECLAIM, names, *arguments, self.new_token()))
        except ReplyCutOff:  # what was claimed is found by whoever asks for what this worker was given
            self.paging.cut_off(limit)
            raise
        if reply[0] == 0:
            return None
        entries: Sequence[Any] = reply[1] if reply[0] == 1 else ()
        return Reclaimed(deliveries_of(edge, entries, worker, epoch), finished=reply[0] == 2)

    async def clear_suspicion(self, delivery: Delivery) -> None:
        """A message that was under way in a crash has been run alone, and nobody died of it."""
        suspect = f"{delivery.edge}|{delivery.entry_id.decode()}"
        await self._control.call(b"HDEL", self.keys.suspects, suspect, timeout_seconds=CALL_TIMEOUT_SECONDS)

    # Runs

    async def begin_run(
        self,
        run_id: str,
        *,
        sources: Sequence[str],
        signature: str,
        edges: Sequence[str],
        stages: Sequence[str],
        fresh: bool = False,
        remembering: Collection[str] = (),
    ) -> tuple[str, bool, dict[str, bool]]:
        """Begin a run or join the unfinished one: its id, whether it goes on, and which sources have finished.

        What the stages `remembering` have been given outlives the run, unless `fresh`.
        """
        keys = self.keys
        forgetting = [stage for stage in stages if fresh or stage not in remembering]
        seen = [key for stage in forgetting for key in (keys.seen(stage), keys.seen_until(stage))]
        names = [key for edge in edges for key in self._edge_keys(edge)]
        names = [
            keys.run, keys.stats, keys.cursors, *seen, *names,
            *(key(stage) for key in (keys.dead, keys.amended, keys.restored, keys.kept) for stage in stages),
        ]  # fmt: skip
        arguments = run_id, len(seen), len(edges), int(fresh), signature, GROUP, *sources
        reply = await again_if_lost(partial(self.script, scripts.BEGIN_RUN, names, *arguments))
        finished = {source: bool(done) for source, done in zip(sources, reply[2:], strict=True)}
        return text_in(reply[0]), bool(reply[1]), finished

    async def source_finished(self, source: str, signature: str) -> None:
        """Note that a source has given everything it had."""
        field, state = f"source:{source}", _done(signature)
        await self._control.call(b"HSET", self.keys.run, field, state, timeout_seconds=CALL_TIMEOUT_SECONDS)

    async def is_source_finished(self, source: str, signature: str) -> bool:
        """Whether a source has given everything for these arguments in the current run."""
        state = await self._control.call(
            b"HGET", self.keys.run, f"source:{source}", timeout_seconds=CALL_TIMEOUT_SECONDS
        )
        return bool(state == _done(signature).encode())

    async def snapshot(self, edges: Sequence[str], stages: Sequence[str]) -> Snapshot:
        """The whole state in one atomic step."""
        keys = self.keys
        names = [key for edge in edges for key in (keys.edge(edge), keys.delayed(edge))]
        dead = [keys.dead(stage) for stage in stages]
        reply = await self.script(
            scripts.SNAPSHOT, [keys.stats, keys.run, keys.workers, keys.paused, *names, *dead], GROUP, len(edges)
        )
        return snapshot_of(reply, edges, stages)


def _done(signature: str) -> str:
    """What stands at a source that has given everything for these arguments."""
    return f"done {signature}"
