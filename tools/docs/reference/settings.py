"""The page on settings: where each is written, and what it means."""

from __future__ import annotations

import inspect
import re
from typing import Any

from flowq.cli.app import command_named
from flowq.settings import Settings
from flowq.settings.origins import NAMES, NOT_SETTINGS, Written, written_name
from flowq.settings.page_settings import PageSettings

_ONLY_VARIABLES = {
    "FLOWQ_PROFILE": "which of `[tool.flowq.profiles]` applies, as `--profile`",
    "FLOWQ_DEBUG": "1 shows full tracebacks, as `--debug`",
    "FLOWQ_DASHBOARD_TOKEN": "the token of the web page, as `--token` of `flowq dashboard`; several with commas",
    "FLOWQ_REDIS_SERVER": "path of the redis-server that flowq starts for itself",
}


def settings() -> str:
    """The page."""
    meanings = _meanings(Settings) | {f"dashboard_{name}": text for name, text in _meanings(PageSettings).items()}
    lines = [
        "# Settings",
        "",
        "The first that is set counts: an argument or flag, a variable, a profile, `[tool.flowq]` of the nearest",
        "pyproject.toml upwards from the current folder, the default. `flowq config` shows the effective ones, and",
        "where each comes from.",
        "",
        "| key in `[tool.flowq]` | variable | default | value | meaning |",
        "|---|---|---|---|---|",
    ]
    for key, name in NAMES.items():
        field = Written.model_fields[name]
        variable = "`FLOWQ_REDIS_URL`, else `REDIS_URL`" if key == "redis" else f"`FLOWQ_{key.upper()}`"
        shown = "–" if field.default in (None, "", ()) else f"`{_text(field.default)}`"
        meaning = " ".join(meanings.get(name, "").split())
        lines.append(f"| `{written_name(key)}` | {variable} | {shown} | {field.description} | {meaning} |")
    lines += ["", "Only as variables:", "", "| variable | meaning |", "|---|---|"]
    meanings = {**_of_options(), **_ONLY_VARIABLES}
    lines += [f"| `{name}` | {meanings[name]} |" for name in NOT_SETTINGS]
    return "\n".join([*lines, "", *_STAGES]) + "\n"


def _meanings(of: type) -> dict[str, str]:
    return dict(re.findall(r"^- `(\w+)`: (.*?)(?=^- |\n\n|\Z)", inspect.getdoc(of) or "", re.M | re.S))


def _text(default: Any) -> str:
    return ", ".join(default) if isinstance(default, tuple) else str(default)  # pyright: ignore[reportUnknownArgumentType]


def _of_options() -> dict[str, str]:
    """What the variables mean that stand for an option of `flowq run`."""
    options = command_named("run").params
    return {option.envvar: f"`{option.opts[0]}` of `flowq run`: {option.help}" for option in options if option.envvar}


_STAGES = (
    "## Of single stages",
    "",
    "Options of `@stage` that are plain data can be set without changing the code:",
    "",
    "```toml",
    "[tool.flowq.pipelines.scrape.stages.fetch]",
    "concurrency = 32",
    "retry.attempts = 8",
    "```",
    "",
    "or as variables: `FLOWQ_SCRAPE__FETCH__CONCURRENCY=32`, `FLOWQ_SCRAPE__FETCH__RETRY__ATTEMPTS=8`.",
    "",
    "## Of a pipeline",
    "",
    "`shards`, from 1 to 64, wins over the number in the code. It must be the one that is on record in Redis,",
    "which only `flowq apply` changes:",
    "",
    "```toml",
    "[tool.flowq.pipelines.scrape]",
    "shards = 16",
    "```",
    "",
    "or as a variable: `FLOWQ_SCRAPE__SHARDS=16`.",
)
