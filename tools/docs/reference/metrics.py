"""The page on metrics, from the families that are served."""

from __future__ import annotations

from flowq.monitoring.exposition import families

_OF_A_SUMMARY = ("pipeline", "stage", "quantile")


def metrics() -> str:
    """The page."""
    lines = [
        "# Metrics",
        "",
        "What `flowq exporter` and `flowq run --metrics` serve to Prometheus. [Metrics, health, traces and",
        "logs](../observability.md) says how to use them, and which to alert on.",
        "",
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for family in sorted(families([]), key=lambda family: family.name):
        labels = ", ".join(f"`{label}`" for label in vars(family).get("_labelnames", _OF_A_SUMMARY))
        name = f"{family.name}_total" if family.type == "counter" else family.name
        lines.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(lines) + "\n"
