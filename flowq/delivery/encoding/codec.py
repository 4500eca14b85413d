"""Typed values to bytes and back. JSON on the wire, written and read by pydantic; bytes stay bytes."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Callable
from functools import cache, partial, wraps
from types import UnionType
from typing import Annotated, Any, NewType, ParamSpec, TypeVar, Union, cast, get_args, get_origin

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter
from pydantic_core import PydanticSerializationError, SchemaSerializer, SchemaValidator, ValidationError

from flowq.delivery.encoding.difference import difference
from flowq.delivery.encoding.fidelity import Fidelity, fidelity_of
from flowq.delivery.encoding.field_errors import field_errors
from flowq.delivery.encoding.json_bytes import with_any_bytes
from flowq.delivery.encoding.suspects import MOST_DIGITS
from flowq.errors import DecodeError, EncodeError, PayloadTooLarge
from flowq.printable import error_text, printable

Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]
P = ParamSpec("P")
R = TypeVar("R")
_MOST_EXPLAINED = 5

_UNWRITABLE = (
    PydanticSerializationError,
    UnicodeEncodeError,
    ValueError,
    TypeError,
    AttributeError,
    RecursionError,
    Warning,
)


def _raise_serializer_warnings() -> Any:
    """Make pydantic's warning about a field of the wrong type an error here, and return the filter that does so."""
    warnings.filterwarnings("error", "Pydantic serializer warnings", UserWarning, rf"{re.escape(__name__)}$")
    return warnings.filters[0]


# `to_json(warnings="error")` would do the same and make encoding several times slower.
_warning_filter = _raise_serializer_warnings()


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
    """The short name by which a stage that accepts several types distinguishes them."""
    return word_of(getattr(type_, "__name__", None) or str(type_))


def word_of(name: str) -> str:
    """A name as one word of a header."""
    return "".join(char if char.isalnum() or char == "_" else "_" for char in name)


def type_adapter(type_: Any) -> TypeAdapter[Any]:
    """Raises EncodeError for a type that pydantic cannot handle."""
    try:
        return TypeAdapter(type_)
    except (PydanticSchemaGenerationError, ImportError) as error:  # EmailStr needs a package of its own
        raise EncodeError(
            f"{type_} cannot be a message",
            hint="use a pydantic model, a dataclass, a TypedDict or a plain JSON type",
            detail=str(error).splitlines()[0],
        ) from None


def can_encode(encode: Encode, value: Any) -> bool:
    """Whether an encoder accepts a value."""
    try:
        encode(value)
    except EncodeError:
        return False
    return True


def check_type(type_: Any) -> None:
    """Raises EncodeError for a type whose values can never be sent, or never arrive unchanged."""
    if not is_raw(type_):
        for what, remedy in fidelity_of(type_adapter(type_).core_schema).impossible:
            raise EncodeError(f"{tag_of(type_)} cannot be a message: {what}", hint=remedy)


def is_raw(type_: Any) -> bool:
    """Whether values travel unencoded: bytes, under any alias, and `bytes | None`. Annotated bytes travel as JSON.

    >>> is_raw(bytes | None), is_raw(bytes | str)
    (True, False)
    """
    while hasattr(type_, "__value__") or isinstance(type_, NewType):
        type_ = type_.__supertype__ if isinstance(type_, NewType) else type_.__value__
    members = union_members(type_)
    return type_ is bytes or (len(members) == 1 and members[0] is not type_ and is_raw(members[0]))


def _remembered(make: Callable[P, R]) -> Callable[P, R]:
    """Returns the same function for the same types, except for unhashable ones, such as `Annotated[int, {}]`."""
    cached = cast("Callable[P, R]", cache(make))  # the stub of cache knows only hashable arguments

    @wraps(make)
    def remembered(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            hash(args)
        except TypeError:
            return make(*args, **kwargs)
        return cached(*args, **kwargs)

    return remembered


@_remembered
def encoder(type_: Any, *, strict: bool = False) -> Encode:
    """A function that writes values of one type. It raises EncodeError. The same type always returns the same function.

    It refuses a value that would not arrive equal. Unless the type alone guarantees that it will, the encoded value is
    decoded again and compared. With `strict`, values of any other type are refused, for values whose class has not been
    checked before: that is 1.4 µs slower, too much for each message.
    """
    if is_raw(type_):
        return _raw_bytes
    fidelity = fidelity_of(type_adapter(type_).core_schema)
    if not fidelity.proven:
        return checked_encoder(type_, type_)
    options = {"warnings": "error"} if strict else {}
    to_json, read = _to_json(type_, fidelity, **options), decoder(type_)
    thorough = fidelity.equality_ignores_fields
    long_one, suspects = fidelity.suspect_when_long, tuple(fidelity.suspects)

    def encode(value: Any) -> bytes:
        global _warning_filter
        if (
            not warnings.filters or warnings.filters[0] is not _warning_filter
        ):  # the program has added filters of its own
            _warning_filter = _raise_serializer_warnings()
        try:
            body = to_json(value)
        except Warning:
            return checked_encoder(type_, type_)(value)
        except _UNWRITABLE as error:
            raise _unwritable(type_, error) from error
        if len(body) > MOST_DIGITS and long_one is not None and long_one(value, body):
            _compare(value, body, type_, read, thorough=thorough)
        return body

    def encode_with_suspicion(value: Any) -> bytes:
        body = encode(value)
        for suspect in suspects:
            if suspect(value, body):
                _compare(value, body, type_, read, thorough=thorough)
                break
        return body

    return encode_with_suspicion if suspects else encode


@_remembered
def checked_encoder(written: Any, read_as: Any, *, equal: bool = True) -> Encode:
    """A function that writes values as one type for a reader of another, and always decodes them again to check.

    With `equal=False` it is enough that they decode: the reader has constraints and conversions of its own.
    """
    read = decoder(read_as)
    to_json: Encode = _raw_bytes
    thorough = False
    if not is_raw(written):  # warnings=False: the comparison finds what pydantic would warn about
        fidelity = fidelity_of(type_adapter(written).core_schema)
        to_json, thorough = _to_json(written, fidelity, warnings=False), fidelity.equality_ignores_fields

    def encode(value: Any) -> bytes:
        try:
            body = to_json(value)
        except _UNWRITABLE as error:
            raise _unwritable(written, error) from error
        _compare(value, body, written, read, equal=equal, thorough=thorough)
        return body

    return encode


def _compare(value: Any, body: bytes, type_: Any, read: Decode, *, equal: bool = True, thorough: bool = False) -> None:
    try:
        arrived = read(body)
        found = difference(value, arrived, thorough=thorough) if equal else None
    except (DecodeError, RecursionError) as error:
        found = getattr(error, "detail", "") or str(error)
    if found is not None:
        raise EncodeError(
            f"a {tag_of(type_)} would not arrive unchanged: {found}",
            hint="return what the annotation says, in types that JSON can represent",
        )


def _unwritable(type_: Any, error: BaseException) -> EncodeError:
    return EncodeError(f"a {tag_of(type_)} cannot be written as JSON", detail=error_text(error))


def _to_json(type_: Any, fidelity: Fidelity, **options: Any) -> Encode:
    adapter = type_adapter(type_)
    serializer = adapter.serializer
    if fidelity.has_bytes:
        serializer = SchemaSerializer(with_any_bytes(adapter.core_schema), _use_prebuilt=False)
    if fidelity.has_aliases:
        options["by_alias"] = fidelity.discriminates_by_alias
    if fidelity.has_computed:
        options["round_trip"] = True
    return partial(serializer.to_json, **options) if options else serializer.to_json


@_remembered
def decoder(type_: Any) -> Decode:
    """A function that decodes and validates one type. Whatever the bytes, it raises nothing but DecodeError."""
    if is_raw(type_):
        return _raw_bytes
    adapter = type_adapter(type_)
    fidelity = fidelity_of(adapter.core_schema)
    validator = adapter.validator
    if fidelity.has_bytes:
        validator = SchemaValidator(with_any_bytes(adapter.core_schema), _use_prebuilt=False)
    validate_json = validator.validate_json
    if fidelity.has_aliases:  # flowq writes field names, other programs write aliases
        validate_json = partial(validate_json, by_alias=True, by_name=True)

    def decode(body: bytes) -> Any:
        try:
            return validate_json(body)
        except Exception as error:
            raise DecodeError(f"not a valid {tag_of(type_)}", detail=explain(error)) from error

    return decode


def strings_decoder(type_: Any) -> Callable[[dict[str, Any]], Any]:
    """A function that makes a value from the text of its fields, as CSV has it. It raises DecodeError.

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


def schema_digest(type_: Any) -> str:
    """A short digest that changes when the JSON schema of a type changes; "" for a type without one.

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
        return printable(error_text(error))
    shown = [f"{each.path or 'message'}: {each.message}" for each in field_errors(error)[:_MOST_EXPLAINED]]
    n_more = error.error_count() - len(shown)
    return "; ".join(shown) + (f"; and {n_more} more" if n_more else "")


def check_size(body: bytes, max_bytes: int, stage: str) -> None:
    """Raise PayloadTooLarge for a body above the limit of the receiving stage."""
    if len(body) > max_bytes:
        raise PayloadTooLarge(
            f"a message of {len(body):,} bytes for {stage}, which accepts at most {max_bytes:,}",
            hint=f"store the body elsewhere and send a reference, or raise @stage(max_bytes=...) of {stage}",
        )


def value_of(message: Any, key: str | Callable[[Any], Any]) -> Any:
    """The key by which a message is deduplicated, paced or held."""
    if callable(key):
        return key(message)
    return message[key] if isinstance(message, dict) else getattr(message, key)  # pyright: ignore[reportUnknownVariableType]


def _raw_bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise EncodeError(f"expected bytes, got {type(value).__name__}")
    return value
