"""Rows of CSV with more or fewer cells than columns: dead letters, completed, or left out and counted."""

from __future__ import annotations

import csv as stdlib_csv
import io
import logging
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from flowq import SourceContext
from flowq.errors import UsageError
from flowq.sources import csv
from flowq.sources.position import Position

Context = SourceContext[dict[str, Position]]
Ragged = Literal["error", "pad", "ignore"]
Cells = dict[str, str]


class Row(BaseModel):
    id: int
    note: str = "none"
    extra: str = "nothing"


def file_of(tmp_path: Path, content: bytes) -> Path:
    file = tmp_path / "rows.csv"
    file.write_bytes(content)
    return file


RAGGED = b"id,note,extra\n1,a,b\n2\n3,c\n4,d,e,f\n5,g,h,,\n6,i,j\n"


def test_by_default_a_ragged_row_is_rejected_with_its_place_and_the_remedy(tmp_path: Path) -> None:
    file, ctx = file_of(tmp_path, RAGGED), Context()

    assert [row.id for row in csv(Row, file)(ctx)] == [1, 6]
    notes = [rejected.error.__notes__[0] for rejected in ctx.rejected]
    assert notes == [
        f"{file}, line 3, column note: 2",
        f"{file}, line 4, column extra: 3,c",
        f"{file}, line 5, column extra: 4,d,e,f",
        f"{file}, line 6, column extra: 5,g,h,,",
    ]
    assert "a ragged row, cells: 1, columns: 3" in str(ctx.rejected[0].error)
    assert 'ragged="pad"' in str(ctx.rejected[0].error)


def test_padded_rows_have_the_defaults_and_a_surplus_cell_that_says_something_is_never_dropped(tmp_path: Path) -> None:
    file, ctx = file_of(tmp_path, RAGGED), Context()

    assert list(csv(Row, file, ragged="pad")(ctx)) == [
        Row(id=1, note="a", extra="b"),
        Row(id=2),
        Row(id=3, note="c"),
        Row(id=5, note="g", extra="h"),
        Row(id=6, note="i", extra="j"),
    ]
    (rejected,) = ctx.rejected
    assert rejected.body == b"4,d,e,f\n"


def test_a_padded_row_that_is_invalid_otherwise_names_the_field_at_fault_and_keeps_its_cells(tmp_path: Path) -> None:
    file, ctx = file_of(tmp_path, b"id,note,extra\nx,a\n"), Context()

    assert list(csv(Row, file, ragged="pad")(ctx)) == []
    (rejected,) = ctx.rejected
    assert rejected.body == b'{"id":"x","note":"a"}'
    assert rejected.error.__notes__ == [f"{file}, line 2, column id: x,a"]


def test_a_missing_cell_of_a_field_without_a_default_is_rejected(tmp_path: Path) -> None:
    file, ctx = file_of(tmp_path, b"note,id\na\n"), Context()

    assert list(csv(Row, file, ragged="pad")(ctx)) == []
    assert "id" in str(ctx.rejected[0].error)


def test_ignored_rows_leave_no_letter_and_are_counted_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, ctx = file_of(tmp_path, RAGGED + b"7\n8\n9\n"), Context()
    with caplog.at_level(logging.WARNING, "flowq.sources"):
        assert [row.id for row in csv(Row, file, ragged="ignore")(ctx)] == [1, 6]

    assert ctx.rejected == []
    assert caplog.messages == [f"{file}: ragged rows ignored: 7, in lines 3, 4, 5, 6, 8, ..."]


def test_files_without_ragged_rows_log_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = file_of(tmp_path, b"id,note,extra\n1,a,b\n\n")
    with caplog.at_level(logging.DEBUG):
        assert len(list(csv(Row, file, ragged="ignore")(Context()))) == 1
    assert caplog.messages == []


def test_another_policy_is_refused_where_it_is_declared() -> None:
    policy: Any = "skip"
    with pytest.raises(UsageError, match="it must be one of 'error', 'pad', 'ignore'"):
        csv(Row, "rows.csv", ragged=policy)


def expected(content: bytes, ragged: Ragged) -> tuple[list[Cells], int]:
    """Rows and the number of rejected ones, from the rows of the csv module."""
    header, *rows = (row for row in stdlib_csv.reader(io.StringIO(content.decode(), newline=""), strict=True) if row)
    n = len(header)
    fitting: list[Cells] = []
    n_rejected = 0
    for row in rows:
        if len(row) == n or (ragged == "pad" and not any(row[n:])):
            fitting.append(dict(zip(header, row, strict=False)))
        elif ragged != "ignore":
            n_rejected += 1
    return fitting, n_rejected


CELL = st.text(st.sampled_from('ab",\n\r é'), max_size=3)


@given(
    rows=st.lists(st.lists(CELL, min_size=1, max_size=5), max_size=8),
    ragged=st.sampled_from(["error", "pad", "ignore"]),
    appended=st.lists(st.lists(CELL, min_size=1, max_size=5), max_size=4),
)
def test_every_policy_is_what_the_csv_module_says_and_a_later_run_goes_on_exactly_there(
    rows: list[list[str]], ragged: Ragged, appended: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    def written(rows: list[list[str]]) -> bytes:
        text = io.StringIO(newline="")
        stdlib_csv.writer(text, quoting=stdlib_csv.QUOTE_ALL).writerows(rows)
        return text.getvalue().encode()

    file = tmp_path_factory.mktemp("csv") / "rows.csv"
    header = ["x", "y", "z"]
    source = csv(Cells, file, null=(), ragged=ragged)
    first, ctx = written([header, *rows]), Context()
    file.write_bytes(first)
    assert (list(source(ctx)), len(ctx.rejected)) == expected(first, ragged)

    file.write_bytes(first + written(appended))
    later = Context(ctx.cursor)
    assert (list(source(later)), len(later.rejected)) == expected(written([header, *appended]), ragged)


@pytest.mark.parametrize("ragged", ["error", "pad", "ignore"])
def test_a_run_that_is_killed_resumes_at_its_cursor_with_every_policy(ragged: Ragged, tmp_path: Path) -> None:
    lines = [f"{n},a,b" if n % 3 else f"{n},a" if n % 2 else f"{n},a,b,c" for n in range(1000)]
    file = file_of(tmp_path, "\n".join(["id,note,extra", *lines, ""]).encode())
    whole, source = Context(), csv(Row, file, ragged=ragged)
    every = list(source(whole))
    ctx = Context()
    reading = source(ctx)
    cursors: list[dict[str, Position]] = [{}]
    for _ in reading:
        if ctx.cursor and ctx.cursor != cursors[-1]:
            cursors.append(dict(ctx.cursor))

    assert len(cursors) >= 3
    for cursor in cursors:
        later = Context(cursor)
        rest = list(source(later))
        n_done = cursor[str(file)].line if cursor else 1  # the header is a line as well
        assert rest == [row for row in every if row.id > n_done - 2]
        assert [r.body for r in later.rejected] == [
            r.body for r in whole.rejected if int(r.body.split(b",")[0]) > n_done - 2
        ]
