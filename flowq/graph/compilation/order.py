"""The order of a graph: which edges close a cycle, and which stage comes first."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

N = TypeVar("N", bound=Hashable)

Successors = Callable[[N], Sequence[N]]


def cycles(nodes: Iterable[N], successors: Successors[N]) -> list[tuple[N, ...]]:
    """One cycle for each edge that closes one, in a depth-first walk; the last node leads back to the first.

    >>> cycles("ab", {"a": "b", "b": "a"}.__getitem__)
    [('a', 'b')]
    """
    found: list[tuple[N, ...]] = []
    done: set[N] = set()
    for root in nodes:
        if root in done:
            continue
        path: dict[N, Iterator[N]] = {root: iter(successors(root))}
        while path:
            node = next(reversed(path))
            for child in path[node]:
                if child in path:
                    on_path = list(path)
                    found.append(tuple(on_path[on_path.index(child) :]))
                elif child not in done:
                    path[child] = iter(successors(child))
                    break
            else:
                del path[node]
                done.add(node)
    return found


def topological(nodes: Sequence[N], successors: Successors[N]) -> list[N]:
    """The nodes of a graph without cycles, each before its successors, otherwise depth first as written.

    >>> topological("dabc", {"a": "bd", "b": "c", "c": "", "d": ""}.__getitem__)
    ['a', 'b', 'c', 'd']
    """
    finished: dict[N, None] = {}
    # A node finishes after all its successors. Walking backwards makes the reversed list read as it was written.
    fed = {child for node in nodes for child in successors(node)}
    for root in reversed([node for node in nodes if node not in fed]):
        stack = [(root, False)]
        while stack:
            node, is_left = stack.pop()
            if is_left:
                finished.setdefault(node)
            elif node not in finished:
                stack.append((node, True))
                stack += [(child, False) for child in successors(node)]
    return list(reversed(finished))
