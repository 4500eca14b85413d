"""The picture of a plan: nothing overlaps or overflows, and every line joins two cards."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given

from flowq.graph.compilation.plan import Plan
from flowq.graph.kinds import Kind
from flowq.graph.render import render
from tests.unit.graph.drawn import ROUNDING, SVG, Point, Rect, points_along
from tests.unit.graph.plans import (
    DIAMOND,
    LONG,
    NASTY,
    PLANS,
    SCRAPE,
    TANGLE,
    TEN,
    TWO_SOURCES,
    Doc,
    plan,
    plans,
)

every_plan = pytest.mark.parametrize("drawn", PLANS, ids=lambda drawn: drawn.name.split()[0])


class Picture:
    """An SVG read back: cards by stage, paths by edge."""

    def __init__(self, drawn: Plan) -> None:
        self.text = render(drawn, "svg")
        self.root = ET.fromstring(self.text)
        groups = list(self.root.iter(f"{SVG}g"))
        self.cards = [(group, self.rect(group)) for group in groups if "data-stage" in group.attrib]
        self.card = {group.attrib["data-stage"]: rect for group, rect in self.cards}
        self.edges = [group for group in groups if "data-edge" in group.attrib]
        self.labels = [group for group in groups if group.attrib["class"].startswith("label")]

    @staticmethod
    def rect(group: ET.Element) -> Rect:
        element = group.find(f"{SVG}rect")
        assert element is not None
        return Rect.of(element)

    def points(self, edge: str) -> list[Point]:
        """Points close together along the line of an edge."""
        (group,) = (group for group in self.edges if group.attrib["data-edge"] == edge)
        path = group.find(f"{SVG}path")
        assert path is not None
        return list(points_along(path.attrib["d"]))


def assert_sound(drawn: Plan) -> None:
    """What has to hold for the picture of any plan."""
    picture = Picture(drawn)
    page = Rect(*(float(number) for number in picture.root.attrib["viewBox"].split()))
    page = Rect(page.left, page.top, page.left + page.right, page.top + page.bottom)
    rects = [rect for _, rect in picture.cards] + [picture.rect(label) for label in picture.labels]
    assert all(page.contains((r.left, r.top)) and page.contains((r.right, r.bottom)) for r in rects)
    assert sorted(picture.card) == sorted(stage.name for stage in drawn.stages)
    assert len(picture.cards) == len(drawn.stages)
    for (_, one), (_, other) in combinations(picture.cards, 2):
        assert not one.overlaps(other)
    assert Counter(group.attrib["data-edge"] for group in picture.edges) == Counter(
        edge.name for edge in drawn.edges if edge.origin
    )
    for edge in drawn.edges:
        if edge.origin:
            points = picture.points(edge.name)
            assert picture.card[edge.origin].distance_of_border(points[0]) <= ROUNDING
            assert picture.card[edge.target].distance_of_border(points[-1]) <= ROUNDING
            assert all(page.contains(point) for point in points)
            assert not [p for p in points for _, card in picture.cards if card.contains(p, inset=2 * ROUNDING)]


@every_plan
def test_no_cards_overlap_and_every_line_goes_from_border_to_border_and_crosses_no_card(drawn: Plan) -> None:
    assert_sound(drawn)


@given(plans())
def test_this_holds_for_any_pipeline(drawn: Plan) -> None:
    assert_sound(drawn)


@every_plan
def test_labels_stand_on_their_lines_and_cover_neither_cards_nor_each_other(drawn: Plan) -> None:
    picture = Picture(drawn)
    names = [edge.name for edge in drawn.edges if edge.origin]
    rects = [picture.rect(label) for label in picture.labels]
    for name, rect in zip(names, rects, strict=True):
        assert any(rect.contains(point) for point in picture.points(name))
        assert not any(rect.overlaps(card) for _, card in picture.cards)
    assert not any(one.overlaps(other) for one, other in combinations(rects, 2))


def test_stages_stand_right_of_what_feeds_them() -> None:
    for drawn in (SCRAPE, DIAMOND, TEN, TWO_SOURCES, TANGLE):
        card = Picture(drawn).card
        for edge in drawn.edges:
            if edge.origin and not edge.feedback:
                assert card[edge.origin].right < card[edge.target].left


def test_a_chain_is_drawn_level() -> None:
    heights = {round((card.top + card.bottom) / 2) for _, card in Picture(TEN).cards}
    assert len(heights) == 1
    card = Picture(TWO_SOURCES).card  # where the sources at its ends draw it up and down
    assert abs(card["fetch"].top - card["parse"].top) < 4


def test_a_source_stands_next_to_the_stage_that_it_feeds() -> None:
    card = Picture(TWO_SOURCES).card
    assert card["old"].left == card["parse"].left


def test_crossings_that_can_be_avoided_are_avoided() -> None:
    crossed = [("a", "z", Doc), ("b", "y", Doc), ("c", "x", Doc)]
    card = Picture(plan("crossed", {name: {} for name in "abcxyz"}, crossed)).card
    from_above = sorted(crossed, key=lambda edge: card[edge[0]].top)
    assert from_above == sorted(crossed, key=lambda edge: card[edge[1]].top)


def test_only_feedback_is_dashed_and_it_runs_outside_the_cards_that_it_passes() -> None:
    for drawn in (SCRAPE, TANGLE, LONG):
        picture = Picture(drawn)
        dashed = {g.attrib["data-edge"] for g in picture.edges if "feedback" in g.attrib["class"].split()}
        assert dashed == {edge.name for edge in drawn.edges if edge.feedback}
        assert re.search(r"\.feedback \.line \{[^}]*stroke-dasharray", picture.text)
    picture = Picture(SCRAPE)
    lowest = max(point[1] for point in picture.points("parse>fetch"))
    assert lowest > max(picture.card[name].bottom for name in ("fetch", "parse"))


@every_plan
def test_kinds_are_shown_by_word_and_by_colour(drawn: Plan) -> None:
    picture = Picture(drawn)
    for group, _ in picture.cards:
        kind = drawn.stage(group.attrib["data-stage"]).kind
        assert group.attrib["class"] == f"card {kind}"
        assert kind.upper() in [text.text for text in group.iter(f"{SVG}text")]
    colours = {kind: re.search(rf"\.{kind} \.accent \{{ fill: (#\w+)", picture.text) for kind in Kind}
    assert len({found[1] for found in colours.values() if found}) == len(Kind)


# Advance widths of Helvetica-Bold in thousandths of an em, the wide characters of its companion for the rest.
ADVANCE = {
    278: "fijlt.,:;|'![]()/ -",
    389: "r",
    500: "z",
    584: "×~<>=+↺",
    611: "bdghnopqu",
    833: "M",
    944: "W",
}
WIDTHS = {character: width for width, characters in ADVANCE.items() for character in characters} | {"m": 889}


@every_plan
def test_every_text_fits_the_box_that_it_stands_in(drawn: Plan) -> None:
    picture = Picture(drawn)
    sizes = {"name": 15.0, "options": 11.5, "type": 11.5}
    for group, rect in [*picture.cards, *((label, picture.rect(label)) for label in picture.labels)]:
        for text in group.iter(f"{SVG}text"):
            style = text.attrib["class"].split()[0]
            if style not in sizes:
                continue
            long = sum(WIDTHS.get(character, 570) for character in text.text or "") / 1000 * sizes[style]
            left = float(text.attrib["x"]) - (long / 2 if style == "type" else 0)
            assert rect.left + 4 <= left
            assert left + long <= rect.right - 4
            assert rect.top + 8 <= float(text.attrib["y"]) <= rect.bottom - 4


def test_shortened_labels_have_their_full_text_as_title() -> None:
    titles = [title.text for title in Picture(LONG).root.iter(f"{SVG}title")]
    assert any("dedup a_field_with_a_really_long_name_in_it" in (title or "") for title in titles)
    assert any("dict[str, list[tests.unit.graph.plans.Page]]" in (title or "") for title in titles)


def test_screen_readers_get_a_description() -> None:
    root = Picture(SCRAPE).root
    assert root.attrib["role"] == "img"
    assert root.findtext(f"{SVG}title") == "Pipeline scrape"
    assert root.findtext(f"{SVG}desc") == (
        "Stages: source seeds, stage fetch, stage parse, sink store. Edges: seeds to fetch: Link; "
        "fetch to parse: Page; parse to store: Doc; parse to fetch: Link (feedback)."
    )


def test_names_and_types_are_text_never_markup() -> None:
    picture = Picture(NASTY)
    assert set(picture.card) == set(NASTY.stage_by_name)
    tags = {element.tag.removeprefix(SVG) for element in picture.root.iter()}
    assert tags == {"svg", "title", "desc", "style", "defs", "marker", "path", "rect", "g", "text"}


def test_it_needs_nothing_from_elsewhere_and_follows_a_dark_page() -> None:
    text = Picture(SCRAPE).text
    assert text.count("http") == 1  # the name of the SVG namespace
    assert not re.search(r"<script|<image|href|@import|@font-face|url\((?!#)", text)
    assert "prefers-color-scheme: dark" in text
