"""Makes up JSON values for the types that contain no others: numbers, texts, moments, addresses."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache
from typing import Any

from hypothesis import strategies as st
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import to_jsonable_python

Json = Any
Values = st.SearchStrategy[Json]
Node = Mapping[str, Any]
"""A core schema, as pydantic builds it for each type."""

_EARLIEST, _LATEST = dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)  # noqa: DTZ001  (four digits at any offset)
_PAST, _FUTURE = dt.datetime(2020, 1, 1), dt.datetime(2200, 1, 1)  # noqa: DTZ001  (whenever the test runs)
_WORDS = st.from_regex("[a-z][a-z0-9]{0,8}", fullmatch=True)
_WITH_FUNCTIONS = ("function-plain", "function-after", "function-wrap", "lax-or-strict", "json-or-python")


def scalars_of(node: Node) -> Values | None:
    """The values of a schema without others inside; None for all other schemas.

    Those that a constraint rules out are left out where that is simple, so that some may not fit.
    """
    make = _MAKERS.get(node["type"])
    return _of_known_format(node) if make is None else make(node)


def as_json(value: Any) -> Json:
    """A value of Python as JSON has it."""
    return _data_url(value) if isinstance(value, bytes) else to_jsonable_python(value)


def written(value: Json) -> str:
    """A JSON value as text: the same for equal values."""
    return json.dumps(value, sort_keys=True)


def _integers(node: Node) -> Values:
    step = node.get("multiple_of", 1)
    lowest = [math.ceil(node["ge"] / step)] if "ge" in node else []
    lowest += [math.floor(node["gt"] / step) + 1] if "gt" in node else []
    highest = [math.floor(node["le"] / step)] if "le" in node else []
    highest += [math.ceil(node["lt"] / step) - 1] if "lt" in node else []
    return st.integers(max(lowest, default=None), min(highest, default=None)).map(lambda number: number * step)


def _floats(node: Node) -> Values:
    if "multiple_of" in node:
        return _integers(node).map(float)
    low, high = node.get("ge", node.get("gt")), node.get("le", node.get("lt"))
    excludes_low, excludes_high = low is not None and "ge" not in node, high is not None and "le" not in node
    return st.floats(
        low, high, exclude_min=excludes_low, exclude_max=excludes_high, allow_nan=False, allow_infinity=False
    )


def _decimals(node: Node) -> Values:
    low, high = node.get("ge", node.get("gt")), node.get("le", node.get("lt"))
    places, digits = node.get("decimal_places"), node.get("max_digits")
    if digits is not None:
        places = places or 0
        most = Decimal(10) ** (digits - places) - Decimal(10) ** -places
        low = -most if low is None else max(-most, Decimal(low))
        high = most if high is None else min(most, Decimal(high))
    return st.decimals(low, high, places=places, allow_nan=False, allow_infinity=False).map(str)


def _texts(node: Node) -> Values:
    shortest, longest = node.get("min_length", 0), node.get("max_length")
    pattern: str | re.Pattern[str] | None = node.get("pattern")
    if pattern is None:
        return st.text(min_size=shortest, max_size=longest)
    try:
        matching = st.from_regex(pattern)
    except re.error:  # pydantic matches by a library that knows other patterns
        matching = st.text()
    return matching.filter(lambda text: shortest <= len(text) <= (len(text) if longest is None else longest))


def _bytes(node: Node) -> Values:
    """As flowq writes them, or as a model does that has its own way to write them."""
    shortest, longest = node.get("min_length", 0), node.get("max_length")
    data = st.binary(min_size=shortest, max_size=longest)
    in_base64 = data.map(lambda value: b64encode(value).decode())
    return data.map(_data_url) | in_base64 | st.text(min_size=shortest, max_size=longest)


def _data_url(value: bytes) -> str:
    return f"data:;base64,{b64encode(value).decode()}"


def _moments(node: Node) -> Values:
    earliest, latest = _era(node)
    without_zone = st.datetimes(earliest, latest)
    return _by_zone(node, without_zone, st.datetimes(earliest, latest, timezones=_offsets())).map(dt.datetime.isoformat)


def _times(node: Node) -> Values:
    return _by_zone(node, st.times(), st.times(timezones=_offsets())).map(dt.time.isoformat)


def _by_zone(node: Node, naive: st.SearchStrategy[Any], aware: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return {"naive": naive, "aware": aware}.get(node.get("tz_constraint", ""), naive | aware)


def _offsets() -> st.SearchStrategy[dt.tzinfo]:
    minutes = st.integers(-14 * 60, 14 * 60)
    return st.just(dt.UTC) | minutes.map(lambda number: dt.timezone(dt.timedelta(minutes=number)))


def _dates(node: Node) -> Values:
    earliest, latest = _era(node)
    low = node.get("ge", node.get("gt", earliest.date()))
    high = node.get("le", node.get("lt", latest.date()))
    return st.dates(low, high).map(dt.date.isoformat)


def _era(node: Node) -> tuple[dt.datetime, dt.datetime]:
    eras = {"past": (_EARLIEST, _PAST), "future": (_FUTURE, _LATEST)}
    return eras.get(node.get("now_op", ""), (_EARLIEST, _LATEST))


def _durations(node: Node) -> Values:
    low, high = node.get("ge", node.get("gt", dt.timedelta.min)), node.get("le", node.get("lt", dt.timedelta.max))
    return st.timedeltas(low, high).map(to_jsonable_python)


def _urls(node: Node) -> Values:
    schemes = st.sampled_from(node.get("allowed_schemes") or ["http", "https"])
    parts = st.tuples(schemes, _WORDS, st.lists(_WORDS, max_size=3))
    return parts.map(lambda held: f"{held[0]}://{held[1]}.example/{'/'.join(held[2])}")


def _anything(node: Node) -> Values:
    scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    return st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)


_MAKERS: Mapping[str, Callable[[Node], Values]] = {
    "any": _anything,
    "none": lambda node: st.none(),
    "bool": lambda node: st.booleans(),
    "int": _integers,
    "float": _floats,
    "decimal": _decimals,
    "fraction": lambda node: st.fractions().map(str),
    "str": _texts,
    "bytes": _bytes,
    "date": _dates,
    "time": _times,
    "datetime": _moments,
    "timedelta": _durations,
    "uuid": lambda node: st.uuids(version=node.get("version")).map(str),
    "literal": lambda node: st.sampled_from([as_json(value) for value in node["expected"]]),
    "enum": lambda node: st.sampled_from([as_json(value) for value in node["members"]]),
    "url": _urls,
    "multi-host-url": _urls,
}


# What validators that are Python functions say about themselves


@cache
def _formats() -> Mapping[str, Values]:
    return {
        "ipv4": st.ip_addresses(v=4).map(str),
        "ipv6": st.ip_addresses(v=6).map(str),
        "ipvanyaddress": st.ip_addresses().map(str),
        "email": st.builds("{}@{}.example".format, _WORDS, _WORDS),
        "zoneinfo": st.timezone_keys(),
        "regex": _WORDS,
        "path": st.lists(_WORDS, min_size=1, max_size=3).map("/".join),
    }


def _of_known_format(node: Node) -> Values | None:
    if node["type"] not in _WITH_FUNCTIONS:
        return None
    schema: Any = node
    try:
        described = GenerateJsonSchema().generate(schema)
    except (PydanticUserError, KeyError):  # KeyError: it refers to a schema elsewhere
        return None
    return _formats().get(described.get("format", ""))
