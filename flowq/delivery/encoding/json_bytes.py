"""Carries arbitrary bytes in JSON: a field of type bytes need not be UTF-8.

Bytes that are UTF-8 are written as text. All others are written as a data URL (RFC 2397), as are those that look like
one.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticCustomError, PydanticSerializationUnexpectedValue

_PREFIX = "data:;base64,"
_OWN_WAYS = {"ser_json_bytes", "val_json_bytes"}
_NO_SCHEMAS = {"metadata", "serialization", "default", "config", "expected", "members", "cls", "function"}


def with_any_bytes(schema: Any) -> Any:
    """The core schema of a type, changed to carry any bytes. Models that configure their own way are left unchanged."""
    if isinstance(schema, list):
        return [with_any_bytes(each) for each in schema]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(schema, tuple):
        return tuple(with_any_bytes(each) for each in schema)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if not isinstance(schema, Mapping) or not _OWN_WAYS.isdisjoint(schema.get("config") or ()):  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        return schema  # pyright: ignore[reportUnknownVariableType]
    if schema.get("type") == "bytes" and "serialization" not in schema:  # pyright: ignore[reportUnknownMemberType]
        return _any_bytes(schema)  # pyright: ignore[reportUnknownArgumentType]
    return {key: value if key in _NO_SCHEMAS else with_any_bytes(value) for key, value in schema.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]


def _any_bytes(schema: Mapping[str, Any]) -> dict[str, Any]:
    reference = {key: schema[key] for key in ("ref",) if key in schema}
    return {
        "type": "function-before",
        "function": {"type": "no-info", "function": _read},
        "schema": {key: value for key, value in schema.items() if key != "ref"},
        "serialization": {"type": "function-plain", "function": _written, "when_used": "json"},
        **reference,
    }


def _written(value: Any) -> str:
    if not isinstance(value, bytes):
        raise PydanticSerializationUnexpectedValue(f"expected bytes, got {type(value).__name__}")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = _PREFIX
    return _PREFIX + base64.b64encode(value).decode() if text.startswith(_PREFIX) else text


def _read(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(_PREFIX):
        return value
    try:
        return base64.b64decode(value.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise PydanticCustomError("bytes_data_url", "not valid base64: {why}", {"why": str(error)}) from None
