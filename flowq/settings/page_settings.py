"""What is set for the web page: [tool.flowq.dashboard] and FLOWQ_DASHBOARD_* variables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSettings:
    """The settings of `flowq dashboard`.

    - `listen`: its address.
    - `allow_hosts`: further names under which browsers may reach it.
    - `allow_actions`: whether it can change anything.
    - `show_bodies`: whether bodies of messages are shown; by default only on 127.0.0.1.
    - `show`: fields of messages that are shown even where bodies are hidden.
    - `log_url`: a link to the logs of a message, with {pipeline}, {stage} and {id}.
    - `history_seconds`: how far back its slider goes; 0 keeps nothing.
    """

    listen: str = ":8080"
    allow_hosts: tuple[str, ...] = ()
    allow_actions: bool = False
    show_bodies: bool | None = None
    show: tuple[str, ...] = ()
    log_url: str = ""
    history_seconds: float = 3600.0
