"""Small stages to wire, and what a plan of them says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from flowq import Pipeline, PipelineError, source, stage
from flowq.errors import Problem
from flowq.graph.compilation.plan import Plan
from flowq.graph.declaration.flow import Target


class Link(BaseModel):
    url: str


class Page(BaseModel):
    url: str


class Doc(BaseModel):
    url: str


class Scan(Doc): ...


@source
def seeds() -> Iterator[Link]:
    yield Link(url="")


@stage(dedup="url")
async def fetch(link: Link) -> Page | None: ...
@stage
def parse(page: Page) -> Iterator[Doc | Link]: ...
@stage
def parse_scans(page: Page) -> list[Doc | Scan | Link]: ...
@stage
async def store(doc: Doc) -> None: ...
@stage
async def store_scans(scan: Scan) -> None: ...
@stage
async def log(doc: Doc) -> None: ...
@stage
async def note(message: Doc | Link) -> None: ...
@stage
def clean(doc: Doc) -> Doc: ...
@stage
def polish(doc: Doc) -> Doc: ...
@stage
def relink(doc: Doc) -> Link: ...
@stage
def untyped(page: Page) -> Any: ...


def plan_of(*flows: Target[Any]) -> Plan:
    return Pipeline("p", *flows).plan


def wires(plan: Plan) -> list[str]:
    """The edges between stages; "~" marks feedback."""
    return [edge.name + "~" * edge.feedback for edge in plan.edges if not edge.is_inlet]


def routes(plan: Plan, name: str) -> dict[Any, tuple[str, ...]]:
    return {route.type: route.edges for route in plan.stage(name).routes}


def problems_of(*flows: Any, name: str = "p") -> list[Problem]:
    with pytest.raises(PipelineError) as caught:
        Pipeline(name, *flows)
    return list(caught.value.problems)


def named(name: str, template: Any = clean) -> Any:
    return template.options(name=name)
