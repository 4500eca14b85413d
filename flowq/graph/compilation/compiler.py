"""Turns flows into a Plan, or into the list of everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from flowq.delivery.edge import Edge, inlet_of
from flowq.errors import PipelineError, Place, Problems
from flowq.graph.compilation.checks import (
    check_accepted,
    check_fields,
    check_handler,
    check_names,
    check_resources,
    check_shards,
    check_told_apart,
    check_tuning,
)
from flowq.graph.compilation.node import Feed, Node
from flowq.graph.compilation.order import cycles, topological
from flowq.graph.compilation.plan import (
    DEFAULT_MAXSIZE,
    DEFAULT_MAXSIZE_BYTES,
    EdgePlan,
    Handler,
    Plan,
    Route,
    StagePlan,
)
from flowq.graph.compilation.signature import SignatureReader
from flowq.graph.compilation.tuning import Tuning, tuned
from flowq.graph.compilation.typecheck import nearest, type_names
from flowq.graph.declaration.definition import Definition
from flowq.graph.declaration.flow import Join, Wiring, wiring_of
from flowq.graph.declaration.options import Running, checked_options
from flowq.graph.kinds import Kind, Placement


def compile_pipeline(
    name: str,
    flows: Sequence[object],
    place: Place | None = None,
    tuning: Tuning | None = None,
    *,
    shards: int = 1,
) -> Plan:
    """The plan of a pipeline, as if `tuning` were written in its code.

    Raises PipelineError with every problem found, warnings included.
    """
    tuning = tuning or {}
    problems = Problems()
    wiring = _wired(flows, problems)
    nodes = _nodes(wiring.definitions(), tuning, problems)
    check_names(name, place, nodes.values(), problems)
    check_shards(name, place, shards, problems)
    check_tuning(name, tuning, nodes.values(), problems)
    if not flows:
        problems.add("FQ109", "the pipeline is empty", place, hint="add a flow: Pipeline(name, a >> b)")
    feeds = _feeds(wiring.joins, nodes)
    for node in nodes.values():
        check_handler(node, problems)
        check_fields(node, problems)
    check_resources(nodes.values(), problems)
    check_accepted(feeds, list(nodes.values()), problems)
    for node in nodes.values():
        check_told_apart(node, _routes(node, feeds), problems)
    if problems.errors:
        raise PipelineError(problems.found)
    return replace(_plan(name, list(nodes.values()), feeds, problems), tuning=tuning, shards=shards)


def _wired(flows: Sequence[object], problems: Problems) -> Wiring:
    wirings: list[Wiring] = []
    for flow in flows:
        try:
            wirings.append(wiring_of(flow))
        except PipelineError as error:
            problems.found += error.problems
    return Wiring.side_by_side(wirings)


def _nodes(definitions: Iterable[Definition], tuning: Tuning, problems: Problems) -> dict[Definition, Node]:
    """Every stage once, in the order written, with its options and its function read."""
    nodes: dict[Definition, Node] = {}
    for definition in definitions:
        if definition not in nodes:
            own = tuned(definition, tuning.get(definition.name, {}), problems)
            options = checked_options(own, problems)
            signature = SignatureReader(own, problems, batch=options.batch is not None).read()
            nodes[definition] = Node(own, options, signature)
    return nodes


def _feeds(joins: Iterable[Join], nodes: dict[Definition, Node]) -> list[Feed]:
    """One feed for each origin of a join. Sinks among origins that emit something end there."""
    feeds: dict[Feed, None] = {}
    for join in joins:
        origins = [nodes[origin] for origin in join.origins]
        targets = tuple(dict.fromkeys(nodes[target] for target in join.targets))
        for origin in [origin for origin in origins if not origin.is_sink] or origins:
            feeds.setdefault(Feed(origin, targets))
    return list(feeds)


def _plan(name: str, nodes: list[Node], feeds: list[Feed], problems: Problems) -> Plan:
    routes = {node: _routes(node, feeds) for node in nodes}
    carried = _carried(routes)
    by_name = {node.name: node for node in nodes}
    following: dict[Node, list[Node]] = {node: [] for node in nodes}
    for origin, target in carried:
        following[by_name[origin]].append(by_name[target])
    fed = {target for targets in following.values() for target in targets}
    heads = sorted(nodes, key=lambda node: (node.accepts_messages, node in fed))
    feedback = {(cycle[-1].name, cycle[0].name) for cycle in cycles(heads, following.__getitem__)}
    forward = {
        node: [target for target in targets if (node.name, target.name) not in feedback]
        for node, targets in following.items()
    }
    ordered = topological(heads, forward.__getitem__)
    _warn_of_cycles(heads, following, problems)
    _warn_of_dropped_outputs(routes, problems)
    _warn_of_idle_targets(feeds, carried, problems)
    edges = _edges(ordered, carried, feedback)
    stages = tuple(_stage(node, routes[node], edges) for node in ordered)
    return Plan(name, stages, edges, tuple(problems.found))


def _routes(node: Node, feeds: Iterable[Feed]) -> tuple[Route, ...]:
    """For each type that a stage emits, the edges it is copied to: in each feed, that of the nearest target."""
    own = [feed for feed in feeds if feed.origin is node]
    routes: list[Route] = []
    for type_ in node.signature.emits:
        targets = [
            target
            for feed in own
            if (target := nearest(type_, [(target.name, target.signature.accepts) for target in feed.targets]))
        ]
        routes.append(Route(type_, tuple(f"{node.name}>{target}" for target in dict.fromkeys(targets))))
    return tuple(routes)


def _carried(routes: dict[Node, tuple[Route, ...]]) -> dict[tuple[str, str], list[Any]]:
    """The types that each connection carries, connections in the order written."""
    carried: dict[tuple[str, str], list[Any]] = {}
    for node_routes in routes.values():
        for route in node_routes:
            for edge in route.edges:
                origin, target = Edge.parse(edge)
                carried.setdefault((origin, target), []).append(route.type)
    return carried


def _edges(
    nodes: list[Node], carried: dict[tuple[str, str], list[Any]], feedback: set[tuple[str, str]]
) -> tuple[EdgePlan, ...]:
    limits = {
        node.name: (node.options.maxsize or DEFAULT_MAXSIZE, node.options.maxsize_bytes or DEFAULT_MAXSIZE_BYTES)
        for node in nodes
    }
    # Messages may be pushed long before a worker starts: only an explicit limit makes their sender wait.
    inlets = [
        EdgePlan(
            inlet_of(node.name),
            "",
            node.name,
            node.signature.accepted,
            maxsize=node.options.maxsize or 0,
            maxsize_bytes=node.options.maxsize_bytes or 0,
        )
        for node in nodes
        if node.accepts_messages
    ]
    position = {node.name: index for index, node in enumerate(nodes)}
    between = [
        EdgePlan(f"{origin}>{target}", origin, target, tuple(types), (origin, target) in feedback, *limits[target])
        for (origin, target), types in sorted(carried.items(), key=lambda item: position[item[0][0]])
    ]
    return (*inlets, *between)


def _stage(node: Node, routes: tuple[Route, ...], edges: Sequence[EdgePlan]) -> StagePlan:
    options, signature = node.options, node.signature
    return StagePlan(
        name=node.name,
        kind=Kind.SOURCE if not node.accepts_messages else Kind.SINK if node.is_sink else Kind.STAGE,
        handler=Handler(
            call=node.definition.fn,
            shape=signature.shape,
            placement=_placement(node),
            place=node.place,
            resources=signature.resources,
            context_parameter=signature.context_parameter,
            returns_list=signature.returns_list,
        ),
        accepts=signature.accepts,
        accepted=signature.accepted,
        emits=signature.emits,
        in_edges=tuple(edge.name for edge in edges if edge.target == node.name),
        routes=routes,
        **{each.name: getattr(options, each.name) for each in fields(Running)},
    )


def _placement(node: Node) -> Placement:
    if node.options.process:
        return Placement.PROCESS
    on_loop = node.options.inline or node.signature.shape.is_async
    return Placement.LOOP if on_loop else Placement.THREAD


def _warn_of_cycles(nodes: Sequence[Node], following: Mapping[Node, Sequence[Node]], problems: Problems) -> None:
    """A cycle ends if one of its stages drops messages seen before, or declares that it bounds the cycle."""
    unbounded = [node for node in nodes if node.options.dedup is None and not node.options.bounded]
    among = {node: [target for target in following[node] if target in unbounded] for node in unbounded}
    for cycle in cycles(among, among.__getitem__):
        problems.warn(
            "FQ305",
            f"cycle {' -> '.join(node.name for node in (*cycle, cycle[0]))} has no dedup; it may never drain",
            cycle[0].place,
            hint=f'@stage(dedup="...") on {cycle[0].name}, or bounded=True on a stage that ends it',
        )


def _warn_of_dropped_outputs(routes: dict[Node, tuple[Route, ...]], problems: Problems) -> None:
    for node, node_routes in routes.items():
        if any(not route.edges for route in node_routes):
            problems.warn(
                "FQ109",
                f"nothing accepts what {node.name} emits; it is dropped",
                node.place,
                f"{node.name} emits   {type_names(node.signature.emits)}",
                hint=f"add a stage that accepts it: {node.name} >> ...",
            )


def _warn_of_idle_targets(feeds: Iterable[Feed], carried: Collection[tuple[str, str]], problems: Problems) -> None:
    """In `a >> (b | c)` the types may all go to b: then c was probably meant to get copies."""
    origins: dict[Node, list[Node]] = {}
    for feed in feeds:
        for target in feed.targets:
            origins.setdefault(target, []).append(feed.origin)
    for target, feeding in origins.items():
        if not any((origin.name, target.name) in carried for origin in feeding):
            emits, accepts = f"{feeding[0].name} emits", f"{target.name} accepts"
            width = max(len(emits), len(accepts))
            problems.warn(
                "FQ109",
                f"{feeding[0].name} sends nothing to {target.name}: another stage of the same | gets every message",
                target.place,
                f"{emits:{width}}   {type_names(feeding[0].signature.emits)}",
                f"{accepts:{width}}   {type_names(target.signature.accepted)}",
                hint="a | b sends each message to one stage only; to send each stage a copy, write one flow for each",
            )
