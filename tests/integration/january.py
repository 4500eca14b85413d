"""Some days of the flights of January, in their own project."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from examples.flights.dataset import FlightsUnavailable, flights, month_file
from tests.integration.flowq_process import FlowqProcess
from tests.integration.project import Project
from tests.requirements import unavailable

PIPELINES = Path(__file__).parents[2] / "pipelines"


@dataclass(frozen=True)
class January:
    """A project with the pipelines that read flights, and the file they are to read."""

    project: Project
    data: Path
    file: Path
    days: Collection[int]

    def run(self, pipeline: str, *options: str, **variables: str) -> FlowqProcess:
        """Run a pipeline to its end."""
        return self.project.run("run", pipeline, "--json", "-a", f"files={self.file}", *options, **variables)


@contextlib.contextmanager
def january(folder: Path, *, days: Collection[int] = range(1, 32), again: Collection[int] = ()) -> Iterator[January]:
    """Prepare a project whose file holds the flights of those days, and behind them some days again."""
    try:
        data = flights()
    except FlightsUnavailable as error:
        unavailable(str(error), "python -m examples.flights.dataset")
    file = folder / "january.csv"
    with (data / month_file(1)).open(encoding="utf-8") as lines:
        header, *rows = lines
        chosen = [row for some in (days, again) for row in rows if int(row.split(",", 3)[2]) in some]
        file.write_text(header + "".join(chosen))
    with Project(folder, FLIGHTS_DATA=str(data)) as project:
        for pipeline in (*PIPELINES.glob("flights*.py"), PIPELINES / "dispatch.py"):
            shutil.copy(pipeline, project.folder / "pipelines")
        yield January(project, data, file, days)
