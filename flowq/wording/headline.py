"""A pipeline in one line: its state, what is left, and how long that will take."""

from __future__ import annotations

from flowq.broker.inspection.overview import Overview
from flowq.wording.quantities import span_words


def state_word(overview: Overview) -> str:
    """What the pipeline is doing, in one or two words: `state`, or "reading" while a source is open."""
    return "reading" if overview.state == "working" and overview.open_sources else overview.state


def left_words(overview: Overview) -> str:
    """What is left, and how long it takes at the present speed; "" if nothing is."""
    left, eta = overview.snapshot.outstanding, overview.eta_seconds
    if not left:
        return ""
    return f"{left:,} left" + (f", about {span_words(eta)} to go" if eta is not None else "")


def headline(overview: Overview) -> str:
    """What is left, or why nothing is."""
    if words := left_words(overview):
        return words
    match overview.state:
        case "never run":
            return "It has never run"
        case "drained":
            return "Nothing is left: everything is done"
        case _:
            return "Nothing is left at the moment"
