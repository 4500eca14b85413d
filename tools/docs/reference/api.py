"""The pages on what users import: what declares a pipeline, and what programs use beside one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from operator import attrgetter
from types import ModuleType
from typing import Any

import flowq
import flowq.testing
from flowq.graph.declaration.stage import BatchOptions
from flowq.testing import Verdict
from tools.docs.reference.docstrings import as_markdown, signature

_DECLARING = (
    "stage", "source", "resource", "use", "Context", "SourceContext", "Retry", "Rate", "Dedup", "Reject", "RetryLater",
    "retry_after", "BatchFailed", "Pipeline", "Stage", "Source", "Flow", "Resource",
)  # fmt: skip
_PROGRAMS = (
    "run", "Publisher", "SyncPublisher", "Inspector", "dashboard_app", "FlowqError", "PipelineError", "QueueFull",
)  # fmt: skip
_TESTING = (
    "harness", "Harness", "Expectation", "Call", "Dead", "Waiting", "Balance",
    "Crash", "Restart", "LostReply", "Duplicate", "Reorder", "Disconnect", "Stall", "Refuse", "Failover", "PoisonBody",
    "Slow", "explore", "Report", "Found", "call", "raises_reject", "raises_retry", "Ledger", "replay",
    "strategies.messages", "machine", "PipelineMachine", "Verdict", "NotDrained", "InvariantBroken", "NotAsExpected",
    "NotAsRecorded", "NeverCompared", "WorkerEnded",
)  # fmt: skip
_MADE_BY_FLOWQ = (
    flowq.Stage, flowq.Source, flowq.Flow, flowq.Resource, flowq.FlowqError, flowq.PipelineError,
    flowq.testing.Harness, flowq.testing.Expectation, flowq.testing.Balance, flowq.testing.Report, flowq.testing.Found,
    flowq.testing.PipelineMachine,
)  # fmt: skip
_SIGNATURES = {"stage": "@stage\n@stage(option=value, ...)", "source": '@source\n@source(name="...")'}


def declaring() -> str:
    """The page on pipelines, stages and sources."""
    return _page(
        "Stages, sources and pipelines",
        "What declares a pipeline: options of `@stage` and `@source`, resources, what a handler knows and may raise.",
        _DECLARING,
        flowq,
    )


def programs() -> str:
    """The page on what programs use."""
    about = "How programs run a pipeline, push messages into it and inspect it, and the errors they may get."
    return _page("From a program", about, _PROGRAMS, flowq)


def testing() -> str:
    """The page on the test kit."""
    about = (
        "What `flowq.testing` has for the tests of a pipeline (extra `test`). [Testing](../testing.md) shows how it is "
        "used.\n\n`SURVIVABLE` are the kinds of faults that change no result of a correct pipeline; `ALL` has "
        "`Failover` and `PoisonBody` as well."
    )
    return _page("The test kit", about, _TESTING, flowq.testing)


def public_names() -> set[str]:
    """All names of flowq that are on these pages."""
    return {*_DECLARING, *_PROGRAMS}


def public_names_of_the_test_kit() -> set[str]:
    """Likewise those of flowq.testing."""
    return {name.partition(".")[0] for name in _TESTING} | {"ALL", "SURVIVABLE"}


def _page(title: str, about: str, names: tuple[str, ...], home: ModuleType) -> str:
    parts = (part for name in names for part in _described(name, attrgetter(name)(home)))
    return "\n\n".join([f"# {title}", about, *parts]) + "\n"


def _described(name: str, value: Any) -> Iterator[str]:
    yield f"## {name}"
    if name in _SIGNATURES:
        yield f"```text\n{_SIGNATURES[name]}\n```"
    elif not inspect.isclass(value) or _is_called_by_users(value):
        yield signature(name, value)
    types = dict[str, str]()
    if name == "stage":
        types = {option: f"`{_short(of)}`" for option, of in _annotations(BatchOptions).items()}
    yield as_markdown(value.__doc__ or "", types)
    if inspect.isclass(value) and not issubclass(value, Verdict):
        for method, fn in _methods(value):
            shown = f"{'await ' if inspect.iscoroutinefunction(fn) else ''}{name}.{method}"
            yield f"### {name}.{method}"
            if callable(fn):
                yield signature(shown, fn)
            yield as_markdown(fn.__doc__ or "")


def _is_called_by_users(cls: type) -> bool:
    """Stages, sources and their like are made by decorators, harnesses and verdicts by the test kit."""
    return not issubclass(cls, Verdict) and cls not in _MADE_BY_FLOWQ


def _methods(cls: type) -> Iterator[tuple[str, Any]]:
    """What is public, and says what it does, in the order in which it is written."""
    for home in reversed([one for one in cls.__mro__ if one.__module__.startswith("flowq")]):
        for name, member in vars(home).items():
            found: Any = getattr(member, "__func__", member)  # of a class method
            if not name.startswith("_") and (callable(found) or isinstance(found, property)) and found.__doc__:
                yield name, found


def _annotations(options: type) -> dict[str, str]:
    """Of a TypedDict and those that it extends, as they are written."""
    bases = [one for one in getattr(options, "__orig_bases__", ()) if isinstance(one, type)]
    inherited = [_annotations(base) for base in bases]
    return {name: of for each in [*inherited, inspect.get_annotations(options)] for name, of in each.items()}


def _short(annotation: Any) -> str:
    return str(getattr(annotation, "__forward_arg__", annotation)).replace("|", "or")
