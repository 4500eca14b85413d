"""What can be wrong with a pipeline: each check examines one thing, and adds what it finds to the problems."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any

from flowq.delivery.policy import AckMode
from flowq.errors import Place, Problems, did_you_mean
from flowq.graph.compilation.matching import are_told_apart
from flowq.graph.compilation.node import Feed, Node
from flowq.graph.compilation.plan import PLACES, Route, type_name
from flowq.graph.compilation.signature import unfilled_parameters
from flowq.graph.compilation.typecheck import bare, fields_of, fits, is_open, type_names
from flowq.graph.declaration.option_values import number_of_shards
from flowq.graph.declaration.resource import Resource

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_NAME_RULE = "letters, digits and _, not starting with a digit, at most 64"


def _has(node: Node, option: str) -> bool:
    return node.definition.options.get(option) is not None


def _is_other_place(node: Node) -> bool:
    """Whether a rate would be kept in each shard for itself: some messages of a key would be elsewhere."""
    place, rate = node.options.place_by, node.options.rate
    return place is not None and rate is not None and place != rate.by


def _separates_duplicates(node: Node) -> bool:
    place = node.options.place_by
    return node.options.dedup is not None and isinstance(place, str) and place in PLACES


# What clashes, the problem, the remedy.
_CLASHES: tuple[tuple[Callable[[Node], bool], str, str], ...] = (
    (
        lambda node: node.options.process and node.signature.shape.is_async,
        "process=True is for functions that are not async",
        "drop process; a coroutine runs on the event loop",
    ),
    (
        lambda node: node.options.inline and node.signature.shape.is_async,
        "inline=True is for functions that are not async",
        "drop inline; a coroutine runs on the event loop anyway",
    ),
    (
        lambda node: node.options.inline and not node.signature.shape.is_async and bool(node.options.timeout_seconds),
        "timeout has no effect with inline=True: nothing can interrupt a function that runs on the event loop",
        "drop inline, so that it runs on a thread; or drop timeout",
    ),
    (
        lambda node: node.options.process and bool(node.signature.resources or node.signature.context_parameter),
        "process=True cannot pass resources or the context to another process",
        "use them in a stage before or after it",
    ),
    (
        lambda node: node.options.process and "<" in node.definition.qualname,
        "process=True needs a function that another process can import",
        "define it at module level",
    ),
    (
        lambda node: node.options.process and bool(node.options.batch),
        "process=True handles one message at a time",
        "drop batch; collect in a stage after it",
    ),
    (
        lambda node: node.options.process and node.options.ack is not AckMode.AFTER,
        "process=True settles after the function has succeeded",
        "drop ack",
    ),
    (
        lambda node: bool(node.options.batch) and node.options.ack is not AckMode.AFTER,
        "a batch settles after the function has succeeded, and is split if it fails",
        "drop ack, or drop batch",
    ),
    (
        lambda node: node.options.ack is AckMode.MANUAL and node.signature.context_parameter is None,
        'ack="manual" needs the context, to call ctx.ack()',
        'add a parameter ctx: Context, or use ack="after"',
    ),
    (
        lambda node: node.options.inline and node.options.process,
        "inline=True and process=True exclude each other",
        "keep inline for fast functions, process for heavy ones",
    ),
    (
        lambda node: _has(node, "linger") and not _has(node, "batch"),
        "linger has no effect without batch",
        "add batch=..., or leave linger out",
    ),
    (
        lambda node: _has(node, "batch_bytes") and not _has(node, "batch"),
        "batch_bytes has no effect without batch",
        "add batch=..., or leave batch_bytes out",
    ),
    (
        lambda node: node.options.ack is AckMode.FIRST and _has(node, "retry"),
        'ack="first" never retries, so retry has no effect',
        'use ack="after", or leave retry out',
    ),
    (
        lambda node: (node.options.claim_above or 0) >= node.options.max_bytes,
        "claim_above has no effect: max_bytes is not above it",
        "raise max_bytes to the largest message that this stage may get, or leave claim_above out",
    ),
    (
        _is_other_place,
        "place is not the key of the rate, whose messages must all be in one shard",
        "leave place out: the rate decides",
    ),
    (
        _separates_duplicates,
        "place puts messages that dedup takes for the same into different shards, so that both would run",
        "leave place out: dedup decides; or place by a field that is the same in both",
    ),
)


def check_shards(pipeline: str, place: Place | None, shards: object, problems: Problems) -> None:
    """The number of shards is one that a pipeline can have."""
    try:
        number_of_shards(shards)
    except ValueError as error:
        problems.add("FQ106", f"{pipeline}: shards={shards!r} cannot be used", place, hint=str(error))


def check_names(pipeline: str, place: Place | None, nodes: Iterable[Node], problems: Problems) -> None:
    """Names become Redis keys and file names, so no character in them may have a meaning there."""
    if not _is_name(pipeline):
        problems.add("FQ102", f"{pipeline!r} cannot be the name of a pipeline", place, hint=_NAME_RULE)
    by_name: dict[str, Node] = {}
    for node in nodes:
        if not _is_name(node.name):
            hint = f"{_NAME_RULE}: @stage(name=...)"
            problems.add("FQ102", f"{node.name!r} cannot be the name of a stage", node.place, hint=hint)
        elif (other := by_name.setdefault(node.name, node)) is not node:
            _report_same_name(other, node, problems)


def check_tuning(pipeline: str, tuned: Iterable[str], nodes: Iterable[Node], problems: Problems) -> None:
    """Options set outside the code must be for stages that exist."""
    known = [node.name for node in nodes]
    for name in tuned:
        if name not in known:
            hint = did_you_mean(name, known, f"its stages: {', '.join(known)}")
            problems.add("FQ201", f'pipeline "{pipeline}" has no stage "{name}"', hint=hint)


def check_handler(node: Node, problems: Problems) -> None:
    """The options that say how a function runs must suit the function."""
    for applies, text, hint in _CLASHES:
        if applies(node):
            problems.add("FQ106", f"{node.name}: {text}", node.place, hint=hint)


def check_resources(nodes: Iterable[Node], problems: Problems) -> None:
    """The parameters of a resource can only be other resources."""
    found: dict[Resource[Any], None] = {}
    waiting = [resource for node in nodes for resource in node.signature.resources.values()]
    while waiting:
        if (resource := waiting.pop()) in found:
            continue
        found[resource] = None
        waiting += resource.requires.values()
        for parameter in unfilled_parameters(resource.fn):
            problems.add(
                "FQ110",
                f'resource {resource.name}: nothing fills parameter "{parameter}"',
                resource.place,
                hint=f"add a default, such as {parameter}=use(resource)",
            )


def check_fields(node: Node, problems: Problems) -> None:
    """`dedup="url"`, `Rate(by="host")` and `place="host"` name fields or properties of every type that is accepted."""
    options = node.options
    keyed = (("dedup", options.dedup), ("rate by", options.rate))
    named = [(option, keys.by) for option, keys in keyed if keys is not None]
    for option, field in (*named, ("place", options.place_by)):
        if not isinstance(field, str):
            continue
        if option == "place" and field in PLACES:
            _check_not_a_field(node, field, problems)
            continue
        for type_ in node.signature.accepted:
            fields = fields_of(type_)
            if fields is not None and field not in fields:
                written = f'{option}="{field}"'
                known = f"its fields: {', '.join(sorted(fields))}" if fields else "use a function of the message"
                problems.add(
                    "FQ105",
                    f"{node.name}: {written}, but {type_name(bare(type_))} has no such field or property",
                    node.place,
                    hint=did_you_mean(field, sorted(fields), known),
                )


def _check_not_a_field(node: Node, place: str, problems: Problems) -> None:
    for type_ in node.signature.accepted:
        if place in (fields_of(type_) or ()):
            problems.add(
                "FQ106",
                f'{node.name}: place="{place}" is not the field of {type_name(bare(type_))}, but a place of its own',
                node.place,
                hint=f"place=lambda message: message.{place}",
            )


def check_accepted(feeds: Iterable[Feed], nodes: Sequence[Node], problems: Problems) -> None:
    """Every type that a stage emits must be accepted where it is sent."""
    for feed in feeds:
        origin, targets = feed.origin, feed.targets
        names = " | ".join(target.name for target in targets)
        if sources := [target for target in targets if not target.accepts_messages]:
            problems.add(
                "FQ108",
                f"{origin.name} cannot feed {names}: {sources[0].name} is a source and accepts no messages",
                origin.place,
                hint=f"start a flow with it: {sources[0].name} >> ...",
            )
        elif origin.is_sink:
            problems.add(
                "FQ104",
                f"{origin.name} emits nothing and cannot feed {names}",
                origin.place,
                hint=f"end the flow at {origin.name}, or annotate what it returns",
            )
        elif unaccepted := [type_ for type_ in origin.signature.emits if not _is_accepted(type_, targets)]:
            _report_mismatch(feed, unaccepted, nodes, problems)


def check_told_apart(node: Node, routes: Sequence[Route], problems: Problems) -> None:
    """A value must show which of two types it has, where they go to different stages."""
    for one, other in combinations(routes, 2):
        if one.edges != other.edges and not are_told_apart(one.type, other.type):
            names = [type_name(bare(route.type)) for route in (one, other)]
            problems.add(
                "FQ107",
                f"{node.name}: a {names[0]} cannot be told from a {names[1]}, and they go to different stages",
                node.place,
                hint="make each of them a class, such as a model or a dataclass",
            )


def _is_name(name: object) -> bool:
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _report_same_name(first: Node, second: Node, problems: Problems) -> None:
    if first.definition.fn is second.definition.fn:
        problems.add(
            "FQ111",
            f'a copy of stage "{first.name}" with other options has the same name',
            second.place,
            hint=f'name the copy: {first.name}.options(name="{first.name}_2", ...)',
        )
    else:
        problems.add(
            "FQ101",
            f'two stages are named "{first.name}"',
            second.place,
            f"the other one is at {first.place}",
            hint=f'@stage(name="{first.name}_2") on one of them',
        )


def _is_accepted(type_: Any, targets: Sequence[Node]) -> bool:
    if is_open(type_) and len(targets) > 1:
        return False  # nothing says which of several stages would get such a message
    return any(fits(type_, target.signature.accepts) for target in targets)


def _report_mismatch(feed: Feed, unaccepted: Sequence[Any], nodes: Sequence[Node], problems: Problems) -> None:
    origin, names = feed.origin, [target.name for target in feed.targets]
    sides = [(f"{origin.name} emits", type_names(origin.signature.emits), origin.place)]
    sides += [(f"{each.name} accepts", type_names(each.signature.accepted), each.place) for each in feed.targets]
    left = max(len(head) for head, _, _ in sides)
    middle = max(len(types) for _, types, _ in sides)
    problems.add(
        "FQ103",
        f"{origin.name} cannot feed {' | '.join(names)}",
        origin.place,
        *(f"{head:<{left}}   {types:<{middle}}   {place}" for head, types, place in sides),
        f"nothing accepts {type_names(unaccepted)}",
        hint=_remedy(feed, unaccepted, nodes),
    )


def _remedy(feed: Feed, unaccepted: Sequence[Any], nodes: Sequence[Node]) -> str:
    origin, targets = feed.origin, feed.targets
    if is_open(unaccepted[0]):
        return f"name the types that {origin.name} emits, so that they can be told apart"
    others = [node for node in nodes if node.accepts_messages and node not in targets]
    takers = [next((node for node in others if _is_accepted(type_, [node])), None) for type_ in unaccepted]
    if None in takers:
        lost = type_names(type_ for type_, taker in zip(unaccepted, takers, strict=True) if taker is None)
        return f"no stage of this pipeline accepts {lost}: add one, or change one of the two annotations"
    kept = targets if len(unaccepted) < len(origin.signature.emits) else ()
    names = list(dict.fromkeys(node.name for node in (*kept, *takers) if node))
    route = f"({' | '.join(names)})" if len(names) > 1 else names[0]
    return f"send {type_names(unaccepted)} where it is accepted: {origin.name} >> {route}"
