"""Typed values to bytes and back. JSON on the wire, written and read by pydantic; bytes stay bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter
from pydantic_core import PydanticSerializationError, ValidationError

from flowq.errors import DecodeError, EncodeError, PayloadTooLarge
from flowq.printable import printable

Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]


def union_members(annotation: Any) -> tuple[Any, ...]:
    """The types of a union, a type alone as its only member, without None.

    >>> union_members(int | str | None)
    (<class 'int'>, <class 'str'>)
    """
    if get_origin(annotation) is Annotated and get_origin(get_args(annotation)[0]) in (Union, UnionType):
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        return tuple(member for member in get_args(annotation) if member is not type(None))
    return () if annotation in (None, type(None)) else (annotation,)


def tag_of(type_: Any) -> str:
    """The short name by which a stage that takes several types tells them apart."""
    name = getattr(type_, "__name__", None) or str(type_)
    return "".join(char if char.isalnum() or char == "_" else "_" for char in name)


def type_adapter(type_: Any) -> TypeAdapter[Any]:
    """Raises EncodeError for a type that pydantic cannot handle."""
    try:
        return TypeAdapter(type_)
    except PydanticSchemaGenerationError as error:
        raise EncodeError(
            f"{type_} cannot be a message",
            hint="use a pydantic model, a dataclass, a TypedDict or a plain JSON type",
            detail=str(error).splitlines()[0],
        ) from None


def encoder(type_: Any) -> Encode:
    """A function that writes values of one type. It raises EncodeError. The same type gives the same function."""
    try:
        return _encoder(type_)
    except TypeError:  # a type that cannot be hashed, such as Annotated with a dict
        return _encoder.__wrapped__(type_)


@cache
def _encoder(type_: Any) -> Encode:
    if type_ is bytes:
        return _bytes_as_they_are
    to_json = type_adapter(type_).serializer.to_json

    def encode(value: Any) -> bytes:
        try:
            return to_json(value)
        except (PydanticSerializationError, UnicodeEncodeError, ValueError, RecursionError) as error:
            raise EncodeError(f"a {tag_of(type_)} cannot be written as JSON", detail=str(error)) from error

    return encode


def decoder(type_: Any) -> Decode:
    """A function that reads and validates one type. It raises DecodeError, and nothing else, for any bytes."""
    if type_ is bytes:
        return _bytes_as_they_are
    validate_json = type_adapter(type_).validator.validate_json

    def decode(body: bytes) -> Any:
        try:
            return validate_json(body)
        except Exception as error:
            raise DecodeError(f"not a valid {tag_of(type_)}", detail=explain(error)) from error

    return decode


def strings_decoder(type_: Any) -> Callable[[dict[str, Any]], Any]:
    """A function that makes a value of text, field by field, as it stands in CSV. It raises DecodeError.

    >>> strings_decoder(dict[str, int])({"n": "42"})
    {'n': 42}
    """
    validate_strings = type_adapter(type_).validator.validate_strings

    def decode(fields: dict[str, Any]) -> Any:
        try:
            return validate_strings(fields)
        except Exception as error:
            raise DecodeError(f"not a valid {tag_of(type_)}", detail=explain(error)) from error

    return decode


def tagged_decoders(members: tuple[Any, ...]) -> Mapping[str, Decode]:
    """One decoder for each type of a union, by tag."""
    return {tag_of(member): decoder(member) for member in members}


def schema_digest(type_: Any) -> str:
    """A short word that changes when what a type takes changes; "" for a type that no schema describes.

    >>> schema_digest(int) == schema_digest(int) != schema_digest(str)
    True
    """
    try:
        schema = type_adapter(type_).json_schema()
    except PydanticUserError:
        return ""
    return hashlib.blake2b(json.dumps(schema, sort_keys=True).encode(), digest_size=6).hexdigest()


def explain(error: Exception) -> str:
    """What is wrong with a value, field by field, without the value itself."""
    if not isinstance(error, ValidationError):
        return printable(str(error))
    findings = error.errors(include_url=False, include_input=False, include_context=False)
    shown = [
        printable(f"{'.'.join(str(part) for part in finding['loc']) or 'message'}: {finding['msg']}")
        for finding in findings[:5]
    ]
    return "; ".join(shown) + (f"; and {len(findings) - 5} more" if len(findings) > 5 else "")


def check_size(body: bytes, max_bytes: int, stage: str) -> None:
    """Raise PayloadTooLarge for a body that the receiving stage does not take."""
    if len(body) > max_bytes:
        raise PayloadTooLarge(
            f"a message of {len(body):,} bytes for {stage}, which takes at most {max_bytes:,}",
            hint=f"store the body elsewhere and send a reference, or raise @stage(max_bytes=...) of {stage}",
        )


def value_of(message: Any, key: str | Callable[[Any], Any]) -> str:
    """The value of a message by which it is deduplicated, paced or held, as text."""
    if callable(key):
        return str(key(message))
    return str(message[key] if isinstance(message, dict) else getattr(message, key))  # pyright: ignore[reportUnknownArgumentType]


def dedup_hash(value: str) -> bytes:
    """16 bytes that stand for a dedup value; two of 10**12 values collide with a chance below 10**-14.

    >>> len(dedup_hash("https://example.org/"))
    16
    """
    return hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _bytes_as_they_are(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise EncodeError(f"expected bytes, got {type(value).__name__}")
    return value
