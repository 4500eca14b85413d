"""Drawings of a plan as text: what each format shows, and that no drawing is ever broken."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from html import unescape
from itertools import pairwise

import networkx as nx
import pytest
from hypothesis import given

from flowq.delivery.policy import AckMode, Dedup, Rate
from flowq.errors import UsageError
from flowq.graph.compilation.plan import Plan, Route, StagePlan
from flowq.graph.kinds import Kind, Shape
from flowq.graph.render import FORMATS, render
from tests.unit.graph.plans import DIAMOND, LONG, NASTY, PLANS, SCRAPE, Link, Page, plan, plans

every_plan = pytest.mark.parametrize("drawn", PLANS, ids=lambda drawn: drawn.name.split()[0])


# --- all formats


def test_the_formats_are_tree_mermaid_dot_svg_and_json() -> None:
    assert list(FORMATS) == ["tree", "mermaid", "dot", "svg", "json"]


def test_an_unknown_format_is_answered_with_the_nearest_one_and_the_choices() -> None:
    with pytest.raises(UsageError, match='no format "mermiad"') as caught:
        render(SCRAPE, "mermiad")
    assert 'did you mean "mermaid"?' in caught.value.hint
    assert "tree, mermaid, dot, svg, json" in caught.value.hint


@every_plan
@pytest.mark.parametrize("format", FORMATS)
def test_every_format_draws_every_plan_and_ends_its_last_line(drawn: Plan, format: str) -> None:
    text = render(drawn, format)
    assert text == FORMATS[format](drawn)
    assert text.endswith("\n") == bool(text)


@pytest.mark.parametrize("format", ["tree", "mermaid", "dot", "svg"])
def test_every_drawing_shows_the_options_of_a_stage(format: str) -> None:
    text = render(SCRAPE, format)
    batch = "batch 200" if format in ("tree", "svg") else "⊞200"
    for option in ("×8", "×2", batch, "retry 5", "20/s per host", "dedup url"):
        assert option in text
    assert "no retry" in render(DIAMOND, format)
    assert "ack first" in render(DIAMOND, format)
    assert "process" in render(DIAMOND, format)


@pytest.mark.parametrize("format", ["tree", "mermaid", "dot", "svg"])
def test_a_fan_out_is_marked_as_a_copy_and_a_branch_by_type_is_not(format: str) -> None:
    text = render(DIAMOND, format)
    assert text.count("Doc (copy)") >= 3
    assert "Broken (copy)" not in text
    assert "(copy)" not in render(SCRAPE, format)


@pytest.mark.parametrize("format", ["tree", "mermaid", "dot", "svg"])
def test_an_output_that_nothing_takes_is_shown(format: str) -> None:
    lonely = StagePlan("lonely", Kind.STAGE, SCRAPE.stages[1].handler, routes=(Route(Page, ()),))
    assert "drops Page" in render(Plan("lonely", (lonely,), ()), format)


def test_rates_and_keys_are_written_as_people_say_them() -> None:
    def by_host(link: Link) -> str:
        return ""

    said = {
        "100/min": {"rate": Rate(100, per=60)},
        "2.5/h": {"rate": Rate(2.5, per=3600)},
        "5/s per host, 2 at once": {"rate": Rate(5, by="host", concurrency=2)},
        "20/s per host  slow.example 1/min  old.example 2/s, 1 at once": {
            "rate": Rate(20, by="host", keys={"slow.example": Rate(1, per=60), "old.example": Rate(2, concurrency=1)})
        },
        "c 3/s  2 more keys": {"rate": Rate(9, by="host", keys={key: Rate(3) for key in "abcde"})},
        "1/10s per by_host": {"rate": Rate(1, per=10, by=by_host)},
        "dedup by_host": {"dedup": Dedup(by_host)},
        "dedup key": {"dedup": Dedup(lambda link: "")},
        "timeout 1.5s": {"timeout_seconds": 1.5},
        "inline": {"shape": Shape.FUNCTION},
        "ack manual": {"ack": AckMode.MANUAL},
    }
    for words, options in said.items():
        assert words in render(plan("one", {"clean": {"kind": Kind.SINK, **options}}), "tree")


# --- tree


def test_the_tree_of_scrape() -> None:
    assert (
        render(SCRAPE)
        == """\
 ◉ seeds              source
 │ Link
 ● fetch              ×8  20/s per host  retry 5  dedup url
 │ Page
 ● parse              ×2  retry 5
 ├─ Doc  ──▶ ■ store  ×10  batch 200  retry 5
 └─ Link ──▶ fetch ↺  dedup url
"""
    )


def test_the_tree_of_a_fan_out_that_merges_again() -> None:
    assert (
        render(DIAMOND)
        == """\
 ◉ rows                      source
 │ Page
 ● check                     ×10  retry 5
 ├─┐ Doc (copy)
 │ ● enrich                  ×10  retry 5
 │ └─ Page ──▶ join ↓
 ├─ Doc (copy) ──▶ ■ audit   ×10  no retry
 ├─ Broken     ──▶ ■ reject  ×10  retry 5
 │ Doc (copy)
 ● score                     ×10  retry 5  process
 │ Page
 ■ join                      ×10  no retry  ack first
"""
    )


def test_the_tree_in_ascii() -> None:
    assert (
        render(SCRAPE, ascii=True)
        == """\
 o seeds                   source
 | Link
 * fetch                   x8  20/s per host  retry 5  dedup url
 | Page
 * parse                   x2  retry 5
 |- Doc  --> # store       x10  batch 200  retry 5
 `- Link --> fetch (loop)  dedup url
"""
    )
    assert render(LONG, ascii=True).isascii()


def test_details_that_do_not_fit_beside_a_long_name_continue_below_it() -> None:
    lines = render(LONG).splitlines()
    row = lines.index(" ● normalize_and_validate_every_single_record_of_it")
    below = " ".join(line.lstrip(" │") for line in lines[row + 1 : row + 3])
    assert "5/7s per customer_account_identifier" in below
    assert "dedup a_field_with_a_really_long_name_in_it" in below


@given(plans())
def test_the_tree_has_one_row_for_each_stage_and_shows_each_edge_once(drawn: Plan) -> None:
    lines = render(drawn).splitlines()
    rows = [word for line in lines for glyph, word in pairwise(line.split()) if glyph in "◉●■"]
    references = sum(line.count("↓") + line.count("↺") for line in lines)
    assert sorted(rows) == sorted(stage.name for stage in drawn.stages)
    roots = sum(not nx.ancestors(_forward(drawn), stage.name) for stage in drawn.stages)
    edges = sum(not edge.is_inlet for edge in drawn.edges)
    assert references + len(rows) - roots == edges
    assert max(map(len, lines)) <= 80


def _forward(drawn: Plan) -> nx.DiGraph[str]:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(drawn.stage_by_name)
    graph.add_edges_from((e.origin, e.target) for e in drawn.edges if e.origin and not e.feedback)
    return graph


@every_plan
def test_the_tree_fits_80_columns(drawn: Plan) -> None:
    for ascii in (False, True):
        assert all(len(line) <= 80 for line in render(drawn, ascii=ascii).splitlines())


# --- mermaid


def test_the_mermaid_of_scrape() -> None:
    assert (
        render(SCRAPE, "mermaid")
        == """\
flowchart LR
  seeds(["seeds"])
  fetch["fetch ×8<br/>20/s per host · retry 5 · dedup url"]
  parse["parse ×2<br/>retry 5"]
  store[("store ×10 ⊞200<br/>retry 5")]
  seeds -->|"Link"| fetch
  fetch -->|"Page"| parse
  parse -->|"Doc"| store
  parse -.->|"Link ↺"| fetch
"""
    )


def test_mermaid_gets_neither_its_own_words_nor_its_own_signs_from_names_and_types() -> None:
    assert (
        render(NASTY, "mermaid")
        == """\
flowchart LR
  _0(["end"])
  _1["we#34;ird #60;b#62; #38; #35;1 ×10<br/>retry 5"]
  _2["graph ×10<br/>retry 5"]
  _3["#95;1 ×10<br/>retry 5"]
  snake_case[("snake_case ×10<br/>retry 5")]
  _0 -->|"typing.Literal['#34;#96;|#60;br#62;#38;#35;#92;#92;']"| _1
  _1 -->|"list[str]"| _2
  _2 -->|"dict[str, int] | None"| _3
  _3 -->|"typing.Literal['#42;a#42;']"| snake_case
"""
    )


# --- dot


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
@every_plan
def test_graphviz_reads_the_same_stages_and_edges(drawn: Plan) -> None:
    read = subprocess.run(["dot", "-Tjson"], input=render(drawn, "dot"), capture_output=True, text=True, check=True)
    assert not read.stderr
    graph = json.loads(read.stdout)
    names = [unescape(node["name"]) for node in graph.get("objects", [])]
    assert Counter(names) == Counter(stage.name for stage in drawn.stages)
    edges = [(names[e["tail"]], names[e["head"]], e.get("style") == "dashed") for e in graph.get("edges", [])]
    assert Counter(edges) == Counter((e.origin, e.target, e.feedback) for e in drawn.edges if e.origin)


def test_dot_gives_each_kind_a_shape_of_its_own() -> None:
    shapes = [line.split("shape=")[1].split(",")[0] for line in render(SCRAPE, "dot").split("\n") if "shape=" in line]
    assert shapes == ["oval", "box", "box", "cylinder"]


# --- json


def test_the_json_says_all_that_the_plan_says() -> None:
    document = json.loads(render(SCRAPE, "json"))
    assert document["pipeline"] == "scrape"
    seeds, fetch, _, store = document["stages"]
    assert (seeds["kind"], seeds["concurrency"], seeds["retry"]) == ("source", None, None)
    assert fetch == {
        "name": "fetch",
        "kind": "stage",
        "accepts": ["Link"],
        "emits": ["Page"],
        "concurrency": 8,
        "batch": None,
        "retry": {
            "attempts": 5,
            "base_seconds": 0.5,
            "max_seconds": 60.0,
            "jitter": True,
            "on": ["Exception"],
            "give_up_on": [],
        },
        "rate": {
            "n": 20,
            "per_seconds": 1.0,
            "by": "host",
            "burst": 1,
            "concurrency": None,
            "adaptive": False,
            "keys": {},
        },
        "dedup": "url",
        "dedup_scope": "run",
        "dedup_ttl_seconds": None,
        "dedup_keep": "first",
        "ack": "after",
        "timeout_seconds": None,
        "max_bytes": 1_000_000,
        "claim_above": None,
        "runs_on": "loop",
        "resources": [],
        "routes": [{"type": "Page", "edges": ["fetch>parse"]}],
        "place": {"file": "pipelines/some.py", "line": 7},
    }
    assert (store["kind"], store["batch"]) == ("sink", {"size": 200, "linger_seconds": 0.3, "max_bytes": None})
    assert [edge["name"] for edge in document["edges"]] == [
        "seeds>fetch",
        "fetch>parse",
        "parse>store",
        "parse>fetch",
    ]
    assert document["edges"][-1] == {
        "name": "parse>fetch",
        "from": "parse",
        "to": "fetch",
        "types": ["Link"],
        "feedback": True,
        "maxsize": 10_000,
        "maxsize_bytes": 64_000_000,
    }
    assert document["warnings"] == [
        {
            "code": "FQ107",
            "text": "a warning",
            "details": ["a detail"],
            "hint": "a hint",
            "place": {"file": "pipelines/some.py", "line": 9},
            "severity": "warning",
        }
    ]


def test_the_json_is_indented_by_two() -> None:
    assert render(SCRAPE, "json").startswith('{\n  "pipeline": "scrape",\n  "stages": [\n    {\n')
