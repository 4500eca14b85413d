"""Ready sources: every row once, from where the last run stopped; an invalid row stops nothing."""

from __future__ import annotations

import bz2
import csv as stdlib_csv
import gzip
import io
import json
import lzma
import sys
import zipfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from flowq import Source, SourceContext
from flowq.errors import UsageError
from flowq.sources import csv, ndjson
from flowq.sources.formats import Csv
from flowq.sources.lines import Lines
from flowq.sources.position import Position

LONGEST = 1_000_000
Context = SourceContext[dict[str, Position]]


class Row(BaseModel):
    n: int
    text: str = "none"


def lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def numbers(source: Source[Row], ctx: Context | None = None) -> list[int]:
    return [row.n for row in source(ctx or Context())]


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def zipped(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("rows.ndjson", content)
    return packed.getvalue()


@pytest.mark.parametrize(("suffix", "pack"), [*PACKERS.items(), (".zip", zipped)])
def test_packed_files_are_read_and_gone_on_with_like_plain_ones(
    suffix: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    file = tmp_path / f"rows.ndjson{suffix}"
    file.write_bytes(pack(lines(*({"n": n} for n in range(1000)))))
    ctx = Context()
    rows = ndjson(Row, file)(ctx)
    first = [next(rows).n for _ in range(500)]  # the cursor lies 100 rows back: what follows it has not entered

    assert first == list(range(500))
    assert numbers(ndjson(Row, file), Context(ctx.cursor)) == list(range(400, 1000))


def test_a_folder_is_read_in_the_order_of_names_and_only_its_files_of_that_kind(tmp_path: Path) -> None:
    for name, n in (("b.jsonl", 2), ("a.ndjson", 1), ("c.ndjson.gz", 3), (".d.ndjson", 4), ("e.txt", 5)):
        pack = gzip.compress if name.endswith(".gz") else bytes
        (tmp_path / name).write_bytes(pack(lines({"n": n})))

    assert numbers(ndjson(Row, tmp_path)) == [1, 2, 3]
    assert numbers(ndjson(Row, f"{tmp_path}/*.ndjson*")) == [1, 3]
    assert numbers(ndjson(Row, [tmp_path / "b.jsonl", tmp_path / "a.ndjson"])) == [2, 1]


def test_a_later_run_gives_new_files_and_lines_that_were_appended(tmp_path: Path) -> None:
    (tmp_path / "b.ndjson").write_bytes(lines({"n": 1}))
    ctx = Context()
    assert numbers(ndjson(Row, tmp_path), ctx) == [1]

    assert numbers(ndjson(Row, tmp_path), Context(ctx.cursor)) == []
    with (tmp_path / "b.ndjson").open("ab") as file:
        file.write(lines({"n": 2}))
    (tmp_path / "a.ndjson").write_bytes(lines({"n": 3}))

    assert numbers(ndjson(Row, tmp_path), Context(ctx.cursor)) == [3, 2]


@pytest.mark.parametrize("content", [lines({"n": 7}, {"n": 8}, {"n": 9}), lines({"n": 10})], ids=["other", "shorter"])
def test_a_file_that_was_replaced_is_read_from_its_beginning(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    file.write_bytes(lines({"n": 1}, {"n": 2}))
    ctx = Context()
    numbers(ndjson(Row, file), ctx)
    file.write_bytes(content)

    assert numbers(ndjson(Row, file), Context(ctx.cursor)) == [json.loads(line)["n"] for line in content.splitlines()]


def test_a_file_cut_short_within_what_was_read_is_read_from_its_beginning(tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    content = lines(*({"n": n} for n in range(300)))
    file.write_bytes(content)
    ctx = Context()
    numbers(ndjson(Row, file), ctx)
    file.write_bytes(content[: len(content) // 2].rpartition(b"\n")[0])

    assert numbers(ndjson(Row, file), Context(ctx.cursor))[:3] == [0, 1, 2]


def test_a_file_that_is_not_there_is_named_and_an_empty_folder_is_no_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no file nowhere\.csv"):
        numbers(csv(Row, "nowhere.csv"))
    with pytest.raises(UsageError, match="no file matches"):
        numbers(csv(Row, f"{tmp_path}/*.csv"))

    assert numbers(csv(Row, tmp_path)) == []


# Rows


def test_a_line_that_is_not_valid_is_rejected_with_its_bytes_and_place_and_the_others_are_given(tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    file.write_bytes(b'\xef\xbb\xbf{"n":1}\n\n{"n":"x"}\r\nno json\n\xff\xfe\n{"n":2}')
    ctx = Context()

    assert numbers(ndjson(Row, file), ctx) == [1, 2]
    assert [rejected.body for rejected in ctx.rejected] == [b'{"n":"x"}', b"no json", b"\xff\xfe"]
    assert ctx.rejected[0].error.__notes__ == [f'{file}, line 3, column n: {{"n":"x"}}']


def test_a_row_of_csv_that_is_not_valid_is_rejected_so_that_its_stage_may_still_take_it(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b'n,text\n1,one\nx,"two\nlines"\n3\n4,a,b\n,empty\n5,\xff\n6,six\n')
    ctx = Context()

    assert numbers(csv(Row, file), ctx) == [1, 6]
    assert [rejected.body for rejected in ctx.rejected] == [
        b'{"n":"x","text":"two\\nlines"}',
        b"3\n",
        b"4,a,b\n",
        b'{"text":"empty"}',
        b"5,\xff\n",
    ]
    places = [rejected.error.__notes__[0].partition(":")[0] for rejected in ctx.rejected]
    lines_and_columns = [(3, "n"), (5, "text"), (6, "text"), (7, "n"), (8, "text")]
    assert places == [f"{file}, line {line}, column {column}" for line, column in lines_and_columns]


def test_cells_that_stand_for_nothing_leave_the_field_at_its_default(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"n;text\n1;NA\n2;\n3;there\n")

    given = list(csv(Row, file, delimiter=";", null=("NA",))(Context()))

    assert [row.text for row in given] == ["none", "", "there"]


def test_a_csv_without_a_header_has_its_columns_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes("1,één\n".encode("latin-1"))

    (row,) = csv(Row, file, columns=("n", "text"), encoding="latin-1")(Context())

    assert row == Row(n=1, text="één")


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff"), max_size=8)


@given(rows=st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=20), stopped_at=st.integers(0, 20))
def test_csv_is_what_the_standard_library_says_whatever_the_cells_and_wherever_it_is_gone_on_with(
    rows: list[list[str]], stopped_at: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("csv") / "rows.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        stdlib_csv.writer(stream).writerows([["a", "b"], *rows])

    given = list(_read_in_two_parts(file, stopped_at))

    assert given == [{"a": a, "b": b} for a, b in rows]


def _read_in_two_parts(file: Path, stopped_at: int) -> Iterator[Any]:
    """The rows up to a point, and from the position there on the rest."""
    form = Csv(dict[str, str], columns=(), delimiter=",", null=frozenset(), encoding="utf-8", ragged="error")
    with file.open("rb") as stream:
        lines = Lines(stream, longest=LONGEST)
        lines.encoding = form.encodings.of(file.name).meant_by(lines.peek)
        columns = form.columns(lines)
        position = lines.position()
        for row in islice(form.rows(lines, columns), stopped_at):
            yield row
            position = lines.position()
    with file.open("rb") as stream:
        lines = Lines(stream, longest=LONGEST)
        lines.encoding = form.encodings.of(file.name).meant_by(lines.peek)
        columns = form.columns(lines)
        assert lines.skip_to(position)
        yield from form.rows(lines, columns)


# Standard input


class Pipe(io.BufferedReader):
    """Standard input that cannot go back, like a pipe."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: Any) -> int:
        raise io.UnsupportedOperation("seek")


def given_on_stdin(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Pipe(io.BytesIO(content))))  # type: ignore[arg-type]


def test_standard_input_resumes_if_it_is_the_same_and_begins_if_different(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"n,text\n" + b"".join(b"%d,x\n" % n for n in range(1000))
    given_on_stdin(content, monkeypatch)
    ctx = Context()
    rows = csv(Row, "-")(ctx)
    for _ in range(700):
        next(rows)
    broken_off = TypeAdapter(dict[str, Position]).validate_json(TypeAdapter(Any).dump_json(ctx.cursor))

    given_on_stdin(content, monkeypatch)
    again = Context(broken_off)
    assert numbers(csv(Row, "-"), again) == list(range(699, 1000))
    assert again.cursor == {}  # the next one is another, even if it begins like this one

    given_on_stdin(b"n\n" + b"".join(b"%d\n" % n for n in range(5000, 5010)), monkeypatch)
    assert numbers(csv(Row, "-"), Context(broken_off)) == list(range(5000, 5010))


def test_an_empty_name_is_not_the_current_folder() -> None:
    with pytest.raises(UsageError, match="empty"):
        numbers(csv(Row, ""))
