"""The synthetic site is the same everywhere, and worth a crawl."""

from __future__ import annotations

import networkx as nx

from tests.cluster.site import Site


def test_the_oracle_finds_what_another_search_finds() -> None:
    site = Site(3000)
    graph: nx.DiGraph[int] = nx.DiGraph((page, link) for page in range(site.pages) for link in site.links(page))
    graph.add_nodes_from(site.seeds)

    assert site.reachable == set(site.seeds).union(*(nx.descendants(graph, seed) for seed in site.seeds))


def test_a_part_of_the_pages_cannot_be_reached_and_many_links_repeat() -> None:
    site = Site(3000)

    assert 0.5 * site.pages < len(site.reachable) < 0.95 * site.pages
    assert site.repeated > len(site.reachable) / 2


def test_the_seed_decides() -> None:
    assert Site(500).reachable == Site(500).reachable
    assert Site(500).reachable != Site(500, seed=2).reachable
