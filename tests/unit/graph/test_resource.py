"""Resources: declared, requested, and opened in the order of their dependencies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from flowq import Resource, resource, use
from flowq.graph.kinds import Shape


@resource
def settings() -> dict[str, str]:
    return {}


@resource
async def url() -> str:
    return "redis://"


@resource
def file() -> Iterator[int]:
    yield 3


@resource
async def client(config: dict[str, str] = use(settings), *, url: str = use(url), size: int = 3) -> AsyncIterator[str]:
    yield url


def test_use_gives_the_resource_itself() -> None:
    given: Any = use(client)
    assert given is client


@pytest.mark.parametrize(
    ("declared", "shape"),
    [
        (settings, Shape.FUNCTION),
        (url, Shape.COROUTINE),
        (file, Shape.GENERATOR),
        (client, Shape.ASYNC_GENERATOR),
    ],
)
def test_a_resource_is_a_function_or_a_generator_of_either_kind(declared: Resource[Any], shape: Shape) -> None:
    assert declared.shape is shape


def test_a_resource_names_the_resources_it_needs_and_nothing_else() -> None:
    assert client.requires == {"config": settings, "url": url}
    assert settings.requires == {}


def test_a_builtin_can_be_a_resource() -> None:
    assert resource(max).requires == {}


def test_a_resource_is_known_by_its_function() -> None:
    assert (client.name, repr(client)) == ("client", "<Resource client>")
    assert client.place.file.endswith("test_resource.py")
