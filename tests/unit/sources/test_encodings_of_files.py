"""Files of different encodings in one source: declared for all or by pattern, or known by their byte order mark."""

from __future__ import annotations

import codecs
import csv as stdlib_csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from flowq import SourceContext
from flowq.errors import UsageError
from flowq.sources import csv, ndjson
from flowq.sources.position import Position

Context = SourceContext[dict[str, Position]]
Pair = dict[str, str]


class Row(BaseModel):
    id: int
    note: str


MARKS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


@pytest.mark.parametrize("declared", ["utf-8", "cp1252", "utf-16", "utf-16-le", "shift_jis"])
@pytest.mark.parametrize("encoding", MARKS)
def test_a_byte_order_mark_decides_whatever_is_declared(encoding: str, declared: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(MARKS[encoding] + "id,note\r\n1,één\r\n".encode(encoding))
    (tmp_path / "rows.ndjson").write_bytes(MARKS[encoding] + '{"id":1,"note":"één"}\n'.encode(encoding))

    assert list(csv(Row, tmp_path / "rows.csv", encoding=declared)(Context())) == [Row(id=1, note="één")]
    assert list(ndjson(Row, tmp_path / "rows.ndjson", encoding=declared)(Context())) == [Row(id=1, note="één")]


def test_each_file_has_the_encoding_of_the_first_pattern_that_matches_its_path(tmp_path: Path) -> None:
    encodings = {"a.csv": "utf-8", "excel.csv": "utf-16", "old/1.csv": "cp1252", "old/dos.csv": "cp850"}
    for name, encoding in encodings.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"id,note\n1,é {name}\n", encoding=encoding)
    source = csv(Row, f"{tmp_path}/**/*.csv", encoding={"dos.csv": "cp850", "old/*.csv": "cp1252"})

    assert {row.note for row in source(Context())} == {f"é {name}" for name in encodings}


def test_the_pattern_for_all_files_is_the_last_resort_and_standard_input_has_a_name_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,note\n1,é\n", encoding="cp1252")

    assert list(csv(Row, tmp_path / "a.csv", encoding={"*": "cp1252", "-": "utf-8"})(Context()))


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff"), max_size=6)


@given(
    notes=st.lists(CELLS, max_size=8),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-16-be", "utf-32", "utf-7", "gb18030"]),
    stopped_at=st.integers(0, 8),
)
@example(notes=["\n", "\r", "\u2028", "\x85"], encoding="utf-16-be", stopped_at=2)
def test_ndjson_of_every_encoding_is_what_the_json_module_says_wherever_it_is_resumed(
    notes: list[str], encoding: str, stopped_at: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("ndjson") / "rows.ndjson"
    lines = [json.dumps({"id": str(i), "note": note}, ensure_ascii=False) for i, note in enumerate(notes)]
    with file.open("w", encoding=encoding, newline="") as stream:
        stream.writelines(f"{line}\r\n" for line in lines)
    source = ndjson(Pair, file, encoding=encoding)
    expected = [json.loads(line) for line in lines]
    ctx = Context()
    before = [row for row, _ in zip(source(ctx), range(stopped_at), strict=False)]
    entered = before if len(before) == len(expected) else []  # what was not saved has not entered

    assert [*entered, *source(Context(ctx.cursor if entered else {}))] == expected


def test_a_later_run_reads_the_rows_appended_to_files_of_every_encoding(tmp_path: Path) -> None:
    encodings = {"utf16.csv": "utf-16-le", "old.csv": "cp1252", "new.csv": "utf-8"}
    source = csv(Row, tmp_path, encoding={"old.csv": "cp1252"})
    for name, encoding in encodings.items():
        mark = MARKS["utf-16-le"] if encoding == "utf-16-le" else b""
        (tmp_path / name).write_bytes(mark + "id,note\n1,é\n".encode(encoding))
    ctx = Context()
    assert len(list(source(ctx))) == 3
    for name, encoding in encodings.items():
        with (tmp_path / name).open("ab") as file:
            file.write("2,ü\n".encode(encoding))

    assert list(source(Context(ctx.cursor))) == [Row(id=2, note="ü")] * 3


@pytest.mark.parametrize("kind", [csv, ndjson])
@pytest.mark.parametrize("encoding", [{"*.csv": "no such"}, {"": "utf-8"}, {"*": 7}, "hex"], ids=str)
def test_encodings_that_cannot_be_used_are_refused_where_they_are_declared(kind: Any, encoding: Any) -> None:
    with pytest.raises(UsageError, match="encoding="):
        kind(Row, "rows", encoding=encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "shift_jis"])
def test_a_line_of_ndjson_that_does_not_decode_is_rejected_with_its_place_and_bytes(
    encoding: str, tmp_path: Path
) -> None:
    good, bad = '{"id":1,"note":"a"}\n'.encode(encoding), {"utf-16-le": b"\x00\xd8\x0a\x00"}.get(encoding, b"\x81\n")
    file = tmp_path / "rows.ndjson"
    file.write_bytes(good + bad + good)
    ctx = Context()

    assert len(list(ndjson(Row, file, encoding=encoding)(ctx))) == 2
    (rejected,) = ctx.rejected
    assert rejected.body.strip() == bad.strip()
    assert rejected.error.__notes__[0].startswith(f"{file}, line 2: ")


def test_a_row_in_another_encoding_is_rejected_with_its_place_and_says_how_to_state_one(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"id,note\n1,ok\n" + "2,größe\n".encode("cp1252"))
    ctx = Context()

    assert len(list(csv(Row, file)(ctx))) == 1
    (rejected,) = ctx.rejected
    assert rejected.error.__notes__[0].startswith(f"{file}, line 3, column note: ")
    assert "encoding=" in str(rejected.error)


def oracle(content: bytes, declared: str) -> list[Mapping[str, str]]:
    """What the csv module says; the mark is removed by Python's own codecs."""
    name = next((f"{name[:6].rstrip('-')}" for name, mark in sorted(MARKS.items()) if content.startswith(mark)), "")
    encoding = {"utf-8": "utf-8-sig"}.get(name, name or declared)
    return list(stdlib_csv.DictReader(io.StringIO(content.decode(encoding), newline="")))


@given(
    rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5),
    encoding=st.sampled_from(["utf-8-sig", "utf-8", "utf-16", "cp1252"]),
)
def test_mixed_files_of_one_folder_are_what_the_csv_module_says(
    rows: list[tuple[str, str]], encoding: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("csv") / "rows.csv"
    text = io.StringIO(newline="")
    stdlib_csv.writer(text, quoting=stdlib_csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    content = text.getvalue().encode(encoding, "replace")
    file.write_bytes(content)
    declared = "cp1252" if encoding == "cp1252" else "utf-8"

    assert list(csv(Pair, file, null=(), encoding={"rows.*": declared})(Context())) == oracle(content, declared)
