"""`flowq doctor`: examines the Redis that flowq uses, what it may lose, and what should be changed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowq.cli.framework.completion import complete_pipeline
from flowq.cli.framework.connect import with_broker
from flowq.cli.framework.error_screen import show, shown
from flowq.cli.framework.loading import load, name_of
from flowq.cli.framework.parameters import Here, Json
from flowq.durations import duration_text
from flowq.errors import UsageError
from flowq.printable import json_text, printable
from flowq.wording.shard_words import server_words

if TYPE_CHECKING:
    from flowq.broker.inspection.health import Health
    from flowq.broker.inspection.merging.primaries import Primaries
    from flowq.broker.redis_streams import Broker
    from flowq.errors import Problem
    from flowq.graph.compilation.plan import Plan
    from flowq.settings import Settings

_ANY_PIPELINE = "doctor"


@dataclass(frozen=True, slots=True)
class _Report:
    """The findings about one Redis."""

    address: str
    health: Health
    latency_seconds: float
    forbidden: Sequence[str]
    keys_forbidden: bool
    losses: Mapping[str, str]
    findings: Sequence[Problem]
    by_hand: str = ""
    primaries: Primaries | None = None  # of a pipeline with several shards

    def as_json(self) -> dict[str, Any]:
        known: dict[str, Any] = {**asdict(self), "findings": list(self.findings)}
        primaries = known.pop("primaries")
        if primaries is None:
            return known
        by_shard = {name: {str(shard): n for shard, n in primaries[name].items()} for name in ("silent", "ok", "lost")}
        return known | {"primaries": primaries | by_shard}  # names in JSON are text


def command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A pipeline, to examine its node of a Cluster and the permissions on its keys.",
            autocompletion=complete_pipeline,
            show_default=False,
        ),
    ] = None,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep",
            help="Also read all that the stages of NAME have seen, and look for equal messages with two places.",
        ),
    ] = False,
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Examine the Redis that flowq uses.

    Shows its version, persistence, latency and permissions, and what would be lost if it were killed, lost power or
    failed over. It writes only a few keys, and removes them at once. The exit code is 1 if something should be changed.

    Example:
      flowq doctor
      flowq doctor scrape --redis redis://db.example.org:6379/0 --json
      flowq doctor scrape --deep
    """
    if name is not None:
        name = name_of(name, settings)
    if deep and name is None:
        raise UsageError("--deep is for one pipeline", hint="flowq doctor NAME --deep")
    plan = load(name, settings).pipeline.plan if deep and name is not None else None
    report = with_broker(name or _ANY_PIPELINE, settings, lambda broker: _examined(broker, name, settings, plan))
    if json:
        print(json_text(report.as_json(), indent=True))
    else:
        _show(report)
    if report.findings:
        raise typer.Exit(1)


async def _examined(broker: Broker, pipeline: str | None, settings: Settings, plan: Plan | None) -> _Report:
    from flowq.broker.inspection.diagnosis import findings, loss_windows, refuse_old, store_findings
    from flowq.broker.inspection.health import Forbidden, ServerHealth, acl_pattern
    from flowq.broker.inspection.merging.primaries import examine_primaries
    from flowq.broker.inspection.merging.primaries_diagnosis import primaries_findings
    from flowq.broker.inspection.merging.split_values import split_values, split_values_findings
    from flowq.broker.open import by_hand

    server = ServerHealth(broker)
    health = await server.examine()
    refuse_old(health, broker.dialer.address)
    latency = await server.latency_seconds()
    forbidden = await server.forbidden(on_silent=lambda _: None) if health.is_primary else Forbidden()
    keys = acl_pattern(broker) if pipeline else broker.keys.of_all_pipelines
    found = findings(health, settings.durability, latency_seconds=latency, forbidden=forbidden, keys=keys)
    if settings.claim_store is not None and broker.claims is not None:
        found = [*found, *await store_findings(broker.claims)]
    primaries = None
    if len(broker.shards) > 1:
        primaries = await examine_primaries(broker)
        found = [*found, *primaries_findings(primaries, is_on_trial=settings.is_embedded)]
    if plan is not None and len(broker.shards) > 1:
        in_force = replace(plan, shards=len(broker.shards))
        found = [*found, *split_values_findings(await split_values(broker, in_force))]
    losses = loss_windows(health, settings.durability)
    command = by_hand(shown(settings.data_folder)) if settings.is_embedded else ""
    address, denied = broker.dialer.address, forbidden
    return _Report(address, health, latency, denied.commands, denied.keys, losses, found, command, primaries)


def _show(report: _Report) -> None:
    typer.echo(typer.style(printable(report.address), bold=True))
    for title, text in _lines(report):
        typer.echo(f"  {typer.style(f'{title:<12}', dim=True)}{printable(text)}")
    sys.stdout.flush()  # the findings go to the other stream, and belong below
    for finding in report.findings:
        show(finding)


def _lines(report: _Report) -> Iterator[tuple[str, str]]:
    health = report.health
    yield "server", f"{health.product or 'unknown'}, {_topology(health)}"
    yield "log", _append_only(health)
    if health.append_only and health.loads_truncated_log:
        yield "", f"after a power loss, before it starts again: {_REPAIR}"
    yield "snapshots", "unknown" if health.snapshots is None else health.snapshots or "none"
    limit = f" of {_megabytes(health.memory_limit_bytes)}" if health.memory_limit_bytes else ", no limit"
    yield "memory", f"{_megabytes(health.memory_bytes)}{limit}, when full: {health.eviction or 'unknown'}"
    ahead = health.clock_ahead_seconds
    yield "clock", f"{duration_text(abs(ahead))} {'ahead' if ahead > 0 else 'behind'}"
    yield "latency", duration_text(report.latency_seconds)
    yield "permissions", _permissions(report)
    for primary in report.primaries.found if report.primaries is not None else ():
        replicas = f"{primary.health.replicas or 'no'} replica{'s' * (primary.health.replicas != 1)}"
        yield "shards", f"{', '.join(map(str, primary.shards))} on {server_words(primary.address)}, {replicas}"
    if report.by_hand:
        yield "by hand", report.by_hand
    for n, (fault, loss) in enumerate(report.losses.items()):
        yield "" if n else "may be lost", f"{fault}: {loss}"


# Redis loads a log that ends in the middle of a step, and does half of the step when it loads what was added since.
_REPAIR = "redis-check-aof --fix appendonlydir/appendonly.aof.manifest  (or CONFIG SET aof-load-truncated no)"


def _permissions(report: _Report) -> str:
    lacks = [*report.forbidden, *(["keys"] if report.keys_forbidden else [])]
    return f"not {', '.join(lacks)}" if lacks else "all that flowq needs"


def _topology(health: Health) -> str:
    kind = {"single": "a single server", "sentinel": "behind Sentinel", "cluster": "a node of a Cluster"}
    replicas = f"{health.replicas or 'no'} replica{'s' * (health.replicas != 1)}"
    return f"{kind[health.topology]}, {replicas if health.is_primary else 'a replica'}"


def _append_only(health: Health) -> str:
    if health.append_only is None:
        return "unknown"
    return f"append-only file, to disk: {health.fsync or 'unknown'}" if health.append_only else "none"


def _megabytes(n: int) -> str:
    return f"{n / 1_048_576:,.1f} MB"
