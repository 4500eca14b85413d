"""`/p/NAME/dead`: dead letters by kind; `/dead/KIND`: the first of a kind; `/dead/KIND/ID`: one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from flowq.broker.audit import Audit
from flowq.dashboard.access.shown_fields import ShownFields
from flowq.dashboard.live.site import site_of, watch_of
from flowq.dashboard.live.watch import Watch
from flowq.dashboard.pages.kinds_view import MOST_KINDS, done_here, kind_rows, nothing_of, summary_of
from flowq.dashboard.pages.letter_filters import PERIODS, LetterFilters
from flowq.dashboard.pages.letter_searches import LetterSearches, searched_words
from flowq.dashboard.pages.letter_view import letter_view, log_address, whole_message
from flowq.dashboard.pages.rendering import render
from flowq.dead_letters.letter import DeadLetterRecord
from flowq.dead_letters.letter_index import DeadLetterIndex
from flowq.dead_letters.letter_kinds import LetterKinds
from flowq.dead_letters.letter_search import LetterSearch
from flowq.dead_letters.letters_of_shards import stored_letters
from flowq.dead_letters.selection import Selection
from flowq.delivery.letter_ids import is_letter_id
from flowq.errors import FlowqError, NotFound
from flowq.graph.compilation.plan import Plan, type_name
from flowq.graph.compilation.typecheck import type_names
from flowq.printable import json_text
from flowq.wording.shell_commands import shell_command

_AUDIT_RECORDS = 50
MOST_EDITABLE_BYTES = 64_000


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request is about."""

    watch: Watch
    index: DeadLetterIndex
    shown: ShownFields
    filters: LetterFilters
    selection: Selection | None
    trouble: FlowqError | None  # why there is no selection
    search: LetterSearch | None  # where messages are searched
    kind: str
    letter_id: str
    stage: str  # of the letter, where its kind is in several

    @classmethod
    async def by(cls, request: Request) -> _Asked:
        watch, parts = watch_of(request), request.path_params
        await watch.look()  # opens the connection
        filters, shown = LetterFilters.in_query(request.query_params), site_of(request).shown
        selection, trouble = _selection(filters, watch.plan, shown)
        search = None
        if selection and selection.where:
            search = await _SEARCHES.find(watch, filters, selection, goes_on="kind" not in parts)
        return cls(
            watch=watch,
            index=await watch.letters.index(),
            shown=shown,
            filters=filters,
            selection=selection,
            trouble=trouble,
            search=search,
            kind=parts.get("kind", ""),
            letter_id=parts.get("id", ""),
            stage=request.query_params.get("in", ""),
        )

    @property
    def known(self) -> LetterKinds:
        """The letters that may be listed."""
        return self.search.matching() if self.search else self.index

    def stages(self) -> list[str]:
        """Where the letter may be, the likeliest first."""
        known = [stage.name for stage in self.watch.plan.consumers]
        if self.stage:
            return [stage for stage in known if stage == self.stage]
        likely = [stage for stage in known if self.known.around(self.kind, self.letter_id, stage=stage)]
        return likely or known


async def _list(request: Request) -> Response:
    return await _page(request, await _Asked.by(request), None)


async def _kind(request: Request) -> Response:
    asked = await _Asked.by(request)
    refs = asked.known.letters(asked.kind, stage=asked.stage or None, error=asked.filters.error or None, limit=1)
    letter = await _letter(asked.watch, [refs[0].stage], refs[0].id) if refs else None
    return await _page(request, asked, letter)


async def _one(request: Request) -> Response:
    asked = await _Asked.by(request)
    return await _page(request, asked, await _letter(asked.watch, asked.stages(), asked.letter_id))


async def _message(request: Request) -> Response:
    """The whole message as a file: a browser saves it, and never shows it as a page."""
    asked = await _Asked.by(request)
    letter = await _letter(asked.watch, asked.stages(), asked.letter_id)
    text = whole_message(letter, asked.shown) if letter else ""
    if not letter or not text:
        raise NotFound("there is no message to show")
    headers = {"content-disposition": f'attachment; filename="message-{letter.id}.txt"'}
    return PlainTextResponse(text.encode(errors="backslashreplace"), headers=headers)


async def _letter(watch: Watch, stages: Sequence[str], letter_id: str) -> DeadLetterRecord | None:
    if is_letter_id(letter_id):
        for stage in stages:
            for entry in await stored_letters(watch.broker, stage).named([letter_id]):
                return DeadLetterRecord.read(stage, entry)
    return None


async def _page(request: Request, asked: _Asked, letter: DeadLetterRecord | None) -> Response:
    look, now = await asked.watch.look(), datetime.now().astimezone()
    selection, trouble, search = asked.selection, asked.trouble, asked.search
    kinds = asked.known.kinds(stage=selection.stage, error=selection.error, since=selection.since) if selection else []
    at_ms = max(look.at_ms if look else 0, asked.index.as_of_ms)
    missing = "" if letter or not asked.kind else "This letter is gone: it was put back or removed."
    return render(
        request,
        "dead.html",
        watch=asked.watch,
        look=look,
        tab="dead",
        status_code=404 if missing else 400 if trouble else 200,
        at="",
        filters=asked.filters,
        stages=[stage.name for stage in asked.watch.plan.consumers],
        periods=[*PERIODS, *([since] if (since := asked.filters.since) and since not in PERIODS else [])],
        kinds=kind_rows(kinds, asked.filters, letter, now),
        more_kinds=f"and {len(kinds) - MOST_KINDS:,} more kinds" if len(kinds) > MOST_KINDS else "",
        summary=summary_of(kinds, asked.index, at_ms),
        nothing=nothing_of(asked.filters, asked.index),
        searched=searched_words(search) if search else "",
        go_on=asked.filters.query() if search and not search.is_complete else "",
        trouble_text=trouble.message if trouble else "",
        trouble_hint=trouble.hint if trouble else "",
        export_command=asked.filters.command("export", asked.watch.plan.name),
        done_here=done_here(await Audit(asked.watch.broker).latest(_AUDIT_RECORDS), asked.shown, now),
        missing=missing,
        **(_letter_values(asked, letter, now) if letter else {"letter": None}),
        log=log_address(site_of(request).options.log_url, asked.watch.plan.name, letter) if letter else "",
    )


def _selection(filters: LetterFilters, plan: Plan, shown: ShownFields) -> tuple[Selection | None, FlowqError | None]:
    try:
        return filters.selection(plan, datetime.now(UTC), shown), None
    except FlowqError as error:
        return None, error


def _letter_values(asked: _Asked, letter: DeadLetterRecord, now: datetime) -> dict[str, Any]:
    error = asked.filters.error or None
    around = asked.known.around(letter.fingerprint, letter.id, stage=asked.stage or None, error=error)
    before, after = (around.previous, around.following) if around else (None, None)
    return {
        "letter": letter,
        "view": letter_view(letter, type_name(asked.watch.plan.stage(letter.stage).accepts), asked.shown, now),
        "query": asked.filters.query(asked.stage),
        "position": f"{around.position:,} of {around.count:,} of this kind" if around else "",
        "before": before.id if before else "",
        "after": after.id if after else "",
        "lineage": _lineage(letter),
        "accepts": type_names(asked.watch.plan.stage(letter.stage).accepted),
        "message_text": _editable(letter, asked.shown),
        "retry_command": shell_command("flowq", "dlq", "retry", asked.watch.plan.name, letter.id, "--edit"),
    }


def _editable(letter: DeadLetterRecord, shown: ShownFields) -> str:
    """The message as one text to edit; "" if it is not shown, no JSON, elsewhere, or too large for a page."""
    if letter.is_elsewhere or letter.message is None or shown.nothing or len(letter.body) > MOST_EDITABLE_BYTES:
        return ""
    return json_text(shown.of(letter.message), indent=True)


def _lineage(letter: DeadLetterRecord) -> list[dict[str, Any]]:
    """The message that entered the pipeline, the one whose handler emitted this one, and this one."""
    own = {"id": letter.message_id, "text": f"died in {letter.stage}", "is_here": True}
    if not letter.parent_id:
        return [{**own, "text": f"root, died in {letter.stage}"}]
    is_child = letter.parent_id == letter.root_id
    root = {"id": letter.root_id, "text": "root, its parent" if is_child else "root", "is_here": False}
    parent = {"id": letter.parent_id, "text": "its parent", "is_here": False}
    return [root, own] if is_child else [root, parent, own]


_SEARCHES = LetterSearches()

routes = [
    Route("/p/{name}/dead", _list),
    Route("/p/{name}/dead/{kind}", _kind),
    Route("/p/{name}/dead/{kind}/{id}", _one),
    Route("/p/{name}/dead/{kind}/{id}/message", _message),
]
