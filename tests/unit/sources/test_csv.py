"""CSV from other systems: rows as strict readers parse them, or an error that names its place."""

from __future__ import annotations

import csv as stdlib_csv
import io
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from flowq import SourceContext
from flowq.errors import UsageError
from flowq.sources import csv
from flowq.sources.files import UnreadableFiles
from flowq.sources.position import Position

Context = SourceContext[dict[str, Position]]


class Row(BaseModel):
    id: int
    note: str = "none"


Pair = dict[str, str]


def strict(content: bytes, encoding: str = "utf-8-sig") -> list[Pair]:
    """What the csv module says. Raises csv.Error for what is no CSV."""
    text = io.TextIOWrapper(io.BytesIO(content), encoding=encoding, newline="")
    header, *rows = (row for row in stdlib_csv.reader(text, strict=True) if row)
    return [dict(zip(header, row, strict=True)) for row in rows]


def by_duckdb(file: Path) -> list[Pair]:
    """What DuckDB says, which reads UTF-8."""
    query = (
        "SELECT * FROM read_csv(?, header=true, all_varchar=true, nullstr='\x01', delim=',', quote='\"', escape='\"')"
    )
    with duckdb.connect() as connection:
        result = connection.execute(query, [str(file)])
        names = [str(column[0]) for column in result.description or ()]
        return [dict(zip(names, map(str, row), strict=True)) for row in result.fetchall()]


def read(file: Path, ctx: Context | None = None, **options: Any) -> list[Pair]:
    return list(csv(Pair, file, null=(), **options)(ctx or Context()))


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be",
             "latin-1", "cp1252", "shift_jis", "gb18030", "big5", "euc_jp", "iso2022_jp", "utf-7", "cp037"]  # fmt: skip
LINE_ENDS = {"LF": "\n", "CRLF": "\r\n", "CR": "\r"}


@pytest.mark.parametrize("end", LINE_ENDS.values(), ids=LINE_ENDS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_and_line_end_gives_the_rows_of_the_csv_module(encoding: str, end: str, tmp_path: Path) -> None:
    text = end.join(["id,note", "1,plain", f'2,"two{end}lines"', "", '3,"a ""quote"""', "4,last"])
    content = text.encode(encoding)
    file = tmp_path / "rows.csv"
    file.write_bytes(content)

    assert read(file, encoding=encoding) == strict(content, encoding)
    assert len(read(file, encoding=encoding)) == 4


@pytest.mark.parametrize(("encoding", "marked_as"), [("utf-16-le", "utf-16-le"), ("utf-16-be", "utf-16"),
                                                     ("utf-32-be", "utf-32"), ("utf-8", "utf-8")])  # fmt: skip
def test_a_byte_order_mark_is_no_part_of_the_first_column(encoding: str, marked_as: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes("\ufeffid,note\n1,é\n".encode(encoding))

    assert read(file, encoding=marked_as) == [{"id": "1", "note": "é"}]


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=6)


@given(
    rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=12),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-16-be", "utf-32", "gb18030"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    stopped_at=st.integers(0, 12),
)
def test_rows_are_right_in_every_encoding_wherever_they_are_gone_on_with(
    rows: list[tuple[str, str]], encoding: str, end: str, stopped_at: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("csv") / "rows.csv"
    with file.open("w", newline="", encoding=encoding) as stream:
        stdlib_csv.writer(stream, lineterminator=end, quoting=stdlib_csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    source = csv(Pair, file, null=(), encoding=encoding)
    ctx = Context()
    given_once = [row for row, _ in zip(source(ctx), range(stopped_at), strict=False)]
    # As after a kill: the cursor is where it was saved last, and what lies behind it has not entered.
    ctx = Context({} if len(given_once) < len(rows) else ctx.cursor)

    assert [*([] if ctx.cursor == {} else given_once), *source(ctx)] == [{"a": a, "b": b} for a, b in rows]
    assert list(source(Context(ctx.cursor))) == []


@given(text=st.text(st.sampled_from('ab",\n \t'), max_size=30))
def test_what_a_strict_reader_refuses_is_never_a_row(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Rows before a mistake are right, and what contains it is a dead letter or an error."""
    content = f"x,y\n{text}".encode()
    file = tmp_path_factory.mktemp("csv") / "rows.csv"
    file.write_bytes(content)
    ctx = Context()
    given_rows = read(file, ctx)
    try:
        expected = strict(content)
    except (stdlib_csv.Error, ValueError):
        assert ctx.rejected
    else:
        assert given_rows == expected
        assert not ctx.rejected


def test_a_quote_that_is_never_closed_is_an_error_of_its_row_as_for_other_readers(tmp_path: Path) -> None:
    content = b'id,note\n1,ok\n2,"6 inch pipe\n3,ok\n4,ok\n'
    file = tmp_path / "rows.csv"
    file.write_bytes(content)
    ctx = Context()

    assert read(file, ctx) == [{"id": "1", "note": "ok"}]
    with pytest.raises(stdlib_csv.Error):
        strict(content)
    with pytest.raises(duckdb.Error):
        by_duckdb(file)
    (rejected,) = ctx.rejected
    assert rejected.body == b'2,"6 inch pipe\n3,ok\n4,ok\n'
    assert rejected.error.__notes__[0].startswith(f'{file}, line 3, column note: 2,"6 inch pipe')
    assert "never closed, up to line 5" in str(rejected.error)


def test_a_quote_that_is_missing_in_a_large_file_stops_at_the_longest_row_and_nothing_is_lost(tmp_path: Path) -> None:
    broken = b'id,note\n1,ok\n2,"6 inch pipe\n' + b"3,ok\n" * 1000
    file = tmp_path / "rows.csv"
    file.write_bytes(broken)
    ctx = Context()
    got: list[Row] = []
    with pytest.raises(UnreadableFiles, match=r"the row that begins in line 3 has more than 1,000 bytes"):
        got.extend(csv(Row, file, max_bytes=1000)(ctx))

    assert got == [Row(id=1, note="ok")]  # pyright: ignore[reportUnknownMemberType]
    file.write_bytes(broken.replace(b"pipe", b'pipe"'))
    assert len(list(csv(Row, file, max_bytes=1000)(Context(ctx.cursor)))) == 1001


def test_long_cells_are_given_whole_and_the_limit_of_the_host_program_stays(tmp_path: Path) -> None:
    long = "x" * 200_000
    file = tmp_path / "rows.csv"
    file.write_text(f'id,note\n1,"{long}\n2,not a row"\n3,{long}\n')
    limit = stdlib_csv.field_size_limit()

    assert read(file) == by_duckdb(file) == [{"id": "1", "note": f"{long}\n2,not a row"}, {"id": "3", "note": long}]
    assert stdlib_csv.field_size_limit() == limit


# Headers


def refused(file: Path, **options: Any) -> str:
    with pytest.raises(UnreadableFiles) as raised:
        list(csv(Row, file, **options)(Context()))
    return str(raised.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("id,größe\n1,7\n".encode("latin-1"), "its first line is not utf-8"),
        ("id,note\n1,x\n".encode("utf-16-le"), "encoding='utf-16-le'"),
        ("id,note\n1,x\n".encode("utf-16-be"), "encoding='utf-16-be'"),
        (b"id,note,note\n1,a,b\n", 'several columns named "note"'),
        (b"id;note\n1;a\n", "delimiter=';'"),
        (b"id\tnote\n1\ta\n", "delimiter='\\t'"),
        (b"a,b\n1,2\n", "its fields: id, note"),
        (b"1,one\n2,two\n", "columns= for a file without a header"),
        (b'id,"note\n1,a\n', "unexpected end of data"),
        (b"id, note\n1, a\n", 'its column " note" is not the field "note"'),
        (b"id,Note\n1,a\n", 'its column "Note" is not the field "note"'),
        (b"\xef\xbb\xbf\xef\xbb\xbfnote,id\na,1\n", 'is not the field "note"'),
    ],
)
def test_a_header_that_cannot_be_right_is_refused_and_no_row_given(content: bytes, says: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(content)

    told = refused(file)
    assert says in told
    assert str(file) in told


def test_columns_that_the_type_does_not_have_may_be_named_as_they_like(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"id,,,x,x\n1,2,3,4,5\n")

    assert list(csv(Row, file)(Context())) == [Row(id=1)]


class Aliased(BaseModel):
    model_config = ConfigDict(validate_by_name=True)

    number: int = Field(validation_alias="No.")


def test_a_column_may_go_by_the_alias_of_its_field(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"No.\n7\n")

    assert list(csv(Aliased, file)(Context())) == [Aliased(number=7)]


@pytest.mark.parametrize("before", [b"\n", b"\r\n\r\n", b"  \n", b"\xef\xbb\xbf\n"])
def test_blank_lines_before_the_header_are_passed_over(before: bytes, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(before + b"id,note\n1,a\n")

    assert list(csv(Row, file)(Context())) == [Row(id=1, note="a")]


@pytest.mark.parametrize("content", [b"", b"id,note\n", b"id,note", b"\n\n"])
def test_a_file_without_rows_is_no_mistake(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(content)

    assert list(csv(Row, file)(Context())) == []


UNUSABLE: list[dict[str, Any]] = [
    {"encoding": "no such"},
    {"encoding": "hex"},
    {"delimiter": ";;"},
    {"delimiter": ""},
    {"max_bytes": 0},
    {"columns": ("x",)},
]


@pytest.mark.parametrize("options", UNUSABLE, ids=str)
def test_options_that_cannot_be_used_are_refused_where_they_are_written(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        csv(Row, "rows.csv", **options)


# Rows


@pytest.mark.parametrize(
    ("row", "column", "encoding"),
    [
        (b"x,a", "id", "utf-8"),
        (b"1", "note", "utf-8"),
        (b"1,a,b", "note", "utf-8"),
        (b"1,\xff", "note", "utf-8"),
        (b'1,"a"b', "note", "utf-8"),
        (b"\x31\x00\x2c\x00\x00\xd8\x61\x00", "note", "utf-16-le"),
        (b"1,\x81\x20", "note", "shift_jis"),
        ('1,"a"b'.encode("utf-16-be"), "note", "utf-16-be"),
    ],
)
def test_a_bad_row_names_file_line_and_column_keeps_its_bytes_and_stops_nothing(
    row: bytes, column: str, encoding: str, tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    end = "\n".encode(encoding)
    file.write_bytes("id,note\n1,a\n".encode(encoding) + row + end + "3,c\n".encode(encoding))
    ctx = Context()

    assert [given_row.id for given_row in csv(Row, file, encoding=encoding)(ctx)] == [1, 3]
    (rejected,) = ctx.rejected
    assert rejected.error.__notes__[0].startswith(f"{file}, line 3, column {column}: ")
    assert rejected.body in (row + end, b'{"id":"x","note":"a"}')
