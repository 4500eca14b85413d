"""Files that change between two runs, are damaged, or were compressed on another system."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from flowq import SourceContext
from flowq.delivery.encoding.compression import zstd_library
from flowq.sources import csv, ndjson
from flowq.sources.files import UnreadableFiles
from flowq.sources.position import Position, stat_word

Context = SourceContext[dict[str, Position]]


class Row(BaseModel):
    n: int
    text: str = ""


def lines(*numbers: int, text: str = "") -> bytes:
    return b"".join(json.dumps({"n": n, "text": text}).encode() + b"\n" for n in numbers)


def numbers(files: Any, ctx: Context | None = None) -> list[int]:
    return [row.n for row in ndjson(Row, files)(ctx or Context())]


def zstd(content: bytes) -> bytes:
    library = zstd_library()
    if library is None:
        pytest.skip("no zstd here")
    packed: bytes = library.compress(content)
    return packed


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


# Changed


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("same_start", [False, True], ids=["another beginning", "the same first kilobyte"])
def test_a_file_replaced_by_one_of_equal_size_is_read_anew(same_start: bool, suffix: str, tmp_path: Path) -> None:
    start = lines(0, text="x" * 2000) if same_start else b""
    file = tmp_path / f"rows.ndjson{suffix}"
    file.write_bytes(PACKERS[suffix](start + lines(1, 2)))
    ctx = Context()
    first = numbers(file, ctx)

    file.write_bytes(PACKERS[suffix](start + lines(3, 4)))

    assert numbers(file, Context(ctx.cursor)) == [*first[: len(first) - 2], 3, 4]


def test_a_file_that_was_touched_copied_or_renamed_over_gives_nothing_twice(tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    file.write_bytes(lines(*range(500)))
    ctx = Context()
    numbers(file, ctx)

    file.touch()
    assert numbers(file, ctx) == []
    copy = tmp_path / "copy"
    copy.write_bytes(file.read_bytes())
    copy.replace(file)
    assert numbers(file, ctx) == []


def test_a_file_whose_times_are_as_they_were_is_not_read_again_once_they_can_be_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is written twice within one tick of the file system's clock keeps its times."""
    file = tmp_path / "rows.ndjson"
    file.write_bytes(lines(1, 2))
    stat = file.stat()
    word = stat_word(stat, stat.st_ctime_ns + 10**10)
    assert word
    assert stat_word(stat, stat.st_ctime_ns + 10**6) == ""
    of_another = Position(16, 2, content=0, head=0, stat=word, is_end=True)  # its checksum would show it

    assert numbers(file, Context({str(file): of_another})) == [1, 2]
    monkeypatch.setattr(time, "time_ns", lambda: stat.st_ctime_ns + 10**10)
    assert numbers(file, Context({str(file): of_another})) == []


def test_lines_appended_to_a_file_with_a_long_beginning_are_all_that_is_given(tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    file.write_bytes(lines(*range(5000)))
    ctx = Context()
    numbers(file, ctx)
    with file.open("ab") as stream:
        stream.write(lines(5000, 5001))

    assert numbers(file, ctx) == [5000, 5001]


def test_one_value_corrected_in_the_middle_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    content = lines(*range(1000, 2000))
    file.write_bytes(content)
    ctx = Context()
    numbers(file, ctx)
    file.write_bytes(content.replace(b"1500", b"1501"))

    assert numbers(file, ctx) == [*range(1000, 1500), 1501, *range(1501, 2000)]


# Damaged


@pytest.mark.parametrize("suffix", [suffix for suffix in PACKERS if suffix])
@pytest.mark.parametrize("cut", ["at the end", "in the middle", "empty"])
def test_a_packed_file_that_was_cut_is_named_and_those_behind_it_are_read_and_it_is_gone_on_with_when_whole(
    cut: str, suffix: str, tmp_path: Path
) -> None:
    pack = PACKERS[suffix]
    files = [tmp_path / f"{name}.ndjson{suffix}" for name in "abc"]
    contents = [pack(lines(*range(i * 1000, i * 1000 + 600), text=f"{i}")) for i in range(3)]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    whole = contents[1]
    files[1].write_bytes({"at the end": whole[:-4], "in the middle": whole[: len(whole) // 2], "empty": b""}[cut])
    ctx = Context()
    got: list[Row] = []

    with pytest.raises(UnreadableFiles) as raised:
        got.extend(ndjson(Row, tmp_path)(ctx))
    assert str(files[1]) in str(raised.value)
    assert str(files[0]) not in str(raised.value)
    given = [row.n for row in got]
    assert set(given) >= {*range(600), *range(2000, 2600)}

    with pytest.raises(UnreadableFiles):
        got.extend(ndjson(Row, tmp_path)(Context(ctx.cursor)))
    assert [row.n for row in got] == given

    files[1].write_bytes(whole)
    got.extend(ndjson(Row, tmp_path)(Context(ctx.cursor)))
    assert sorted(row.n for row in got) == [*range(600), *range(1000, 1600), *range(2000, 2600)]


def test_a_csv_row_of_several_lines_at_the_cut_is_neither_given_in_part_nor_lost(tmp_path: Path) -> None:
    content = b"n,text\n" + b"".join(
        b'%d,"%s\n%s"\n' % (n, os.urandom(20).hex().encode(), b"y" * 9) for n in range(900)
    )
    file = tmp_path / "rows.csv.gz"
    packed = gzip.compress(content)
    file.write_bytes(packed[: len(packed) * 2 // 3])
    ctx = Context()
    got: list[Row] = []
    with pytest.raises(UnreadableFiles, match="after line"):
        got.extend(csv(Row, file)(ctx))
    assert 0 < len(got) < 900
    assert not ctx.rejected

    file.write_bytes(packed)
    got.extend(csv(Row, file)(Context(ctx.cursor)))

    assert [row.n for row in got] == list(range(900))
    assert all(row.text.endswith("\n" + "y" * 9) for row in got)


@pytest.mark.parametrize("content", [b"no archive", b"\x1f\x8b but no gzip"], ids=["zip", "gz"])
def test_a_file_that_is_not_what_its_name_says_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / f"rows.ndjson{'.zip' if content.startswith(b'no') else '.gz'}"
    file.write_bytes(content)
    (tmp_path / "z.ndjson").write_bytes(lines(1))
    got: list[Row] = []

    with pytest.raises(UnreadableFiles) as raised:
        got.extend(ndjson(Row, tmp_path)(Context()))
    assert str(file) in str(raised.value)
    assert [row.n for row in got] == [1]


def test_a_gzip_file_of_several_members_is_read_to_the_last(tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson.gz"
    file.write_bytes(gzip.compress(lines(1, 2)) + gzip.compress(lines(3)) + b"\0" * 64)

    assert numbers(file) == [1, 2, 3]


# Archives of other systems


def archive(file: Path, *members: tuple[str, bytes], **options: Any) -> Path:
    with zipfile.ZipFile(file, "w", **options) as packed:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.filename = name  # as it stands there: the class makes slashes of what this system separates by
            packed.writestr(info, content)
    return file


def test_an_archive_made_on_another_system_gives_its_files_and_nothing_else(tmp_path: Path) -> None:
    file = archive(
        tmp_path / "rows.zip",
        ("__MACOSX/data/._a.ndjson", b"\0\5\x16\7"),
        ("data\\", b""),
        ("data\\b.ndjson", lines(2)),
        ("data/a.ndjson", lines(1)),
        ("data/readme.txt", b"no rows"),
        (".DS_Store", b"\0"),
        ("data/c.ndjson.gz", gzip.compress(lines(3))),
    )
    ctx = Context()

    assert numbers(file, ctx) == [1, 2, 3]
    assert numbers(file, ctx) == []
    archive(file, ("data/a.ndjson", lines(1)), ("data/c.ndjson", lines(4)))
    assert numbers(file, ctx) == [4]


def test_names_of_members_in_an_old_code_page_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "rows.zip"
    archive(file, ("gr__e.ndjson", lines(1)))
    file.write_bytes(file.read_bytes().replace(b"gr__e", "größe".encode("cp437")))

    assert numbers(file) == [1]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_way_of_packing_an_archive_is_read(method: int, tmp_path: Path) -> None:
    file = tmp_path / "rows.zip"
    with zipfile.ZipFile(file, "w", method) as packed:
        packed.writestr("rows.ndjson", lines(*range(500)))

    assert numbers(file) == list(range(500))


def test_an_archive_behind_a_password_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    file = archive(tmp_path / "a.ndjson.zip", ("rows.ndjson", lines(1)))
    content = bytearray(file.read_bytes())
    for mark, flags_at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(mark) + flags_at] |= 1
    file.write_bytes(content)
    (tmp_path / "b.ndjson").write_bytes(lines(2))
    got: list[Row] = []

    with pytest.raises(UnreadableFiles, match="password"):
        got.extend(ndjson(Row, tmp_path)(Context()))
    assert [row.n for row in got] == [2]


# Lines


def test_a_line_above_the_limit_is_a_dead_letter_and_the_lines_around_it_are_given(tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    long = lines(2, text="x" * 700_000)
    for before in (b"", lines(1)):
        file.write_bytes(before + long + lines(3) + long + long + lines(4) + long[:-1])
        ctx = Context()

        got = [row.n for row in ndjson(Row, file, max_bytes="500kB")(ctx)]

        assert got == [*([1] if before else []), 3, 4]
        first = 2 if before else 1
        assert [rejected.error.__notes__[0].split(":")[0] for rejected in ctx.rejected] == [
            f"{file}, line {first + n}" for n in (0, 2, 3, 5)
        ]
        assert all(long.startswith(rejected.body) for rejected in ctx.rejected)
        assert list(ndjson(Row, file)(Context(ctx.cursor))) == []


BOMB = """
import resource, sys
from pydantic import BaseModel
from flowq import SourceContext
from flowq.sources import csv, ndjson
class Row(BaseModel):
    n: int
kind, file = sys.argv[1:]
ctx = SourceContext()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(len(list((csv if kind == "csv" else ndjson)(Row, file)(ctx))), len(ctx.rejected))
except Exception as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000, file=sys.stderr)
"""


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
def test_a_small_file_that_unpacks_to_one_huge_line_is_read_in_bounded_memory(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"rows.{kind}.gz"
    with gzip.open(file, "wb", compresslevel=1) as stream:
        stream.write(b"n\n1\n" if kind == "csv" else lines(1))
        for _ in range(400):
            stream.write(b"0" * 1_000_000)
        stream.write(b"\n2\n" if kind == "csv" else b"\n" + lines(2))

    run = subprocess.run(
        [sys.executable, "-c", BOMB, kind, str(file)], capture_output=True, text=True, check=True, timeout=120
    )

    assert int(run.stderr) < 120, "megabytes more than before"
    assert ("2 1" if kind == "ndjson" else "the row that begins in line 3 has more than 16,000,000 bytes") in run.stdout


def test_ndjson_takes_every_line_end_blank_lines_a_mark_and_a_last_line_without_an_end(tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    file.write_bytes(b'\xef\xbb\xbf{"n":1}\r\n\r\n  \n{"n":\r2}\n{"n":3,"text":"\xe2\x80\xa8"}\n{"n":4}')

    assert numbers(file) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "line",
    [b'{"n":1e999}', b'{"n":NaN}', b'{"n":' + b"9" * 5000 + b"}", b"[" * 100_000, b'{"n":1,"text":"\\ud800"}', b"\xff"],
    ids=["infinity", "NaN", "5,000 digits", "depth", "half a pair", "no UTF-8"],
)
def test_json_at_the_edge_is_a_value_or_a_dead_letter_with_its_bytes_and_place(line: bytes, tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    file.write_bytes(lines(1) + line + b"\n" + lines(3))
    ctx = Context()

    got = numbers(file, ctx)

    assert [n for n in got if n in (1, 3)] == [1, 3]
    assert len(got) + len(ctx.rejected) == 3
    for rejected in ctx.rejected:
        assert rejected.body == line
        assert rejected.error.__notes__[0].startswith(f"{file}, line 2")


def test_a_name_with_the_signs_of_a_pattern_is_a_name_first(tmp_path: Path) -> None:
    (tmp_path / "rows[1].ndjson").write_bytes(lines(1))
    (tmp_path / "rows1.ndjson").write_bytes(lines(2))

    assert numbers(f"{tmp_path}/rows[1].ndjson") == [1]


def test_standard_input_that_only_begins_like_the_one_before_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def pipe(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))  # type: ignore[arg-type]

    start = lines(0, text="x" * 2000)
    pipe(start + lines(*range(1, 100)))
    ctx = Context()
    rows = ndjson(Row, "-")(ctx)
    for _ in range(50):
        next(rows)
    pipe(start + lines(*range(1001, 1100)))

    with pytest.raises(UnreadableFiles, match="begins like the input that was interrupted"):
        numbers("-", Context(ctx.cursor))
