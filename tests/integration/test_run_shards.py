"""`flowq run --shard`: a process serves the shards that it is told to, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowq.delivery.encoding.dedup_key import dedup_hash
from flowq.delivery.placement import cell_of_hash, cells
from tests.integration.project import Project

DIVIDED = """
    import os
    from collections.abc import Iterator
    from pathlib import Path

    from flowq import Pipeline, source, stage


    @source
    def numbers() -> Iterator[int]:
        yield from range(60)


    @stage(place=str)
    def show(number: int) -> None:
        with Path("shown").open("a") as file:
            print(number, os.environ["WHO"], file=file)


    divided = Pipeline("divided", numbers >> show, shards=3)
"""

pytestmark = pytest.mark.project({"divided": DIVIDED})


def shown(folder: Path) -> dict[int, str]:
    """Who has shown each number. None is shown twice."""
    lines = [line.split() for line in (folder / "shown").read_text().splitlines()]
    assert len({number for number, _ in lines}) == len(lines)
    return {int(number): who for number, who in lines}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_processes_serve_the_shards_they_are_told_to(project: Project, workers: str) -> None:
    pinned = "--workers", workers, "--json"
    first = project.start("run", "divided", "--shard", "0", "--shard", "2", *pinned, WHO="first")
    second = project.start("run", "divided", "--stage", "show", "--shard", "1", *pinned, WHO="second")

    assert first.wait() == 0, (first.stderr, second.stderr)
    assert first.summary["drained"]
    assert not second.has_ended
    served_by = ["first", "second", "first"]
    homes = {n: cells(3)[cell_of_hash(dedup_hash(str(n)))] for n in range(60)}
    assert shown(project.folder) == {n: served_by[home] for n, home in homes.items()}


def test_a_shard_that_does_not_exist_is_refused(project: Project) -> None:
    run = project.run("run", "divided", "--shard", "3", WHO="nobody")

    assert run.wait() == 2
    assert "there is no shard 3" in run.stderr
    assert '"divided" has shards 0 to 2' in run.stderr


def test_a_run_in_memory_serves_all_shards(project: Project) -> None:
    run = project.run("run", "divided", "--shard", "1", "--memory", WHO="nobody")

    assert run.wait() == 2
    assert "no other process that could serve the other shards" in run.stderr
