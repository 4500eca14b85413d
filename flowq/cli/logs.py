"""Where log lines go: standard error, one line each, for people or as JSON."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from flowq.printable import printable_block, printable_json

RUN_LOGGER = "flowq.run"
"""What a run says of itself, where its words are log lines."""


def configure_logging(
    log_format: str = "text", about: Mapping[str, Any] | None = None, *, level: str = "WARNING"
) -> None:
    """Send flowq's log, and that of the user's code, to standard error.

    `log_format` is "text" or "json"; `about` stands in every JSON line.
    """
    if log_format == "json":
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter(about or {}))
        logging.basicConfig(level=level, handlers=[handler])
        logging.getLogger(RUN_LOGGER).setLevel(logging.INFO)
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler])


class TextFormatter(logging.Formatter):
    """Lines for people: what they say of a message may come from anybody."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and those of its traceback."""
        return printable_block(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, where it was written, and what `extra=` was given.

    A line that a handler writes also names its stage and its message, and with traces on its trace and span.
    """

    def __init__(self, about: Mapping[str, Any]) -> None:
        super().__init__()
        self._about = about

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        written_at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": written_at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._about,
            **_handled(),
            **_span(),
            **{name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD},
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error"] = f"{type(error).__name__}: {error}"
            line["traceback"] = "".join(traceback.format_exception(error))
        return printable_json(orjson.dumps(line, default=repr, option=orjson.OPT_NON_STR_KEYS).decode())


_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def _handled() -> Mapping[str, Any]:
    """What is being handled here. Only a process that handles something has the module."""
    observation = sys.modules.get("flowq.runtime.observation")
    return observation.HANDLED.get() if observation else {}


def _span() -> Mapping[str, str]:
    """The open span, if this process traces at all."""
    trace = sys.modules.get("opentelemetry.trace")
    context = trace.get_current_span().get_span_context() if trace else None
    if context is None or not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
