"""Plans to draw: ordinary, awkward, and any at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any, Literal

import networkx as nx
from hypothesis import strategies as st

from flowq.delivery.policy import AckMode, Dedup, Rate, Retry
from flowq.errors import Place, Problem
from flowq.graph.compilation.plan import EdgePlan, Handler, Plan, Route, StagePlan
from flowq.graph.kinds import Batch, Kind, Placement, Shape


class Link: ...


class Page: ...


class Doc: ...


class Broken: ...


Edges = Iterable[tuple[str, str, Any]]


def plan(
    name: str,
    stages: Mapping[str, Mapping[str, Any]],
    edges: Edges = (),
    feedback: Edges = (),
    warnings: tuple[Problem, ...] = (),
) -> Plan:
    """A plan of stages, given with their options, and edges, given as (origin, target, type)."""
    forward, back = list(edges), list(feedback)
    types: dict[tuple[str, str], list[Any]] = {}
    for origin, target, type_ in (*forward, *back):
        types.setdefault((origin, target), []).append(type_)
    returning = {(origin, target) for origin, target, _ in back}
    plans = [
        EdgePlan(f"{origin}>{target}", origin, target, tuple(carried), feedback=(origin, target) in returning)
        for (origin, target), carried in types.items()
    ]
    fed = {edge.target for edge in plans}
    made: list[StagePlan] = []
    for stage, options in stages.items():
        routes: dict[Any, list[str]] = {}
        for edge in plans:
            for type_ in edge.types if edge.origin == stage else ():
                routes.setdefault(type_, []).append(edge.name)
        default = Kind.SOURCE if stage not in fed else Kind.STAGE if routes else Kind.SINK
        handler = Handler(
            print,
            options.get("shape", Shape.COROUTINE),
            options.get("placement", Placement.LOOP),
            Place("pipelines/some.py", 7),
        )
        settings_ = {"kind": default} | {k: v for k, v in options.items() if k not in ("shape", "placement")}
        made.append(
            StagePlan(
                stage,
                handler=handler,
                emits=tuple(routes),
                routes=tuple(Route(type_, tuple(names)) for type_, names in routes.items()),
                **settings_,
            )
        )
    inlets = [EdgePlan(f">{stage.name}", "", stage.name) for stage in made if stage.kind is not Kind.SOURCE]
    return Plan(name, tuple(made), (*inlets, *plans), warnings)


SCRAPE = plan(
    "scrape",
    {
        "seeds": {},
        "fetch": {"concurrency": 8, "dedup": Dedup("url"), "rate": Rate(20, by="host"), "accepted": (Link,)},
        "parse": {"concurrency": 2, "shape": Shape.GENERATOR, "placement": Placement.THREAD},
        "store": {"batch": Batch(200, 0.3)},
    },
    [("seeds", "fetch", Link), ("fetch", "parse", Page), ("parse", "store", Doc)],
    [("parse", "fetch", Link)],
    (Problem("FQ107", "a warning", Place("pipelines/some.py", 9), ("a detail",), "a hint", "warning"),),
)
DIAMOND = plan(
    "diamond",
    {
        "rows": {},
        "check": {},
        "enrich": {},
        "audit": {"retry": Retry(1)},
        "score": {"placement": Placement.PROCESS},
        "join": {"ack": AckMode.FIRST},
        "reject": {},
    },
    [
        ("rows", "check", Page),
        *[("check", target, Doc) for target in ("enrich", "audit", "score")],
        ("check", "reject", Broken),
        ("enrich", "join", Page),
        ("score", "join", Page),
    ],
)
TEN = plan(
    "ten",
    {f"s{number}": {} for number in range(10)},
    [(f"s{number}", f"s{number + 1}", Doc) for number in range(9)],
)
TWO_SOURCES = plan(
    "two",
    {"urls": {}, "feeds": {}, "fetch": {}, "parse": {}, "old": {}, "store": {}},
    [
        ("urls", "fetch", Link),
        ("feeds", "fetch", Link),
        ("fetch", "parse", Page),
        ("parse", "store", Doc),
        ("old", "store", Doc),
    ],
)
LOOP = plan("loop", {"seeds": {}, "crawl": {}}, [("seeds", "crawl", Link)], [("crawl", "crawl", Link)])
SINGLE = plan("single", {"clean": {"kind": Kind.SINK}})
EMPTY = plan("empty", {})
_READ = "read_all_the_files_from_the_archive_of_records"
_NORMALIZE = "normalize_and_validate_every_single_record_of_it"
LONG = plan(
    "long",
    {
        _READ: {},
        _NORMALIZE: {
            "dedup": Dedup("a_field_with_a_really_long_name_in_it"),
            "rate": Rate(5, per=7, by="customer_account_identifier"),
        },
        "W" * 64: {},
    },
    [
        (_READ, _NORMALIZE, Literal["quite a long value for a type", "and another one of them"]),
        (_READ, _NORMALIZE, dict[str, list[Page]]),
        (_NORMALIZE, "W" * 64, Doc),
    ],
    [(_NORMALIZE, _NORMALIZE, Literal["a type that comes back all the time"])],
)
# Every source feeds every sink: two edges cross right in their middles, where their labels would stand.
CROSSED = plan("crossed", {"a": {}, "b": {}, "c": {}, "d": {}}, [(o, t, Doc) for o in "ab" for t in "cd"])
# Many feedback edges; one joins cards that have others below them, so it leaves and arrives at their sides.
TANGLE = plan(
    "tangle",
    {name: {} for name in ("seeds", "fetch", "images", "parse", "thumbs", "later", "store", "report")},
    [
        ("seeds", "fetch", Link),
        ("seeds", "report", Doc),
        ("fetch", "images", Page),
        ("fetch", "parse", Page),
        ("images", "thumbs", Page),
        ("parse", "store", Doc),
        ("parse", "later", Broken),
        ("thumbs", "store", Doc),
        ("later", "report", Doc),
        ("store", "report", Doc),
    ],
    [
        ("parse", "fetch", Link),
        ("later", "fetch", Link),
        ("later", "parse", Page),
        ("thumbs", "images", Page),
        ("thumbs", "thumbs", Page),
        ("later", "later", Page),
    ],
)
# Names and types that mean something to a format. The compiler refuses such names, the drawings bear them.
NASTY = plan(
    'a "pipeline" & <more>',
    {"end": {}, 'we"ird <b> & #1': {}, "graph": {}, "_1": {}, "snake_case": {}},
    [
        ("end", 'we"ird <b> & #1', Literal['"`|<br>&#\\']),
        ('we"ird <b> & #1', "graph", list[str]),
        ("graph", "_1", dict[str, int] | None),
        ("_1", "snake_case", Literal["*a*"]),
    ],
)
PLANS = [SCRAPE, DIAMOND, TEN, TWO_SOURCES, LOOP, SINGLE, EMPTY, LONG, CROSSED, TANGLE, NASTY]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any pipeline of up to nine stages. A feedback edge leads from a stage to one that comes before it."""
    names = [f"stage{number}" for number in range(draw(st.integers(1, 9)))]
    pairs = list(combinations(names, 2))
    forward = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=16)) if pairs else []
    graph = nx.DiGraph(forward)
    back = [
        (late, early) for early in graph for late in nx.descendants(graph, early) | {early} if graph.in_degree(early)
    ]
    feedback = draw(st.lists(st.sampled_from(back), unique=True, max_size=4)) if back else []
    types = st.sampled_from([Link, Page, Doc, dict[str, list[Page]]])
    return plan(
        "any",
        {name: {"concurrency": draw(st.integers(1, 9999))} for name in names},
        [(*pair, draw(types)) for pair in forward],
        [(*pair, draw(types)) for pair in feedback],
    )
