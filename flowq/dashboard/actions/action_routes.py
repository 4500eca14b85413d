"""The routes of all actions. They exist only where actions are allowed."""

from __future__ import annotations

from starlette.routing import BaseRoute

routes: list[BaseRoute] = []
