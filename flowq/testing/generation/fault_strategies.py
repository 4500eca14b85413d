"""Makes up faults: of which kind, at which stage and point, and at which occurrence from now on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, get_args

from hypothesis import strategies as st

from flowq.testing.faults import (
    Crash,
    Disconnect,
    Duplicate,
    Fault,
    LostReply,
    Point,
    PoisonBody,
    Refuse,
    RefusedWith,
    Reorder,
    Restart,
    Slow,
    Stall,
)

_NTH = st.sampled_from((1, 1, 1, 2, 3))
_SECONDS = st.sampled_from((1, 20, 60))  # some are longer than a lease of 15 seconds
_POINTS = st.sampled_from(get_args(Point))
_CALLS = st.sampled_from(("settle", "publish", "promote", "reclaim", "renew", "reserve"))


def faults_at(stages: Sequence[str], kinds: Collection[type[Fault]]) -> st.SearchStrategy[Fault]:
    """Faults of these kinds. Simple ones are simple to shrink: all are data, and none is drawn by chance."""
    stage = st.sampled_from(stages)
    chosen = sorted(kinds, key=lambda kind: kind.__name__)
    return st.one_of([_MAKERS[kind](stage) for kind in chosen])


_MAKERS: Mapping[type[Fault], Callable[[st.SearchStrategy[str]], st.SearchStrategy[Any]]] = {
    Crash: lambda stage: (
        st.builds(Crash, stage, after=_POINTS, nth=_NTH) | st.builds(Crash, stage, before=_POINTS, nth=_NTH)
    ),
    Disconnect: lambda stage: st.builds(Disconnect, nth=_NTH),
    Duplicate: lambda stage: st.builds(Duplicate, _CALLS, nth=_NTH),
    LostReply: lambda stage: st.builds(LostReply, _CALLS, nth=_NTH),
    PoisonBody: lambda stage: st.builds(PoisonBody, stage, nth=_NTH),
    Refuse: lambda stage: st.builds(Refuse, st.sampled_from(get_args(RefusedWith)), seconds=_SECONDS, nth=_NTH),
    Reorder: lambda stage: st.builds(Reorder, nth=_NTH),
    Restart: lambda stage: st.builds(Restart, nth=_NTH),
    Slow: lambda stage: st.builds(Slow, stage, _SECONDS, nth=_NTH),
    Stall: lambda stage: st.builds(Stall, _SECONDS, nth=_NTH),
}
