"""Sizes as people write them, turned into bytes."""

from __future__ import annotations

from functools import cache

from pydantic import ByteSize, TypeAdapter, ValidationError


def n_bytes(value: int | str) -> int:
    """A number of bytes as it is, or text such as "500kB", "64MB", "1GiB" in bytes.

    Raises ValueError for any other text, and for a number that is negative.

    >>> n_bytes("1.5MB"), n_bytes("1 KiB"), n_bytes(200)
    (1500000, 1024, 200)
    """
    try:
        size = int(_adapter().validate_python(value))
    except ValidationError:
        size = -1
    if size < 0:
        raise ValueError(f'{value!r} is not a size; write a number of bytes, or "500kB", "64MB", "1GiB"')
    return size


@cache
def _adapter() -> TypeAdapter[ByteSize]:
    return TypeAdapter(ByteSize)  # not at import: it takes milliseconds, and few pipelines write sizes
