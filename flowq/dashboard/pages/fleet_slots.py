"""The texts of one line of the list of all pipelines, and which line comes first."""

from __future__ import annotations

from collections import Counter
from itertools import zip_longest

from flowq.dashboard.live.look import Look
from flowq.dashboard.live.shapes import SPARKS, area, trend
from flowq.wording.attention import attention
from flowq.wording.cause_words import STATES, cause_word
from flowq.wording.headline import state_word
from flowq.wording.quantities import rate_words, span_words

PACE_WIDTH, PACE_HEIGHT = 120, 24
_WORST_FIRST = ("alone", "busy", "blocked", "held", "dead", "paced", "paused", "ok", "idle", "done")
_OF_STATE = {"paused": "paused", "stopped": "alone", "drained": "done", "never run": "idle"}
_AT_REST = {"paused": "paused by hand", "drained": "nothing is left", "never run": "never run"}


def fleet_slots(look: Look) -> dict[str, str]:
    """The texts of a pipeline, as `i.NAME.left`; `i.NAME.t.STAGE` is the state of a stage in the small picture."""
    overview, at = look.overview, f"i.{look.overview.plan.name}"
    state, cause = _cause(look)
    sound = all(stage.balance.adds_up for stage in overview.stages.values())
    spark = trend(_total_rates(look), PACE_HEIGHT, PACE_WIDTH)
    dead = sum(stage.dead_letters for stage in overview.stages.values())
    texts = {
        "state": state_word(overview),
        "state.kind": _OF_STATE.get(overview.state, "ok"),
        "cause": cause,
        "cause.state": state,
        "cause.icon": f"#i-{state}",
        "picture": _in_words(look),
        "rate": rate_words(sum(stage.throughput.per_second or 0.0 for stage in overview.stages.values())),
        "spark": spark,
        "area": area(spark, PACE_HEIGHT),
        "left": f"{overview.snapshot.outstanding:,}",
        "to_go": "–" if (eta := overview.eta_seconds) is None else span_words(eta),
        "dead": f"{dead:,}",
        "mortal": "yes" if dead else "no",
        "workers": f"{len(overview.workers):,}",
        "sum": "adds up" if sound else "off",
        "sum.state": "ok" if sound else "dead",
        "sum.icon": "#i-ok" if sound else "#i-dead",
    }
    texts |= {f"t.{stage}": STATES[of.kind] for stage, of in overview.causes.items()}
    texts |= {f"n.{stage}": "yes" if stage == overview.bottleneck else "no" for stage in overview.stages}
    return {f"{at}.{name}": text for name, text in texts.items()}


def severity(look: Look | None) -> tuple[int, int]:
    """The order of the list: pipelines that need attention first, then those with more left."""
    if look is None or look.trouble is not None:
        return -1, 0
    state, _ = _cause(look)
    rank = _WORST_FIRST.index(state) if state in _WORST_FIRST else len(_WORST_FIRST)
    return rank, -look.overview.snapshot.outstanding


def _cause(look: Look) -> tuple[str, str]:
    """The worst that can be said of a pipeline: its state and a few words."""
    overview = look.overview
    if overview.state in _AT_REST and not (overview.state == "drained" and attention(overview)):
        return _OF_STATE[overview.state], _AT_REST[overview.state]
    if lines := attention(overview):
        return lines[0].state, f"{lines[0].title} {lines[0].text}"
    return "ok", "every stage keeps up"


def _total_rates(look: Look) -> list[float | None]:
    """Of all stages together, for the last 15 minutes; None where nothing is known."""
    moments = [[rate for rate in moment if rate is not None] for moment in zip_longest(*look.rates.values())]
    return [*[None] * (SPARKS - len(moments)), *(sum(rates) if rates else None for rates in moments[-SPARKS:])]


def _in_words(look: Look) -> str:
    """The small picture in words, for screen readers."""
    causes = Counter(cause_word(cause) for cause in look.overview.causes.values())
    return f"{len(look.overview.stages)} stages: {', '.join(f'{n} {word}' for word, n in causes.items())}"
