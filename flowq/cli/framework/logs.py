"""Where log lines go: standard error, one line each, for people or as JSON."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from flowq.cli.framework.error_screen import redacted
from flowq.cli.framework.invocation import as_typed
from flowq.printable import error_text, printable_block, printable_json, spelled_out

RUN_LOGGER = "flowq.run"
"""What a run says of itself, where its words are log lines."""

_DEEPEST = 20
_own = logging.StreamHandler(sys.stderr)


@dataclass(frozen=True, slots=True)
class LogSetup:
    """How a process logs: format "text" or "json", the pipeline named in JSON, and the level of each logger.

    `begin` comes before the user's code is imported, `after_import` when it has been.
    """

    format: str = "text"
    pipeline: str = ""
    levels: Mapping[str, str] = field(default_factory=dict[str, str])

    def begin(self) -> None:
        """Log to standard error what flowq and the user's code say, unless the user configures something else."""
        _own.setStream(sys.stderr)
        if self.format == "json":
            _own.setFormatter(JsonFormatter({"pipeline": self.pipeline, "pid": os.getpid()}))
        else:
            _own.setFormatter(TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
        # Not a handler of the root logger: with one there, the user's logging.basicConfig would do nothing, and what
        # the user's own handlers print would be printed twice.
        logging.lastResort = _own
        self._set_levels()

    def after_import(self) -> None:
        """Adopt the logging that the user's code has configured, apart from the levels that are set here.

        With JSON, handlers of the user's that write to standard error or output write JSON as well; what they and their
        levels let through stays.
        """
        self._set_levels()
        loggers = _loggers()
        for logger in loggers:
            if logger.name.partition(".")[0] == "flowq" or logger.name in self.levels:
                logger.disabled = False  # logging.config disables what it does not name
        if self.format != "json":
            return
        for handler in [handler for logger in (logging.root, *loggers) for handler in logger.handlers]:
            if getattr(handler, "stream", None) in (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__):
                handler.setFormatter(_own.formatter)
        if _own not in logging.root.handlers:  # logging.warning() and its like would install a handler for text
            _own.addFilter(_is_handled_by_no_other)
            logging.root.addHandler(_own)

    def _set_levels(self) -> None:
        for name, level in self.levels.items():
            logging.getLogger(name).setLevel(level)


def follow_streams(replaced: Mapping[Any, Any]) -> None:
    """Have all handlers write to what has replaced a stream: what is painted there would destroy their lines."""
    handlers: list[Any] = [_own, *(handler for logger in (logging.root, *_loggers()) for handler in logger.handlers)]
    for handler in handlers:
        new = replaced.get(getattr(handler, "stream", None))
        if new is not None and hasattr(handler, "setStream"):
            handler.setStream(new)


def _loggers() -> list[logging.Logger]:
    return [found for found in logging.root.manager.loggerDict.values() if isinstance(found, logging.Logger)]


def tell(text: str, **more: Any) -> None:
    """Write a line of what a run says of itself, whatever the user's code has done to loggers and levels."""
    record = logging.getLogger(RUN_LOGGER).makeRecord(RUN_LOGGER, logging.INFO, __file__, 0, text, (), None, extra=more)
    _own.acquire()
    try:
        _own.emit(record)
    finally:
        _own.release()


def _is_handled_by_no_other(record: logging.LogRecord) -> bool:
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None:
        if any(handler is not _own for handler in logger.handlers):
            return False
        logger = logger.parent if logger.propagate else None
    return True


class TextFormatter(logging.Formatter):
    """Lines for people. Text of messages in them is untrusted.

    A line that a handler writes ends with its stage, message and attempt.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line without a traceback."""
        line, handled = super().formatMessage(record), _handled()
        if not handled:
            return line
        about = f"{handled['stage']} {handled['message_id']}, attempt {handled['attempt']}"
        return f"{line}  ({about}, batch of {handled['batch']})" if "batch" in handled else f"{line}  ({about})"

    def format(self, record: logging.LogRecord) -> str:
        """The line, and those of its traceback."""
        return printable_block(redacted(as_typed(super().format(record))))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the code that wrote it, and what `extra=` contains.

    A line that a handler writes also names its stage and its message, and with traces on its trace and span. Whatever
    is logged becomes a line: values without a JSON form are spelled out.
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
            "message": redacted(_safely(record.getMessage, lambda: f"{record.msg!r} with {record.args!r}")),
            **self._about,
            **_handled(),
            **_span(),
            **{name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD},
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error"] = redacted(": ".join(filter(None, (type(error).__name__, error_text(error)))))
            line["traceback"] = redacted("".join(traceback.format_exception(error)))
        if record.stack_info:
            line["stack"] = record.stack_info
        try:
            text = orjson.dumps(line, default=_shown, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:  # numbers above 64 bits, text that is no Unicode, a list that contains itself
            text = json.dumps(_as_json(line), ensure_ascii=False)
        return printable_json(text)


def _safely(*ways: Callable[[], str]) -> str:
    """The result of the first way that does not fail: the user's own methods may."""
    for way in ways:
        try:
            return way()
        except Exception:  # noqa: BLE001  (the next way says more than the error)
            continue
    return "(cannot be shown)"


def _shown(value: Any) -> str:
    return _safely(lambda: repr(value), lambda: f"{type(value).__name__} (cannot be shown)")


def _as_json(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return spelled_out(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if value.bit_length() < 1000 else hex(value)  # Python reads and writes no longer ones
    if depth < _DEEPEST and isinstance(value, dict):
        members: dict[Any, Any] = value  # pyright: ignore[reportUnknownVariableType]
        return {_text(key): _as_json(member, depth + 1) for key, member in members.items()}
    if depth < _DEEPEST and isinstance(value, list | tuple):
        items: list[Any] | tuple[Any, ...] = value  # pyright: ignore[reportUnknownVariableType]
        return [_as_json(item, depth + 1) for item in items]
    return _text(value)


def _text(value: Any) -> str:
    text: str = spelled_out(value if isinstance(value, str) else _shown(value))
    return text


_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def _handled() -> Mapping[str, Any]:
    """What is being handled here. Only a process that handles something has the module that does."""
    if "flowq.runtime.handlers.handling" not in sys.modules:
        return {}
    from flowq.runtime.handlers.handled import handled_here

    found = handled_here()
    return found.as_json() if found else {}


def _span() -> Mapping[str, str]:
    """The open span, if this process traces at all."""
    trace = sys.modules.get("opentelemetry.trace")
    context = trace.get_current_span().get_span_context() if trace else None
    if context is None or not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
