"""What is wrong with a message is data: the path of each field and what is wrong there, never the value itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from flowq.delivery.encoding.codec import check_size, decoder
from flowq.delivery.encoding.field_errors import field_errors
from flowq.errors import CodecError


@dataclass
class Item:
    sku: str
    prices: list[float]


@dataclass
class Order:
    item: Item
    n: int


def errors_in(body: bytes, type_: Any = Order) -> dict[str, str]:
    with pytest.raises(CodecError) as caught:
        decoder(type_)(body)
    return dict(field_errors(caught.value))


def test_each_field_is_named_by_its_path_with_positions_in_lists() -> None:
    found = errors_in(b'{"item":{"sku":7,"prices":[1,"secret value"]}}')

    assert set(found) == {"item.sku", "item.prices.1", "n"}
    assert found["item.sku"] == "Input should be a valid string"
    assert "secret" not in str(found)


@pytest.mark.parametrize("body", [b"{", b"", b"[1]", b"\xff", b'"x"'])
def test_a_message_that_is_wrong_as_a_whole_has_an_empty_path(body: bytes) -> None:
    assert list(errors_in(body)) == [""]


def test_hostile_fields_are_bounded_and_printable() -> None:
    many = b'{"a\\u001b[2J\\u202e":"x",' + b",".join(b'"%d%s":"x"' % (n, b"k" * 900) for n in range(200)) + b"}"
    found = errors_in(many, dict[str, int])

    assert len(found) == 50
    assert all(path.isprintable() and len(path) <= 500 for path in found)


def test_a_message_that_is_too_large_is_wrong_as_a_whole() -> None:
    with pytest.raises(CodecError) as caught:
        check_size(b"x" * 100, 10, "parse")

    assert [each.path for each in field_errors(caught.value)] == [""]
    assert "at most 10" in field_errors(caught.value)[0].message
