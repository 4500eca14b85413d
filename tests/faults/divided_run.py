"""A pipeline whose shards lie on three plain servers, run as a user runs it, and what it has left there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from flowq.broker.keys import Keys
from tests.cluster.lab import NAMESPACE, Servers, plain_servers
from tests.faults.deployments import Node
from tests.integration.flowq_process import FlowqProcess
from tests.integration.project import Project

N_ITEMS = 2000
N_SHARDS = 6
_DIVIDED = f"""
    import asyncio
    import os
    from collections.abc import AsyncIterator
    from pathlib import Path

    from flowq import Pipeline, SourceContext, source, stage

    HANDLED = Path("handled")


    def note(stage: str, n: int) -> None:
        file = os.open(HANDLED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(file, f"{{stage}} {{n}}\\n".encode())
        os.close(file)


    @source
    async def numbers(ctx: SourceContext[int]) -> AsyncIterator[int]:
        for n in range(ctx.cursor or 0, {N_ITEMS}):
            yield n
            ctx.save(n + 1)


    @stage(place=str, concurrency=4)
    async def first(n: int) -> int:
        await asyncio.sleep(0.02)
        note("first", n)
        return n


    @stage(place=lambda n: str(n * 7), concurrency=4)
    async def second(n: int) -> None:
        note("second", n)


    divided = Pipeline("divided", numbers >> first >> second, shards={N_SHARDS})
"""


class DividedRun:
    """The pipeline "divided", on three servers of which the first holds shards 0 and 3, the second 1 and 4."""

    def __init__(self, servers: Servers, project: Project) -> None:
        self.servers = servers
        self.project = project

    def start(self, *options: str) -> FlowqProcess:
        """Start a run; its summary is an object."""
        return self.project.start("run", "divided", "--json", *options)

    def handled(self) -> Counter[str]:
        """How often each message has been handled by each stage."""
        file = self.project.folder / "handled"
        return Counter(file.read_text().splitlines() if file.exists() else [])

    def is_under_way(self) -> bool:
        """Whether the run is in the middle: it will still take seconds."""
        return sum(self.handled().values()) > N_ITEMS // 4

    def server_of(self, shard: int) -> Node:
        return self.servers.nodes[shard % len(self.servers.nodes)]

    def shards_of(self, pid: int) -> set[int]:
        """The shards in which a process is registered."""
        return {shard for shard in range(N_SHARDS) if pid in self._pids_in(shard)}

    def _pids_in(self, shard: int) -> set[int]:
        registered = self.server_of(shard).client.hvals(_keys(shard).workers)
        return {orjson.loads(facts).get("pid") for facts in registered}

    def deaths_in(self, shard: int) -> dict[int, str]:
        """How processes have died, by their ids, as a shard knows it."""
        noted = self.server_of(shard).client.xrange(_keys(shard).deaths)
        return {orjson.loads(fields[b"facts"])["pid"]: fields[b"how"].decode() for _, fields in noted}

    def assert_is_exact(self, run: FlowqProcess) -> None:
        """Each message has been settled once at each stage: one that came twice would be counted twice."""
        assert run.wait() == 0, run.stderr
        for stage in ("first", "second"):
            balance = run.summary["stages"][stage]
            assert (balance["in"], balance["ok"]) == (N_ITEMS, N_ITEMS), run.summary
        assert self.handled().keys() == {f"{stage} {n}" for stage in ("first", "second") for n in range(N_ITEMS)}


def _keys(shard: int) -> Keys:
    return Keys(NAMESPACE, "divided").in_shard(shard)


@contextmanager
def divided_run(folder: Path) -> Iterator[DividedRun]:
    """Three servers and a project. All of its processes have ended at the end."""
    with plain_servers(3) as servers, Project(folder, FLOWQ_REDIS_URL=servers.url) as project:
        project.write("divided", _DIVIDED)
        yield DividedRun(servers, project)
