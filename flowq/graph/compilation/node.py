"""Stages and their connections as the compiler sees them: options checked, functions read."""

from __future__ import annotations

from dataclasses import dataclass

from flowq.errors import Place
from flowq.graph.compilation.signature import Signature
from flowq.graph.declaration.definition import Definition
from flowq.graph.declaration.options import Options


@dataclass(frozen=True, slots=True)
class Feed:
    """The outputs of `origin`, shared by type among `targets`."""

    origin: Node
    targets: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Node:
    """A declared stage with everything read from it."""

    definition: Definition
    options: Options
    signature: Signature

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def place(self) -> Place:
        return self.definition.place

    @property
    def accepts_messages(self) -> bool:
        return self.definition.accepts_messages

    @property
    def is_sink(self) -> bool:
        return self.accepts_messages and self.signature.output_known and not self.signature.emits
