"""A pipeline in one line: its state, what is left, and how long that will take."""

from __future__ import annotations

from flowq.broker.inspection.overview import Overview
from flowq.wording.quantities import counted, span_words


def state_word(overview: Overview) -> str:
    """What the pipeline is doing, in one or two words: `state`, and "reading" while a source is open."""
    return "reading" if overview.state == "working" and overview.open_sources else overview.state


def headline(overview: Overview) -> str:
    """What is left, and until when."""
    left = overview.snapshot.outstanding
    match overview.state:
        case "never run":
            return "It has never run"
        case "drained":
            return "Drained: nothing is left"
        case "paused":
            return f"{left:,} left, paused"
        case "stopped":
            return f"{left:,} left, no worker is running"
        case _:
            if (eta := overview.eta_seconds) is not None and left:
                return f"{left:,} left, about {span_words(eta)} to go"
            sources = len(overview.open_sources)
            return f"{left:,} left" + (f", {counted(sources, 'source')} still reading" if sources else "")
