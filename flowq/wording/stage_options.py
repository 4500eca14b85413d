"""The options that a stage has in effect, in words, and where each was set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flowq.delivery.policy import AckMode
from flowq.graph.compilation.plan import EdgePlan, Plan, StagePlan
from flowq.graph.render.labels import key_name
from flowq.settings import Settings


@dataclass(frozen=True, slots=True)
class StageOption:
    """One option. `name` is its name in [tool.flowq], `value` "" if it was switched off, `origin` where it was set."""

    name: str
    value: str
    origin: str


def options_of(plan: Plan, stage: StagePlan, settings: Settings, *, here: str = "@stage") -> Iterator[StageOption]:
    """The options of a stage that accepts messages. `here`: what to call the place where it is declared."""
    built_in = {**dict(_options(StagePlan(stage.name, stage.kind, stage.handler))), **_limits(EdgePlan("", "", ""))}
    set_for_it = settings.of_stages(plan.name, plan).get(stage.name, {})
    edges = plan.edges_into(stage.name)
    for option, value in {**dict(_options(stage)), **_limits(edges[-1])}.items():
        in_code = "built-in" if built_in.get(option) == value else here
        if value or option in set_for_it:
            yield StageOption(option, value, set_for_it[option].origin if option in set_for_it else in_code)


def _options(stage: StagePlan) -> Iterator[tuple[str, str]]:
    """The options of a stage, named as they are set; "" for one that it does not have."""
    retry, rate, batch, keep = stage.retry, stage.rate, stage.batch, stage.keep
    yield "concurrency", str(stage.concurrency)
    yield "timeout", f"{stage.timeout_seconds:g}s" if stage.timeout_seconds else ""
    yield "retry.attempts", str(retry.attempts)
    yield "retry.base", f"{retry.backoff.base_seconds:g}s"
    yield "retry.max", f"{retry.backoff.max_seconds:g}s"
    yield "retry.jitter", "" if retry.backoff.full_jitter else "false"
    if rate:
        yield "rate.n", f"{rate.n:g}"
        yield "rate.per", f"{rate.per:g}s"
        yield "rate.by", key_name(rate.by) if rate.by else ""
        yield "rate.burst", str(rate.burst) if rate.burst > 1 else ""
        yield "rate.concurrency", str(rate.concurrency or "")
        yield "rate.adaptive", "true" if rate.adaptive else ""
        for key, own in rate.keys.items():
            yield f"rate {key}", f"{own.n:g} per {own.per:g}s"
    if batch:
        yield "batch", str(batch.size)
        yield "linger", f"{batch.linger_seconds:g}s"
        yield "batch_bytes", f"{batch.max_bytes:,}" if batch.max_bytes else ""
    yield "dedup", key_name(stage.dedup.by) if stage.dedup else ""
    yield "ack", stage.ack if stage.ack is not AckMode.AFTER else ""
    yield "max_bytes", f"{stage.max_bytes:,}"
    yield "compress", f"above {stage.compress_above:,} bytes" if stage.compress_above else ""
    yield "claim_above", f"{stage.claim_above:,}" if stage.claim_above else ""
    yield "keep", (f"{keep.milliseconds / 1000:g}s" if keep.milliseconds else f"{keep.count:,}") if keep else ""


def _limits(edge: EdgePlan) -> dict[str, str]:
    """What an edge into a stage holds at most: one option of the stage sets it for all of them."""
    limits = {"maxsize": edge.maxsize, "maxsize_bytes": edge.maxsize_bytes}
    return {option: f"{n:,}" if n else "" for option, n in limits.items()}
