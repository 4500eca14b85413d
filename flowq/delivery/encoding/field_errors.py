"""What is wrong with a value, field by field, without the value itself."""

from __future__ import annotations

from typing import NamedTuple

from pydantic_core import ValidationError

from flowq.errors import CodecError
from flowq.printable import error_text, printable

_MOST, _LONGEST = 50, 500


class FieldError(NamedTuple):
    """What is wrong with one field. `path` leads to it, with dots into objects and lists: "" is the whole value."""

    path: str
    message: str


def field_errors(error: BaseException) -> tuple[FieldError, ...]:
    """The first fifty fields that do not fit, from the error of a decoder or of pydantic.

    >>> from flowq.delivery.encoding.codec import decoder
    >>> try:
    ...     decoder(dict[str, int])(b'{"n": "x"}')
    ... except CodecError as wrong:
    ...     print([each.path for each in field_errors(wrong)])
    ['n']
    """
    found = error.__cause__ if isinstance(error, CodecError) else error
    if not isinstance(found, ValidationError):
        text = (error.detail or error.message) if isinstance(error, CodecError) else error_text(error)
        return (FieldError("", printable(text)[:_LONGEST]),)
    findings = found.errors(include_url=False, include_input=False, include_context=False)
    return tuple(
        FieldError(printable(".".join(map(str, each["loc"])))[:_LONGEST], printable(each["msg"])[:_LONGEST])
        for each in findings[:_MOST]
    )
