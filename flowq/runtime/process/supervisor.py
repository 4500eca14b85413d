"""Starts worker processes, replaces those that die, records their deaths, and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import IO, Any, TypeVar

from flowq.broker.client.retrying import retry_until_available
from flowq.broker.message_ids import new_worker_name
from flowq.broker.redis_streams import Broker
from flowq.broker.runs import Runs
from flowq.broker.shards.waves import is_any_outstanding
from flowq.broker.workers import Workers
from flowq.errors import BrokerError, BrokerUnavailable, WorkerFailed
from flowq.runtime.death_records import Death, crashed, sign_off_the_dead
from flowq.runtime.identity import SUPERVISOR_VARIABLE, process_birth
from flowq.runtime.process.death_recorder import DeathRecorder
from flowq.runtime.process.slot import Duty, Slot
from flowq.runtime.process.worker_output import PrintLines, WorkerOutput
from flowq.runtime.waiting import first_to_end, is_set_within

T = TypeVar("T")

EXIT_REPORTED = 78
"""The exit code of a worker that has reported an error which a restart would not fix."""

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 10.0
_LIVED_WELL_SECONDS = 10.0
_MOST_STILLBORN = 5
_MOST_DEATHS_OF_A_SOURCE = 4
KILL_MARGIN_SECONDS = 2.0
_DEATH_POLL_SECONDS = 0.5
_LAST_WORD_SECONDS = 0.5


class Supervisor:
    """Keeps worker processes running. `command` starts one; `instructions(number, duty)` is its standard input.

    Workers print to `stdout`, by default that of this process; with `print_lines`, what they print is passed to it
    instead, standard error as well. The pipe to their standard input stays open: a worker
    whose supervisor is gone sees its end, and stops. Workers have sessions of their own, so that Ctrl-C reaches only
    the supervisor, which then stops them in order.

    The messages that crashed workers were running are run by one more process, the quarantine, one at a time: the next
    crash then identifies its cause and affects no healthy message. The quarantine starts when a crash is recorded, and
    ends when it has nothing left to do.

    `sources` run in the first worker. When it crashes, each source gets a process of its own, so that a crash
    identifies the source that caused it while the stages continue. A source that keeps crashing without progress ends
    the run, once everything it emitted is handled.

    `restart` replaces all workers in order. With `awaits_restarts`, a worker that has reported an error waits for one,
    instead of ending the run.

    `edges` are those that the workers read, `all_edges` those of the whole pipeline. Workers inherit `inherited_fds`.
    """

    def __init__(
        self,
        broker: Broker,
        command: Sequence[str],
        instructions: Callable[[int, Duty], bytes],
        *,
        sources: Sequence[str] = (),
        edges: Sequence[str],
        all_edges: Sequence[str],
        workers: int,
        grace_seconds: float,
        note: Callable[[str], None],
        stdout: IO[str] | None = None,
        print_lines: PrintLines | None = None,
        inherited_fds: Sequence[int] = (),
        awaits_restarts: bool = False,
    ) -> None:
        self._name = new_worker_name(broker.world)
        self._broker = broker
        self._command = command
        self._instructions = instructions
        self._edges = edges
        self._all_edges = all_edges
        self._grace_seconds = grace_seconds
        self._note = note
        self._stdout = stdout
        self._output = None if print_lines is None else WorkerOutput(print_lines)
        self._inherited_fds = inherited_fds
        self._awaits_restarts = awaits_restarts
        self._sources = sources
        self._slots = [Slot(number) for number in range(workers)]
        self._quarantine = Slot(workers, Duty(quarantined=True))
        self._source_slots: list[Slot] = []
        self._stopping = asyncio.Event()
        self._has_died = asyncio.Event()
        self._deaths = DeathRecorder(broker, on_recorded=self._has_died.set, on_end=self._on_end)
        self.failed: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def _every_slot(self) -> list[Slot]:
        return [*self._slots, self._quarantine, *self._source_slots]

    @property
    def pids(self) -> list[int]:
        """The worker processes alive now."""
        slots = [*self._slots, *self._source_slots]
        return [slot.running.pid for slot in slots if slot.running]

    @property
    def has_reported(self) -> bool:
        """Whether a worker has reported an error of its own, such as a resource that failed to close."""
        return any(slot.process and slot.process.returncode == EXIT_REPORTED for slot in self._every_slot)

    async def start(self) -> None:
        """Start every worker."""
        for slot in self._slots:
            self._watch(slot, self._keep_filled(slot))
        self._watch(self._quarantine, self._keep_quarantine())

    def _watch(self, slot: Slot, work: Coroutine[Any, Any, None]) -> None:
        slot.watcher = asyncio.create_task(work)
        slot.watcher.add_done_callback(self._on_end)

    async def _keep_quarantine(self) -> None:
        while not self._stopping.is_set():
            self._has_died.clear()
            looking = asyncio.ensure_future(self._has_suspects())
            with contextlib.suppress(BrokerError):
                await first_to_end(looking, self._has_died.wait())  # a shard that is away would keep it for seconds
                if looking.done() and looking.result() and not self._stopping.is_set():
                    await self._run_one(self._quarantine)
            await is_set_within(self._has_died, _DEATH_POLL_SECONDS)

    async def _has_suspects(self) -> bool:
        """Whether a crashed worker, of this machine or another, has left something on the edges that are run here."""
        looks = [asyncio.ensure_future(self._has_suspects_in(shard)) for shard in self._broker.shards]
        try:
            for look in asyncio.as_completed(looks):
                with contextlib.suppress(BrokerUnavailable):
                    if await look:
                        return True
            return False
        finally:
            for look in looks:
                look.cancel()

    async def _has_suspects_in(self, shard: Broker) -> bool:
        dead = set(crashed(await Workers(shard).death_records()))
        consumers = await Workers(shard).consumers_of(self._edges) if dead else {}
        return any(names & dead for names in consumers.values())

    async def _keep_filled(self, slot: Slot) -> None:
        while not self._stopping.is_set():
            code = await self._run_one(slot)
            if await self._is_over(slot, code):
                return
            if slot.asked.is_set():
                continue
            if slot.stillborn == _MOST_STILLBORN:
                self.failed.set_exception(WorkerFailed(
                    f"{_MOST_STILLBORN} workers in a row {describe(code)} before they started work",
                    hint="importing the pipeline or opening its resources crashes; "
                    "--workers 0 runs it in this process",
                ))  # fmt: skip
                return
            if code != 0 and slot is self._slots[0] and not slot.stillborn:
                self._separate_sources(slot)
            self._note(f"worker {slot.number + 1} {describe(code)}; starting another")
            pause_seconds = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(slot.failures, 10))
            await is_set_within(self._stopping, pause_seconds)

    async def _is_over(self, slot: Slot, code: int) -> bool:
        """Whether no other process may take this slot; an error that was reported may wait for a restart first."""
        if code == EXIT_REPORTED and self._awaits_restarts and not self.failed.done():
            if not slot.asked.is_set() and not self._stopping.is_set():
                self._note(f"worker {slot.number + 1} starts again when the code has changed")
            await first_to_end(slot.asked.wait(), self._stopping.wait())
        elif code == EXIT_REPORTED and not self._stopping.is_set() and not self.failed.done():
            self.failed.set_result(code)
        return self._stopping.is_set() or self.failed.done()

    # Separated sources

    def _separate_sources(self, first: Slot) -> None:
        """Run each source in a process of its own from now on."""
        if first.duty.without_sources:
            return
        first.duty = Duty(without_sources=True)
        for source in self._sources:
            slot = Slot(first.number, Duty(only_source=source))
            self._source_slots.append(slot)
            self._watch(slot, self._keep_source(slot))

    async def _keep_source(self, slot: Slot) -> None:
        source, deaths, cursors = slot.duty.only_source, 0, dict[bytes, bytes]()
        while not self._stopping.is_set():
            code = await self._run_one(slot)
            if await self._is_over(slot, code):
                return
            if slot.asked.is_set():
                continue
            if code == 0:
                return
            looking = retry_until_available(
                self._broker.world, partial(Runs(self._broker).cursors, source), what="reading cursors"
            )
            before, cursors = cursors, await looking
            deaths = deaths + 1 if cursors == before or not deaths else 1
            if deaths == _MOST_DEATHS_OF_A_SOURCE:
                await self._give_up_on(source, f"{describe(code)} {deaths} times in a row")
                return
            self._note(f'the worker of source "{source}" {describe(code)}; starting another')
            await is_set_within(self._stopping, _FIRST_PAUSE_SECONDS * 2.0**deaths)

    async def _give_up_on(self, source: str, how: str) -> None:
        """End the run once everything that the source emitted is handled: the next run would get no further either."""
        self._note(f'the worker of source "{source}" {how}; this run ends once everything it emitted is handled')
        looking = partial(is_any_outstanding, self._broker, self._edges)
        while not self._stopping.is_set() and await retry_until_available(
            self._broker.world, looking, what="watching the pipeline"
        ):
            await is_set_within(self._stopping, _DEATH_POLL_SECONDS)
        if not self.failed.done():
            self.failed.set_exception(WorkerFailed(
                f'source "{source}" ends its worker: with nothing else in the process, it {how}',
                hint="it may have run out of memory, or code in C has crashed; --workers 0 runs it in this process",
            ))  # fmt: skip

    def _on_end(self, task: asyncio.Task[Any]) -> None:
        """Fail with the error of a task: without its watcher, a slot would stay empty unnoticed."""
        if not task.cancelled() and (error := task.exception()) and not self.failed.done():
            self.failed.set_exception(error)

    async def _run_one(self, slot: Slot) -> int:
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        slot.asked.clear()
        process = slot.process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=PIPE,
            stdout=self._output.fd if self._output else self._stdout,
            stderr=self._output.fd if self._output else None,
            start_new_session=True,
            pass_fds=self._inherited_fds,
            env={**os.environ, SUPERVISOR_VARIABLE: self._name},
        )
        born = process_birth(process.pid)
        assert process.stdin is not None
        with contextlib.suppress(RuntimeError, ProcessLookupError):  # it may have died at once
            process.stdin.write(self._instructions(slot.number, slot.duty) + b"\n")
            if self._stopping.is_set() or slot.asked.is_set():  # it has missed the signal that the others got
                process.terminate()
        code = await process.wait()
        # One that ended in order has signed off: nothing to record, whatever its exit code.
        was_asked = slot.asked.is_set() or self._stopping.is_set()
        death = Death(self._name, process.pid, born, describe(code), was_asked)
        had_signed_on = await self._unless_stopping(self._deaths.record(death))
        lived_well = loop.time() - started_at > _LIVED_WELL_SECONDS
        did_well = lived_well or slot.asked.is_set()
        slot.failures = 0 if did_well else slot.failures + 1
        slot.stillborn = 0 if did_well or had_signed_on or code == 0 else slot.stillborn + 1
        return code

    async def _unless_stopping(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Await work; once the workers are to stop, not for long: Redis may be gone, and leases expire anyway."""
        task = asyncio.create_task(work)
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait([task], timeout=_LAST_WORD_SECONDS)
        stopping.cancel()
        if task.done():
            return task.result()
        task.cancel()
        return None

    async def restart(self) -> None:
        """Have every worker finish its running messages, then start others, which import the code as it is then.

        Returns when the last one has ended, by force if it does not end within the grace.
        """
        processes = [slot.running for slot in self._every_slot if slot.running]
        for slot in self._every_slot:
            slot.ask_to_end()
        ended = asyncio.gather(*(process.wait() for process in processes))
        try:
            async with asyncio.timeout(self._grace_seconds + KILL_MARGIN_SECONDS):
                await asyncio.shield(ended)
        except TimeoutError:
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await ended

    async def stop(self, hurry: asyncio.Event) -> None:
        """Stop every worker: in order, quickly once `hurry` is set, and by force if it does not end."""
        self._stopping.set()
        self._has_died.set()
        for slot in self._every_slot:
            slot.ask_to_end()
        try:
            await self._until_all_have_ended(hurry)
        finally:
            if self._output is not None:
                self._output.close()

    async def _until_all_have_ended(self, hurry: asyncio.Event) -> None:
        watchers = [slot.watcher for slot in self._every_slot if slot.watcher]
        if not watchers:
            return
        ended = asyncio.gather(*watchers, return_exceptions=True)
        hurrying = asyncio.create_task(self._forward(hurry))
        try:
            async with asyncio.timeout(self._grace_seconds + KILL_MARGIN_SECONDS):
                await asyncio.shield(ended)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await ended
        finally:
            hurrying.cancel()
        await self._deaths.close(within_seconds=_LAST_WORD_SECONDS)
        with contextlib.suppress(BrokerError, TimeoutError):
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                await sign_off_the_dead(self._broker, self._all_edges)

    async def _forward(self, hurry: asyncio.Event) -> None:
        await hurry.wait()
        self._signal(signal.SIGINT)  # another one than stop() has sent: two equal signals may arrive as one
        await asyncio.sleep(KILL_MARGIN_SECONDS)
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for slot in self._every_slot:
            slot.send(number)


def describe(code: int) -> str:
    """How a process ended, for people.

    >>> describe(-9), describe(1)
    ('died of SIGKILL', 'ended with exit code 1')
    """
    return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
