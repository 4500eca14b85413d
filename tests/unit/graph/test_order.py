"""Order of a graph, with networkx as the oracle."""

from __future__ import annotations

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from flowq.graph.compilation.order import cycles, topological

Graph = dict[int, list[int]]

NODES = range(8)
graphs = st.fixed_dictionaries({node: st.lists(st.sampled_from(NODES), unique=True, max_size=4) for node in NODES})


def feedback_of(graph: Graph) -> set[tuple[int, int]]:
    return {(cycle[-1], cycle[0]) for cycle in cycles(graph, graph.__getitem__)}


def without(graph: Graph, edges: set[tuple[int, int]]) -> Graph:
    return {node: [child for child in children if (node, child) not in edges] for node, children in graph.items()}


@given(graphs)
def test_without_its_feedback_edges_a_graph_has_no_cycle(graph: Graph) -> None:
    forward = without(graph, feedback_of(graph))
    assert nx.is_directed_acyclic_graph(nx.DiGraph(forward))


@given(graphs)
def test_each_feedback_edge_closes_the_cycle_it_is_found_with(graph: Graph) -> None:
    edges = set(nx.DiGraph(graph).edges)
    for cycle in cycles(graph, graph.__getitem__):
        assert set(zip(cycle, (*cycle[1:], cycle[0]), strict=True)) <= edges
        assert len(set(cycle)) == len(cycle)


@given(graphs)
def test_a_graph_without_cycles_has_no_feedback_edge(graph: Graph) -> None:
    assert (feedback_of(graph) == set()) == nx.is_directed_acyclic_graph(nx.DiGraph(graph))


@given(graphs)
def test_every_node_stands_before_its_successors(graph: Graph) -> None:
    forward = without(graph, feedback_of(graph))
    ordered = topological(list(forward), forward.__getitem__)
    assert sorted(ordered) == list(NODES)
    assert all(ordered.index(node) < ordered.index(child) for node in forward for child in forward[node])


def test_a_branch_is_followed_to_its_end_before_the_next_begins() -> None:
    graph = {"a": ["b", "d"], "b": ["c"], "c": [], "d": []}
    assert topological(["d", "a", "b", "c"], graph.__getitem__) == ["a", "b", "c", "d"]


def test_a_chain_longer_than_the_recursion_limit_is_ordered() -> None:
    chain = {node: [node + 1] if node < 5000 else [0] for node in range(5001)}
    assert [len(cycle) for cycle in cycles(chain, chain.__getitem__)] == [5001]
