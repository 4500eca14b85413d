"""The texts of a look, by the name of their place on the page: all numbers are formatted here, and nowhere else.

`p.*` are of the pipeline, `s.STAGE.*` of a stage and `e.EDGE.*` of an edge. Whatever is unknown is "–", never 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from flowq.broker.inspection.overview import Overview
from flowq.broker.inspection.pacing_keys import HeldKey
from flowq.dashboard.live.edge_slots import edge_slots
from flowq.dashboard.live.look import Look
from flowq.dashboard.live.shapes import HOUR_HEIGHT, HOUR_WIDTH, area, is_large, trend
from flowq.dashboard.live.shard_rows import shard_row
from flowq.dashboard.live.stage_slots import stage_slots, sum_words
from flowq.graph.render.labels import drawn_edges
from flowq.printable import printable
from flowq.wording.attention import NO_STAGE, Attention, attention
from flowq.wording.cause_words import hold_words
from flowq.wording.headline import headline, state_word
from flowq.wording.quantities import counted, span_words
from flowq.wording.shard_words import number_words, transit_words

TERMS = ("ok", "filtered", "dead", "purged", "waiting", "delayed", "running")
"""What can become of a message that came in."""

STACK_WIDTH, HOUR_TICKS = 1000, 4
_NEVER = "idle"
_MOST_HELD = 50
_HOUR_STEP_SECONDS, _MOST_POINTS, _SHORT_GAP = 5, 60, 2


def slots(look: Look) -> dict[str, str]:
    """The text of each place."""
    overview, is_small = look.overview, is_large(look.overview.plan)
    neck = overview.bottleneck
    texts = {f"p.{name}": text for name, text in _of_pipeline(overview)}
    for stage in overview.plan.stages:
        rates = look.rates.get(stage.name, ())
        prefix = f"s.{stage.name}."
        for name, text in stage_slots(overview, stage, neck, rates, is_small=is_small).items():
            texts[prefix + name] = text
    for edge in drawn_edges(overview.plan):
        prefix = f"e.{edge.name}."
        for name, text in edge_slots(overview, edge, is_small=is_small).items():
            texts[prefix + name] = text
    return texts | {f"p.hour.{name}": text for name, text in _hour(look.left)}


def rows(look: Look) -> dict[str, list[dict[str, str]]]:
    """Lists on the page whose length changes: `attention`, and `held.STAGE` with the keys on hold of a paced stage.

    Of a pipeline with several shards also `shards`.

    An `href` begins after what the page is mounted under.
    """
    overview = look.overview
    lists = {"attention": [_attention(overview.plan.name, line) for line in attention(overview)]}
    if overview.shards is not None:
        lists["shards"] = [shard_row(each, overview.shards) for each in overview.shards.each()]
    lists |= {f"held.{stage.name}": [] for stage in overview.plan.consumers if stage.rate is not None}
    for held in overview.held:
        if len(of_stage := lists[f"held.{held.stage}"]) < _MOST_HELD:
            of_stage.append(_held(held))
    return lists


def _held(held: HeldKey) -> dict[str, str]:
    return {
        "key": printable(held.key) or "the whole stage",
        "text": hold_words(held),
    }


def _attention(pipeline: str, line: Attention) -> dict[str, str]:
    path = (
        "" if line.title in NO_STAGE else "/dead" if line.state == "dead" else f"/s/{line.stage}" if line.stage else ""
    )
    icon = f"#i-{'neck' if line.state == 'busy' else line.state}"
    return {"state": line.state, "icon": icon, "title": line.title, "text": line.text, "href": f"/p/{pipeline}{path}"}


def _hour(left: Sequence[float | None]) -> Iterator[tuple[str, str]]:
    """What was left in the last hour, from the first moment that is known: the ground of the slider."""
    known = next((number for number, n in enumerate(left) if n is not None), len(left))
    shown = _bridged(left[known:])
    seconds = _HOUR_STEP_SECONDS * max(0, len(shown) - 1)
    line = trend(_fewer(shown), HOUR_HEIGHT, HOUR_WIDTH) if seconds else ""
    yield "line", line
    yield "area", area(line, HOUR_HEIGHT)
    yield "min", str(-seconds)
    yield "what", f"messages left, last {span_words(seconds)}" if seconds else "messages left; no history yet"
    for number in range(HOUR_TICKS):
        ago = span_words(seconds * (HOUR_TICKS - number) / HOUR_TICKS)
        yield f"ago{number}", f"{ago} ago" if seconds else ""


def _bridged(values: Sequence[float | None]) -> list[float | None]:
    """The same with short gaps closed: a look that came a little late leaves out a step."""
    closed: list[float | None] = []
    missing = 0
    for value in values:
        missing = missing + 1 if value is None else 0
        closed.append(closed[-1] if closed and 0 < missing <= _SHORT_GAP else value)
    return closed


def _fewer(values: Sequence[float | None]) -> list[float | None]:
    """Means of as many values each as it takes to have at most `_MOST_POINTS`."""
    each = -(-len(values) // _MOST_POINTS)
    groups = [[n for n in values[at : at + each] if n is not None] for at in range(0, len(values), each)]
    return [fmean(group) if group else None for group in groups]


def _of_pipeline(overview: Overview) -> Iterator[tuple[str, str]]:
    balances = [overview.stages[stage.name].balance for stage in overview.plan.consumers]
    sums = {term: sum(getattr(balance, term) for balance in balances) for term in TERMS}
    dead = sum(stage.dead_letters for stage in overview.stages.values())
    run = overview.snapshot.run.get("id", "")
    yield "state", state_word(overview)
    yield "state.kind", _NEVER if overview.state == "never run" else overview.state
    yield "left", headline(overview)
    if overview.shards:
        yield "shards", f"{number_words(overview.shards)}, {transit_words(overview.shards)}"
    yield "crew", counted(len(overview.workers), "worker") if overview.workers else "no worker"
    yield "run", f"run {run}" if run else "no run yet"
    yield "workers", f"{len(overview.workers):,}"
    yield "dead_letters", f"{dead:,}"
    yield "mortal", "yes" if dead else "no"
    yield "sum", sum_words(*balances)
    yield "sum.state", "ok" if all(balance.adds_up for balance in balances) else "dead"
    yield "sum.icon", "#i-ok" if all(balance.adds_up for balance in balances) else "#i-alone"
    yield "purged.level", "some" if sums["purged"] else "none"
    yield from _stack(sum(balance.entered for balance in balances), sums)


def _stack(entered: int, sums: dict[str, int]) -> Iterator[tuple[str, str]]:
    """The terms of the sum as numbers, and as parts of a bar."""
    yield "in", f"{entered:,}"
    whole, left = max(1, sum(sums.values())), 0.0
    for term, n in sums.items():
        yield term, f"{n:,}"
        start, left = round(left), left + n / whole * STACK_WIDTH
        yield f"bar.{term}.x", str(start)
        yield f"bar.{term}.w", str(round(left) - start)
