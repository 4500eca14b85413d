"""What a push returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


class PushedId(str):
    """The id of a pushed message. `is_new`: whether the push stored it; False if it was already there.

    >>> PushedId("order-17", is_new=False).is_new, PushedId("order-17") == "order-17"
    (False, True)
    """

    __slots__ = ("is_new",)
    is_new: bool

    def __new__(cls, text: str, *, is_new: bool = True) -> Self:
        self = super().__new__(cls, text)
        self.is_new = is_new
        return self


@dataclass(frozen=True, slots=True)
class Pushed:
    """The result of a bulk push: the number of messages appended, and of those dropped as duplicates."""

    appended: int
    duplicates: int
