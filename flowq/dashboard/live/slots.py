"""The texts of a look, by the name of their place on the page."""

from __future__ import annotations

from typing import Any

from flowq.dashboard.live.look import Look


def slots(look: Look) -> dict[str, str]:
    """The text of each place."""
    snapshot = look.overview.snapshot
    texts = {"p.state": look.overview.state, "p.left": f"{snapshot.outstanding:,} left"}
    for name, stage in look.overview.stages.items():
        texts[f"s.{name}.waiting"] = f"{stage.balance.waiting:,}"
        texts[f"s.{name}.ok"] = f"{stage.balance.ok:,}"
    return texts


def rows(look: Look) -> dict[str, list[dict[str, str]]]:
    """Lists on the page whose length changes."""
    del look
    rows: dict[str, Any] = {"attention": []}
    return rows
