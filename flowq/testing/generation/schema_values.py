"""Makes up JSON values that fit a type, from the schema that pydantic has built for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from hypothesis import strategies as st

from flowq.testing.generation.schema_scalars import Node, Values, as_json, scalars_of, written

_ANYTHING: Node = {"type": "any"}
_TEXT: Node = {"type": "str"}


class NoValues(Exception):
    """A schema that does not say which values fit it: `kind`, in the field at `path`."""

    def __init__(self, kind: str, path: str) -> None:
        super().__init__(kind)
        self.kind = kind
        self.path = path


class SchemaValues:
    """Strategies for the JSON values of one type. Validators that are functions may refuse some of them.

    `fields` are strategies of the user's for single fields, by their dotted paths; `used` are the paths that exist.
    """

    def __init__(self, schema: Node, fields: Mapping[str, st.SearchStrategy[Any]]) -> None:
        self._schema = schema
        self._definitions: dict[str, Node] = {node["ref"]: node for node in schema.get("definitions", ())}
        self._made: dict[tuple[str, str | None], Values] = {}
        self._fields = fields
        self.used: set[str] = set()

    def values(self) -> Values:
        """The values of the type. Raises NoValues."""
        return self._values(self._schema, "")

    def _values(self, node: Node, path: str) -> Values:
        if path in self._fields:
            self.used.add(path)
            return self._fields[path].map(as_json)
        scalars = scalars_of(node)
        return self._containers(node, path) if scalars is None else scalars

    def _containers(self, node: Node, path: str) -> Values:
        match kind := node["type"]:
            case "definition-ref":
                return self._referenced(node["schema_ref"], path)
            case "nullable":
                return st.none() | self._values(node["schema"], path)
            case "union" | "tagged-union":
                return self._union(node, path)
            case "list" | "set" | "frozenset" | "deque":
                return self._items(node, path)
            case "tuple":
                return self._tuple(node, path)
            case "dict" | "ordered-dict" | "counter":
                return self._dict(node, path)
            case "model-fields" | "dataclass-args" | "typed-dict" | "named-tuple":
                return self._object(node, path)
            case "json":
                return self._values(node.get("schema", _ANYTHING), path).map(json.dumps)
            case "chain":
                return self._values(node["steps"][0], path)
            case _:
                for key in ("schema", "json_schema", "lax_schema"):  # it says more about another schema
                    if key in node:
                        return self._values(node[key], path)
                raise NoValues(kind, path)

    def _referenced(self, name: str, path: str) -> Values:
        """A type that may contain itself: one strategy wherever it is, except where it has fields of the user's."""
        has_fields = any(not path or f"{field}.".startswith(f"{path}.") for field in self._fields)
        key = (name, path if has_fields else None)
        if key not in self._made:
            made: list[Values] = []
            self._made[key] = st.deferred(lambda: made[0])
            made.append(self._values(self._definitions[name], path))
        return self._made[key]

    def _union(self, node: Node, path: str) -> Values:
        choices: Any = node["choices"]
        listed: Iterable[Node | tuple[Node, str]] = choices if node["type"] == "union" else choices.values()
        return st.one_of([self._values(each[0] if isinstance(each, tuple) else each, path) for each in listed])

    def _items(self, node: Node, path: str) -> Values:
        items, (shortest, longest) = self._values(node.get("items_schema", _ANYTHING), path), _sizes(node)
        unique_by = written if node["type"] in ("set", "frozenset") else None
        return st.lists(items, min_size=shortest, max_size=longest, unique_by=unique_by)

    def _tuple(self, node: Node, path: str) -> Values:
        parts: list[Values] = [self._values(each, path).map(_in_list) for each in node["items_schema"]]
        variadic: int | None = node.get("variadic_item_index")
        if variadic is not None:
            shortest, longest = _sizes(node)
            n_fixed = len(parts) - 1
            parts[variadic] = st.lists(
                self._values(node["items_schema"][variadic], path),
                min_size=max(0, shortest - n_fixed),
                max_size=None if longest is None else max(0, longest - n_fixed),
            )
        return st.tuples(*parts).map(lambda held: [each for part in held for each in part])

    def _dict(self, node: Node, path: str) -> Values:
        keys = self._values(node.get("keys_schema", _TEXT), path).map(_as_key)
        values, (fewest, most) = self._values(node.get("values_schema", _ANYTHING), path), _sizes(node)
        return st.dictionaries(keys, values, min_size=fewest, max_size=most)

    def _object(self, node: Node, path: str) -> Values:
        """The fields of a model, a dataclass, a TypedDict or a NamedTuple."""
        required: dict[str, Values] = {}
        optional: dict[str, Values] = {}
        for name, field in _named_fields(node).items():
            if field.get("init") is False:
                continue
            alias = field.get("validation_alias")
            may_lack = field["schema"]["type"] == "default" or not field.get("required", node.get("total", True))
            values = self._values(field["schema"], f"{path}.{name}" if path else name)
            (optional if may_lack else required)[alias if isinstance(alias, str) else name] = values
        return st.fixed_dictionaries(required, optional=optional)


def _named_fields(node: Node) -> Mapping[str, Node]:
    fields: Mapping[str, Node] | list[Node] = node["fields"]
    return {each["name"]: each for each in fields} if isinstance(fields, list) else fields


def _sizes(node: Node) -> tuple[int, int | None]:
    return node.get("min_length", 0), node.get("max_length")


def _in_list(value: Any) -> list[Any]:
    return [value]


def _as_key(value: Any) -> str:
    return value if isinstance(value, str) else written(value)
