"""What all pages share: the pipelines, each with its watch, and what may be shown and done."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from starlette.exceptions import HTTPException
from starlette.requests import Request

from flowq.broker.open import open_broker
from flowq.dashboard.access.shown_fields import ShownFields
from flowq.dashboard.live.watch import Watch
from flowq.errors import NotFound, did_you_mean
from flowq.graph.compilation.plan import Plan
from flowq.settings import Settings

MOST_STREAMS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOptions:
    """What was chosen when the web page was started.

    - `allow_actions`: pages have buttons that change something, and their routes exist.
    - `show_bodies`: the bodies of messages are shown; names that hold secrets are masked all the same.
    - `shown_fields`: fields of bodies that are shown even where bodies are hidden, such as "url".
    - `log_url`: a link to the logs of a message, with {pipeline}, {stage} and {id}; "" for none.
    - `history_seconds`: how far back the slider goes; 0 keeps nothing, and looks only while a page is open.
    """

    allow_actions: bool = False
    show_bodies: bool = False
    shown_fields: tuple[str, ...] = ()
    log_url: str = ""
    history_seconds: float = 3600.0


class Site:
    """The pipelines of one namespace."""

    def __init__(self, plans: Sequence[Plan], settings: Settings, options: PageOptions) -> None:
        self.options = options
        self.n_streams = 0
        self.is_closed = False
        self.settings = settings
        self.watches: Mapping[str, Watch] = {
            plan.name: Watch(plan, partial(open_broker, plan.name, settings), history_seconds=options.history_seconds)
            for plan in plans
        }

    @property
    def shown(self) -> ShownFields:
        """Which fields of messages are shown."""
        return ShownFields(self.options.show_bodies, self.options.shown_fields)

    def watch(self, name: str) -> Watch:
        """The watch of a pipeline. Raises NotFound."""
        if name not in self.watches:
            known = f"pipelines: {', '.join(self.watches)}"
            raise NotFound(f'no pipeline "{name}" here', hint=did_you_mean(name, self.watches, known))
        return self.watches[name]

    def start(self) -> None:
        """Begin the history of all pipelines, if one is kept."""
        self.is_closed = False
        if self.options.history_seconds:
            for watch in self.watches.values():
                watch.start()

    async def close(self) -> None:
        """Stop all watches, and end all streams."""
        self.is_closed = True
        for watch in self.watches.values():
            await watch.close()

    @contextmanager
    def stream(self) -> Generator[None]:
        """Count an open stream: beyond `MOST_STREAMS`, a further one is answered with 503."""
        if self.n_streams >= MOST_STREAMS:
            raise HTTPException(503, headers={"retry-after": "30"})
        self.n_streams += 1
        try:
            yield
        finally:
            self.n_streams -= 1


def site_of(request: Request) -> Site:
    """The site that a request is about."""
    site: Site = request.app.state.site
    return site


def watch_of(request: Request) -> Watch:
    """The pipeline in the address of a request. Raises NotFound."""
    return site_of(request).watch(request.path_params["name"])
