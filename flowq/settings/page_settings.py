"""What is set for the web page: [tool.flowq.dashboard] and FLOWQ_DASHBOARD_* variables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSettings:
    """The settings of `flowq dashboard`, each of which has an option as well.

    - `listen`: its address.
    - `allow_hosts`: further names under which browsers may call it.
    - `allow_actions`: whether it can change something.
    - `show_bodies`: whether bodies of messages are shown; by default where only this machine can look.
    - `show`: fields of messages that are shown in any case.
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
