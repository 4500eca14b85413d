"""The stream of changes: numbered, resumed, shared, never longer than what a reader can take."""

from __future__ import annotations

import zlib

import pytest

from flowq.dashboard.live.page_changes import KEPT, Changes
from flowq.dashboard.live.viewer import Viewer
from tests.dashboard.event_stream import SeenEvent, events_in

A, B = {"p.state": "working", "s.a.ok": "1"}, {"p.state": "working", "s.a.ok": "2"}


def read(data: bytes) -> list[SeenEvent]:
    return list(events_in(data.splitlines(keepends=True)))


def counting(changes: Changes, upto: int, first: int = 0) -> None:
    for n in range(first, upto):
        changes.add({"p.state": "working", "s.a.ok": str(n)}, {"attention": [{"title": str(n // 50)}]}, {"at": n})


def test_the_first_event_has_all_texts_and_the_next_only_those_that_differ() -> None:
    changes = Changes("e")

    first, second = changes.add(A, {}, {"at": 1}), changes.add(B, {}, {"at": 2})

    assert read(first.plain) == [SeenEvent("patch", "e-1", {"at": 1, "set": A, "rows": {}})]
    assert read(second.plain) == [SeenEvent("patch", "e-2", {"at": 2, "set": {"s.a.ok": "2"}, "rows": {}})]
    assert read(changes.full.plain) == [SeenEvent("full", "e-2", {"at": 2, "set": B, "rows": {}})]


@pytest.mark.parametrize("n_missed", [0, 1, 2, KEPT])
def test_a_reader_who_comes_back_gets_what_was_missed_as_one_event(n_missed: int) -> None:
    changes = Changes("e")
    counting(changes, 200)

    (event,) = read(changes.since(f"e-{200 - n_missed}").plain)

    texts = {"s.a.ok": "199"} if n_missed else {}
    rows = {"attention": [{"title": "3"}]} if n_missed >= 50 else {}
    assert event == SeenEvent("patch", "e-200", {"at": 199, "set": texts, "rows": rows})


@pytest.mark.parametrize("last_id", ["", f"e-{200 - KEPT - 1}", "f-200", "e-201", "e-", "e--1", "e-²", "e-" + "9" * 99])
def test_a_reader_who_missed_too_much_or_comes_from_elsewhere_gets_everything(last_id: str) -> None:
    changes = Changes("e")
    counting(changes, 200)

    (event,) = read(changes.since(last_id).plain)

    assert (event.kind, event.data["set"]) == ("full", {"p.state": "working", "s.a.ok": "199"})


@pytest.mark.parametrize(
    "text", ["a\n\nevent: full\ndata: {}\n\n", "a\r\rdata: x\r\r", "\u2028\u2029\x85\x00\x1b[2J", "\ud800"]
)
def test_no_text_can_begin_an_event_of_its_own(text: str) -> None:
    changes = Changes("e")

    (event,) = read(changes.add({"s.a.why": text}, {"attention": [{"title": text}]}, {}).plain)

    seen = text if text != "\ud800" else "\\ud800"
    assert event.data == {"set": {"s.a.why": seen}, "rows": {"attention": [{"title": seen}]}}


def test_texts_are_cut_and_paths_are_not() -> None:
    path = "M0 1" + "L10.5 20" * 100

    (event,) = read(Changes("e").add({"s.a.why": "x" * 5000, "s.a.spark": path}, {}, {}).plain)

    assert event.data["set"] == {"s.a.why": "x" * 299 + "…", "s.a.spark": path}


async def taken(viewer: Viewer, n_pieces: int) -> bytes:
    stream = viewer.stream()
    pieces = [await anext(stream) for _ in range(n_pieces)]
    await stream.aclose()
    return b"".join(pieces)


async def test_a_slow_reader_never_has_more_than_two_events_waiting_and_then_gets_everything() -> None:
    changes = Changes("e")
    counting(changes, 1)
    viewer = Viewer(changes, "", is_packed=False)
    for n in range(1, 50):
        viewer.offer(changes.add({"p.state": "working", "s.a.ok": str(n)}, {}, {}))

    events = read(await taken(viewer, 2))

    assert [event.kind for event in events] == ["full", "full"]
    assert events[-1].data["set"]["s.a.ok"] == "49"


async def test_a_reader_who_keeps_up_gets_each_event_once() -> None:
    changes = Changes("e")
    counting(changes, 1)
    viewer = Viewer(changes, "", is_packed=False)
    stream = viewer.stream()
    got = [await anext(stream)]
    for n in range(1, 5):
        viewer.offer(changes.add({"s.a.ok": str(n)}, {}, {}))
        got.append(await anext(stream))
    await stream.aclose()

    assert [event.id for event in read(b"".join(got))] == ["e-1", "e-2", "e-3", "e-4", "e-5"]


async def test_compressed_pieces_are_shared_and_make_one_valid_stream_for_each_reader() -> None:
    changes = Changes("e")
    counting(changes, 1)
    plain, packed, late = (Viewer(changes, "", is_packed=is_packed) for is_packed in (False, True, True))
    as_it_is, as_packed = plain.stream(), packed.stream()
    pieces, packed_pieces = [await anext(as_it_is)], [await anext(as_packed), await anext(as_packed)]
    for n in range(1, 4):
        event = changes.add({"s.a.ok": str(n)}, {}, {})
        for viewer in (plain, packed):
            viewer.offer(event)
        pieces.append(await anext(as_it_is))
        packed_pieces.append(await anext(as_packed))
        assert packed_pieces[-1] is event.packed
    for viewer in (plain, packed, late):
        viewer.end()
    whole = b"".join(pieces + [piece async for piece in as_it_is])
    whole_packed = b"".join(packed_pieces + [piece async for piece in as_packed])
    joined = b"".join([piece async for piece in late.stream()])

    assert zlib.decompress(whole_packed, wbits=31) == whole  # with its checksum and length
    assert [event.kind for event in read(zlib.decompress(joined, wbits=31))] == ["full", "bye"]
