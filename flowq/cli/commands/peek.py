"""`flowq peek`: shows messages without consuming them."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowq.cli.framework.completion import complete_pipeline_or_stage
from flowq.cli.framework.connect import plan_and_stage, with_broker_for_views
from flowq.cli.framework.error_screen import note
from flowq.cli.framework.parameters import Here, Json
from flowq.printable import json_text, printable

if TYPE_CHECKING:
    from flowq.broker.inspection.browse import Sight
    from flowq.broker.redis_streams import Broker
    from flowq.delivery.message import Delivery

_FOLLOW_EVERY_SECONDS, _MOST_AT_ONCE = 0.2, 1000
_LONGEST = 2000
_INDENT = 8  # below the time


def command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="NAME[.STAGE]", help="The stage, or all stages.", autocompletion=complete_pipeline_or_stage
        ),
    ],
    limit: Annotated[
        int, typer.Option("-n", "--limit", metavar="N", min=1, max=1000, help="At most N per state and edge.")
    ] = 5,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep showing new messages, until Ctrl-C.")] = False,
    json: Json = False,
    *,
    settings: Here,
) -> None:
    """Show messages without consuming them: the first ones that are running, waiting and delayed.

    The time shown is when a message was appended, when its worker received it, or when it is due. Below a message that
    has failed are its last failed attempts: their number, error and place. --json prints one object per line. --follow
    may miss a message that is settled within a fifth of a second.

    Example:
      flowq peek scrape.fetch
      flowq peek scrape.fetch -f --json | jq .message.url
    """
    plan, stage = plan_and_stage(target, settings)
    edges = [edge.name for edge in plan.edges if not stage or edge.target == stage]

    async def look(broker: Broker) -> None:
        n_seen = 0
        async for sights in _looks(broker, edges, limit, follow=follow):
            n_seen += len(sights)
            for sight in sights:
                attempts = plan.stage(plan.edge_by_name[sight.delivery.edge].target).retry.attempts
                values = await _as_json(broker, sight, attempts)
                for line in [json_text(values)] if json else _lines(sight, values, attempts):
                    print(line, flush=follow)
        if not n_seen:
            note(f"nothing is running, waiting or delayed in {target}")

    with_broker_for_views(plan, settings, look)


async def _looks(broker: Broker, edges: Sequence[str], limit: int, *, follow: bool) -> AsyncIterator[Sequence[Sight]]:
    from flowq.broker.inspection.browse import Browser
    from flowq.wording.shard_words import silent_words

    browser = Browser(broker)
    now_ms, sights = await browser.peek(edges, most=limit)
    for words in silent_words(browser.silent):
        note(f"{words}: messages there are missing")
    yield sights
    after = {(shard.shard, edge): f"{now_ms}-0" for shard in broker.shards for edge in edges}
    while follow:
        await asyncio.sleep(_FOLLOW_EVERY_SECONDS)
        _, sights = await browser.peek(edges, most=_MOST_AT_ONCE, after=after)
        for sight in sights:
            after[sight.shard, sight.delivery.edge] = sight.delivery.entry_id.decode()
        yield sights


async def _as_json(broker: Broker, sight: Sight, attempts: int) -> dict[str, Any]:
    from flowq.dead_letters.letter import iso
    from flowq.delivery.failed_attempts import failures_of

    delivery = sight.delivery
    failures = failures_of(delivery.header)
    return {
        "state": sight.state,
        "edge": delivery.edge,
        "id": delivery.message_id,
        "at": iso(datetime.fromtimestamp(sight.at_ms / 1000, UTC)),
        "attempt": delivery.header.attempt,
        "attempts": attempts,
        "error": failures[-1].error if failures else None,
        "place": failures[-1].place if failures else None,
        "worker": sight.worker or None,
        **await _body_as_json(broker, delivery),
    }


async def _body_as_json(broker: Broker, delivery: Delivery) -> dict[str, Any]:
    """The body wherever it lies, as its stage would get it; as it is stored where that is not possible."""
    from flowq.dead_letters.letter import body_as_json, elsewhere_as_json
    from flowq.errors import DecodeError
    from flowq.large_bodies.reference import is_claimed
    from flowq.large_bodies.store import content_of

    try:
        return body_as_json(await content_of(broker.claims, delivery.header, delivery.body))
    except DecodeError:
        stored = delivery.body
        return elsewhere_as_json(stored) if is_claimed(delivery.header_bytes) else body_as_json(stored)


def _lines(sight: Sight, values: dict[str, Any], attempts: int) -> Iterator[str]:
    """One message in one line, and below it why its last attempt failed, cropped to the width of a terminal."""
    from flowq.cli.views.retry_lines import failure_words
    from flowq.delivery.failed_attempts import failures_of

    at = datetime.fromtimestamp(sight.at_ms / 1000).astimezone().strftime("%H:%M:%S")
    body = next(values[name] for name in ("message", "body_base64", "body_in_claim_store") if name in values)
    text = f"{sight.state:<8}{at}  {values['edge']:<16}  {printable(values['id'])}  {json_text(body)}"
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else _LONGEST
    yield text if len(text) <= width else text[: width - 1] + "…"
    for last in failures_of(sight.delivery.header)[-1:]:
        yield " " * _INDENT + failure_words(last, attempts, width - _INDENT)
