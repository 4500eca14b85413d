"""The graph of the web page: nothing overlaps, lines end before cards, names are text, numbers have slots."""

from __future__ import annotations

import re
from functools import cached_property
from itertools import combinations
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings

from flowq.dashboard.live.shapes import is_large
from flowq.dashboard.picture.graph_picture import GraphPicture
from flowq.graph.compilation.plan import Plan
from tests.unit.graph.drawn import ROUNDING, Point, Rect, points_along
from tests.unit.graph.plans import DIAMOND, LONG, NASTY, PLANS, SCRAPE, TANGLE, TEN, TWO_SOURCES, Doc, Link, plan, plans

TIP = 9.0
HOSTILE = "\"><script>alert(1)</script>' onload=x & \u202e"
FIFTEEN = plan(
    "fifteen",
    {f"s{number}": {} for number in range(15)},
    [*((f"s{number}", f"s{number + 1}", Doc) for number in range(13)), ("s0", "s14", Link)],
    [("s13", "s2", Link)],
)
every_plan = pytest.mark.parametrize("drawn", [*PLANS, FIFTEEN], ids=lambda drawn: drawn.name.split()[0])


class Drawing:
    """A picture read back."""

    def __init__(self, drawn: Plan, value: str = "7") -> None:
        self.picture = GraphPicture.of(drawn, lambda stage: f"/p/{drawn.name}/s/{stage}")
        self.names = self.picture.graph.names
        self.text = self.picture.graph.filled(dict.fromkeys(self.names, value))
        self.root = ET.fromstring(self.text)

    def having(self, look: str) -> list[ET.Element]:
        return [element for element in self.root.iter() if look in element.get("class", "").split()]

    @cached_property
    def cards(self) -> dict[str, Rect]:
        return {node.attrib["data-stage"]: box_of(node, "box") for node in self.having("node")}

    @cached_property
    def queues(self) -> list[Rect]:
        return [box_of(queue, "pill") for queue in self.having("queue")]


def box_of(group: ET.Element, look: str) -> Rect:
    (left, top), (box,) = place_of(group), [each for each in group.iter("rect") if each.get("class") == look]
    return Rect(left, top, left + float(box.attrib["width"]), top + float(box.attrib["height"]))


def place_of(element: ET.Element) -> Point:
    moved = re.match(r"translate\((\S+) (\S+)\)", element.get("transform", "translate(0 0)"))
    assert moved
    return float(moved[1]), float(moved[2])


def assert_sound(drawn: Plan) -> None:
    """What has to hold for the picture of any plan."""
    drawing = Drawing(drawn)
    assert drawing.cards.keys() == drawn.stage_by_name.keys()
    assert not any(one.overlaps(other) for one, other in combinations(drawing.cards.values(), 2))
    left, top, width, height = (float(number) for number in drawing.root.attrib["viewBox"].split())
    view = Rect(left, top, left + width, top + height)
    for box in (*drawing.cards.values(), *drawing.queues):
        assert view.contains((box.left, box.top))
        assert view.contains((box.right, box.bottom))
    edges = {(edge.origin, edge.target) for edge in drawn.edges if edge.origin}
    assert len(drawing.queues) == len(edges)
    assert {(line.attrib["data-from"], line.attrib["data-to"]) for line in drawing.having("line")} == edges
    for line, tip in zip(drawing.having("line"), drawing.having("tip"), strict=True):
        points = list(points_along(line.attrib["d"]))
        target = drawing.cards[line.attrib["data-to"]]
        assert drawing.cards[line.attrib["data-from"]].distance_of_border(points[0]) <= ROUNDING
        assert grown(target, TIP).distance_of_border(points[-1]) <= ROUNDING
        assert place_of(tip) == pytest.approx(points[-1], abs=ROUNDING)
        assert not [p for p in points for card in drawing.cards.values() if card.contains(p, inset=2 * ROUNDING)]


def grown(box: Rect, by: float) -> Rect:
    return Rect(box.left - by, box.top - by, box.right + by, box.bottom + by)


@every_plan
def test_no_cards_overlap_and_every_line_ends_a_tip_before_its_card_and_crosses_none(drawn: Plan) -> None:
    assert_sound(drawn)


@given(plans())
@settings(max_examples=30)
def test_this_holds_for_any_pipeline(drawn: Plan) -> None:
    assert_sound(drawn)


@pytest.mark.parametrize("drawn", [SCRAPE, DIAMOND, TEN, TWO_SOURCES, TANGLE, FIFTEEN], ids=lambda drawn: drawn.name)
def test_queues_cover_neither_cards_nor_each_other(drawn: Plan) -> None:
    drawing = Drawing(drawn)
    assert not [queue for queue in drawing.queues for card in drawing.cards.values() if queue.overlaps(card)]
    assert not any(one.overlaps(other) for one, other in combinations(drawing.queues, 2))


def test_four_columns_fit_into_a_window_of_1280() -> None:
    assert Drawing(SCRAPE).root.attrib["width"] == "1216"


def test_feedback_runs_below_what_it_passes_and_only_feedback_is_marked() -> None:
    drawing = Drawing(SCRAPE)
    (back,) = (line for line in drawing.having("line") if "back" in line.attrib["class"])
    assert (back.attrib["data-from"], back.attrib["data-to"]) == ("parse", "fetch")
    assert max(y for _, y in points_along(back.attrib["d"])) > max(card.bottom for card in drawing.cards.values())


@every_plan
def test_values_and_names_are_text_whatever_is_in_them(drawn: Plan) -> None:
    drawing = Drawing(drawn, HOSTILE)
    tags = {element.tag for element in drawing.root.iter()}
    assert tags <= {"svg", "g", "a", "title", "path", "rect", "text", "use", "circle"}
    assert {element.get("data-stage") for element in drawing.having("node")} == set(drawn.stage_by_name)
    live = [element for element in drawing.root.iter() if "data-live" in element.attrib]
    assert all(element.text == HOSTILE for element in live)


@pytest.mark.parametrize("drawn", [SCRAPE, TANGLE, NASTY, FIFTEEN], ids=lambda drawn: drawn.name.split()[0])
def test_it_has_classes_and_attributes_only_and_nothing_from_elsewhere(drawn: Plan) -> None:
    attributes = {name for element in Drawing(drawn).root.iter() for name in element.attrib}
    assert "style" not in attributes
    assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"<style|<script|<image|https?:|url\(", Drawing(drawn).text)


@every_plan
def test_every_slot_is_marked_where_the_script_of_the_page_looks_for_it(drawn: Plan) -> None:
    drawing = Drawing(drawn)
    marked: set[str] = set()
    for element in drawing.root.iter():
        marked |= {element.attrib["data-live"]} if "data-live" in element.attrib else set()
        if not re.search(r"\s", drawn.name):  # the compiler refuses names with spaces
            marked |= {pair.partition(":")[2] for pair in element.get("data-attr", "").split()}
    assert marked <= drawing.names
    assert re.search(r"\s", drawn.name) or marked == drawing.names


def test_a_long_name_is_clipped_on_its_card_and_whole_in_its_title() -> None:
    drawing = Drawing(LONG)
    for node in drawing.having("node"):
        name = node.attrib["data-stage"]
        (shown,) = (text.text or "" for text in node.iter("text") if text.get("class") == "name")
        assert shown.endswith("…")
        assert name.startswith(shown[:-1])
        assert (node.findtext("title") or "").startswith(name)


def test_the_link_has_the_name_and_a_sentence_and_its_figures_are_hidden_from_screen_readers() -> None:
    for drawn in (SCRAPE, FIFTEEN):
        for node in Drawing(drawn).having("node"):
            name = node.attrib["data-stage"]
            link = node.find("a")
            assert link is not None
            assert link.attrib["href"] == f"/p/{drawn.name}/s/{name}"
            assert f"aria-label:s.{name}.label" in link.attrib["data-attr"]
            assert [text.text for text in link.iter("text")] == [name]
            figures = [child for child in node if child.get("class") == "on-card"]
            assert [child.get("aria-hidden") for child in figures] == ["true"]


def test_a_pipeline_of_more_than_14_stages_has_small_cards_and_a_map() -> None:
    assert not is_large(TEN)
    assert Drawing(TEN).picture.map is None
    assert is_large(FIFTEEN)
    drawing = Drawing(FIFTEEN)
    assert {(round(card.right - card.left), round(card.bottom - card.top)) for card in drawing.cards.values()} == {
        (152, 50)
    }
    map_ = drawing.picture.map
    assert map_ is not None
    spots = list(ET.fromstring(map_.filled(dict.fromkeys(map_.names, "ok"))).iter("rect"))
    assert [spot.get("class") for spot in spots] == ["spot"] * 15 + [None]
    assert spots[-1].get("id") == "lens"
    assert map_.names == {f"s.{stage.name}.{what}" for stage in FIFTEEN.stages for what in ("state", "neck")}
