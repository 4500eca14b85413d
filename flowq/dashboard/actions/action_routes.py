"""The routes of all actions. They exist only where actions are allowed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from flowq.broker.audit import Audit, AuditRecord
from flowq.dashboard.access.forgery_check import forgery_in
from flowq.dashboard.actions.action import Action, Asked, DoesNotRead, NumberChanged, Scene
from flowq.dashboard.actions.pausing import Pause, PauseKey, Release, Resume
from flowq.dashboard.actions.refilling import Purge, Push
from flowq.dashboard.actions.repairing import EditAndRetry, Remove, Retry
from flowq.dashboard.live.site import site_of, watch_of
from flowq.errors import BrokerError, FlowqError, UsageError
from flowq.wording.shell_commands import shell_command

_ACTIONS: Mapping[str, type[Action]] = {
    "pause": Pause,
    "resume": Resume,
    "pause-key": PauseKey,
    "release": Release,
    "retry": Retry,
    "edit": EditAndRetry,
    "remove": Remove,
    "purge": Purge,
    "push": Push,
}
_MOST_REFUSED, _REFUSED_SECONDS = 20, 60.0


class _Actions:
    """Answers requests to act. Of refused ones, only some are recorded each minute: they would push out the others."""

    def __init__(self) -> None:
        self._refused_at: deque[float] = deque(maxlen=_MOST_REFUSED)

    async def answer(self, request: Request) -> Response:
        """Do an action or show what it would do, in JSON."""
        watch, kind = watch_of(request), _ACTIONS.get(request.path_params["action"])
        if kind is None:
            raise HTTPException(404)
        site = site_of(request)
        scene = Scene(watch, site.shown, site.settings)
        await watch.look()  # opens the connection
        if reason := forgery_in(request):
            await self._record_refused(scene, request, kind, reason)
            return _answer(403, error=f"refused: {reason}")
        body = await request.body()
        is_dry_run = Asked.read(body).dry_run
        try:
            action, about = await self._read(scene, request, kind, body, is_recorded=not is_dry_run)
            done = action.preview(scene) if is_dry_run else self._acted(scene, request, action, about)
            return _answer(200, **await done)
        except FlowqError as error:
            answer = _failed(error)
            if is_dry_run and isinstance(error, UsageError):  # the question was whether it can be done
                answer.status_code = 200
            return answer

    async def _read(
        self, scene: Scene, request: Request, kind: type[Action], body: bytes, *, is_recorded: bool
    ) -> tuple[Action, str]:
        """An action, and what it is about. One that is not valid is recorded, since nothing else will say so."""
        try:
            action = _action(kind, body)
            return action, shell_command(*action.words(scene))
        except UsageError as error:
            if is_recorded:
                await self._record_refused(scene, request, kind, error.message)
            raise

    async def _acted(self, scene: Scene, request: Request, action: Action, about: str) -> Mapping[str, Any]:
        async with Audit(scene.watch.broker).of(_actor(request), action.name, about) as act:
            said = await action.perform(scene, act)
        await scene.watch.look_again()
        next_page = f"{request.scope.get('root_path', '')}/p/{scene.name}/{action.page}"
        return {"said": said, "next": next_page if action.page else ""}

    async def _record_refused(self, scene: Scene, request: Request, kind: type[Action], reason: str) -> None:
        now = asyncio.get_running_loop().time()
        is_full = len(self._refused_at) == _MOST_REFUSED
        if is_full and now - self._refused_at[0] < _REFUSED_SECONDS:
            return
        self._refused_at.append(now)
        record = AuditRecord(0, _actor(request), kind.name, "", 0, f"refused: {reason}")
        with suppress(BrokerError):  # without Redis there is nothing to protect either
            await Audit(scene.watch.broker).record(record)


def routes() -> list[BaseRoute]:
    """The routes of one application."""
    return [Route("/p/{name}/do/{action}", _Actions().answer, methods=["POST"])]


def _actor(request: Request) -> str:
    address = request.client.host if request.client else "unknown"
    return f"{request.state.actor}@{address} (web)"


def _action(kind: type[Action], body: bytes) -> Action:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        findings = error.errors(include_url=False, include_input=False, include_context=False)
        errors = [(".".join(map(str, each["loc"])), each["msg"]) for each in findings]
        raise DoesNotRead("the request is not valid", errors) from None


def _failed(error: FlowqError) -> Response:
    match error:
        case NumberChanged():
            return _answer(409, error=error.message, n=f"{error.n:,}", expected=error.n)
        case DoesNotRead():
            errors = [{"path": path, "message": message} for path, message in error.errors]
            return _answer(422, error=error.message, errors=errors)
        case BrokerError():
            return _answer(503, error=f"{error.code} {error.message}")
        case _:
            text = f"{error.message}: {error.hint}" if error.hint else error.message
            return _answer(422, error=text)


def _answer(status: int, **values: Any) -> Response:
    return JSONResponse(values, status)
