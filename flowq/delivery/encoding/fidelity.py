"""Tells from the schema of a type whether its values survive a round trip through JSON.

There are three answers. Proven: nothing is checked when a message is sent. Open: each encoded value is decoded again
and compared before it is sent. Impossible: the type is refused at import.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Flag
from typing import Any

from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic_core import SchemaSerializer, SchemaValidator

from flowq.delivery.encoding.difference import ignores_fields
from flowq.delivery.encoding.suspects import (
    Suspect,
    has_long_integer,
    has_odd_moment,
    is_null_among_it,
    may_hold_subclass,
)

_SECRETS = (SecretStr, SecretBytes, Secret)
_LOSSLESS_KEYS = {"str", "int", "bool", "uuid", "date", "bytes"}
_NO_KEYS = {"tuple", "list", "set", "frozenset", "dict", "model", "dataclass", "typed-dict", "none"}
_PLAIN = {"str", "bool", "none", "date", "timedelta", "uuid", "decimal"}
_HARMLESS_CONFIG = {
    "title", "from_attributes", "loc_by_alias", "validate_default", "hide_input_in_errors", "cache_strings",
    "regex_engine", "validate_by_alias", "validate_by_name", "serialize_by_alias", "str_max_length",
    "str_min_length", "str_strip_whitespace", "str_to_lower", "str_to_upper", "allow_inf_nan",
}  # fmt: skip
_JSON_KINDS = {
    "str": "string", "int": "number", "float": "number", "bool": "bool", "list": "array", "tuple": "array",
    "set": "array", "frozenset": "array", "dict": "object", "model": "object", "typed-dict": "object",
}  # fmt: skip
_BY_REFERENCE = ("schema", "items_schema", "keys_schema", "values_schema", "json_schema", "python_schema", "lax_schema",
                 "strict_schema", "extras_schema", "steps", "choices", "definitions", "fields")  # fmt: skip


@dataclass
class Fidelity:
    """What the schema of a type says about it. `suspects` pick the values of a proven type to compare after all.

    `suspect_when_long` is asked only about bodies of more than `MOST_DIGITS` bytes.
    """

    proven: bool = True
    impossible: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])  # what, and the remedy
    suspects: list[Suspect] = field(default_factory=list[Suspect])
    suspect_when_long: Suspect | None = None
    has_aliases: bool = False
    has_computed: bool = False
    has_bytes: bool = False
    discriminates_by_alias: bool = False
    equality_ignores_fields: bool = False  # for some class within the type


def fidelity_of(schema: Mapping[str, Any]) -> Fidelity:
    """Reads the core schema that pydantic has built for a type."""
    return _Reading(schema).result()


def children(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas directly within a schema, each with its key."""
    for key in _BY_REFERENCE:
        held = node.get(key)
        if isinstance(held, Mapping) and not isinstance(held.get("type"), str):  # pyright: ignore[reportUnknownMemberType]
            held = list(held.values())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        for child in held if isinstance(held, list) else [held]:  # pyright: ignore[reportUnknownVariableType]
            child = child[0] if isinstance(child, tuple) else child  # pyright: ignore[reportUnknownVariableType]
            if isinstance(child, Mapping):
                yield key, child


class _Reading:
    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._definitions = {node["ref"]: node for node in schema.get("definitions", ())}
        self._found = Fidelity()
        self._visited: set[str] = set()
        self._above: list[str] = []
        self._direct: dict[str, list[str]] = {"int": [], "moment": []}
        self._deep: set[str] = set()
        self._classes: dict[type[Any], None] = {}
        self._top = self._inner(schema)
        self._is_validated = self._top["type"] == "model"  # by pydantic, when the value was made
        if self._top["type"] == "dataclass":
            self._is_validated = is_pydantic_dataclass(self._top["cls"])
        self._visit(self._top, "")

    def result(self) -> Fidelity:
        found, direct, deep = self._found, self._direct, self._deep
        if "moment" in deep:
            found.proven = False
        if "float" in deep:
            found.suspects.append(is_null_among_it)
        if direct["moment"]:
            found.suspects.append(has_odd_moment(direct["moment"]))
        if "int" in deep or direct["int"]:
            found.suspect_when_long = has_long_integer(direct["int"], search="int" in deep)
        if self._classes:
            found.suspects.append(may_hold_subclass(list(self._classes)))
        return found

    def _inner(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        while node["type"] in ("definitions", "definition-ref"):
            node = node["schema"] if node["type"] == "definitions" else self._definitions[node["schema_ref"]]
        return node

    def _open(self) -> None:
        self._found.proven = False

    # A path is the attribute that holds the value: "" for the value itself, None for anything deeper.

    def _visit(self, node: Mapping[str, Any], path: str | None) -> None:
        node = self._inner(node)
        if (reference := node.get("ref")) is None:
            self._visit_node(node, path)
        elif reference not in self._above:  # else a recursive type
            self._above.append(reference)
            self._visit_node(node, path)
            self._above.pop()

    def _visit_node(self, node: Mapping[str, Any], path: str | None) -> None:
        kind: str = node["type"]
        if "serialization" in node:
            self._visit_written_by_function(node)
        elif kind in ("default", "nullable"):
            if "on_error" in node and node["on_error"] != "raise":
                self._open()
            self._visit(node["schema"], path)
        elif kind in _PLAIN or kind in ("int", "float", "datetime", "time", "bytes"):
            self._visit_scalar(node, kind, path)
        elif kind in ("enum", "literal"):
            self._visit_members(node)
        elif kind in ("list", "tuple", "set", "frozenset", "dict"):
            self._visit_container(node, kind, path)
        elif kind in ("model", "dataclass"):
            self._visit_class(node, kind, path)
        elif kind in ("union", "tagged-union"):
            self._visit_union(node, kind)
        else:
            self._visit_other(node, kind)

    def _visit_written_by_function(self, node: Mapping[str, Any]) -> None:
        written_by = getattr(node["serialization"].get("function"), "__module__", "")
        if written_by == "pydantic.types":
            self._refuse_secrets(node)
        if written_by != "pydantic.networks" or not self._is_validated:  # URLs are written unchanged
            self._open()

    def _refuse_secrets(self, node: Mapping[str, Any]) -> None:
        if any(issubclass(class_, _SECRETS) for class_ in _functions(node) if isinstance(class_, type)):
            what, remedy = "a secret is written as asterisks", "use str, or reveal it with @field_serializer"
            self._found.impossible.append((what, remedy))

    def _visit_scalar(self, node: Mapping[str, Any], kind: str, path: str | None) -> None:
        is_constrained = bool(node.keys() - {"type", "ref", "metadata", "microseconds_precision"})
        if node.get("strict") or (is_constrained and not self._is_validated):
            self._open()
        if kind == "bytes":
            self._found.has_bytes = True
        elif kind == "decimal" and not self._is_validated:  # NaN
            self._open()
        elif kind in ("datetime", "time") and path is not None:
            self._direct["moment"].append(path)
        elif kind == "int" and path is not None:
            self._direct["int"].append(path)
        elif kind in ("datetime", "time"):
            self._deep.add("moment")
        elif kind in ("int", "float"):
            self._deep.add(kind)

    def _visit_members(self, node: Mapping[str, Any]) -> None:
        """Try every value: there are few."""
        if node["type"] == "enum" and (issubclass(node["cls"], Flag) or node.get("missing") is not None):
            return self._open()
        values = node["members"] if node["type"] == "enum" else node["expected"]
        if lost := [value for value in values if not _survives(node, value)]:
            self._found.impossible.append((f"{lost[0]!r} does not arrive unchanged", "use strings or integers"))
        return None

    def _visit_container(self, node: Mapping[str, Any], kind: str, path: str | None) -> None:
        if not self._is_validated or node.get("strict"):
            self._open()
        for key, child in children(node):
            if key == "keys_schema":
                self._visit_keys(self._inner(child))
            self._visit(child, None)

    def _visit_keys(self, node: Mapping[str, Any]) -> None:
        kind = node["type"]
        lost = kind in _NO_KEYS
        if kind in ("enum", "literal"):
            values = node["members"] if kind == "enum" else node["expected"]
            as_key = {"type": "dict", "keys_schema": node, "values_schema": {"type": "int"}}
            lost = not all(_survives(as_key, {value: 1}) for value in values)
        elif kind not in _LOSSLESS_KEYS:
            self._open()
        if lost:
            name = node["cls"].__name__ if "cls" in node else kind
            self._found.impossible.append(
                (f"a dict cannot have keys of type {name} in JSON", "use str keys, or a list of pairs")
            )

    def _visit_class(self, node: Mapping[str, Any], kind: str, path: str | None) -> None:
        class_: type[Any] = node["cls"]
        if path != "":
            self._classes[class_] = None
        if (reference := node.get("ref")) in self._visited:
            return
        if reference is not None:
            self._visited.add(reference)
        if ignores_fields(class_):
            self._found.equality_ignores_fields = True
        is_unvalidated = kind == "dataclass" and not is_pydantic_dataclass(class_)
        runs_code = node.get("custom_init") or node.get("post_init")
        if is_unvalidated or runs_code or getattr(class_, "__private_attributes__", None):
            self._open()
        config = node.get("config", {})
        unknown = config.keys() - _HARMLESS_CONFIG - {"extra_fields_behavior"}
        if unknown or config.get("extra_fields_behavior") == "allow":
            self._open()
        for _, fields in children(node):
            self._visit_fields(fields, class_, path)

    def _visit_fields(self, node: Mapping[str, Any], class_: type[Any], path: str | None) -> None:
        if node["type"] not in ("model-fields", "dataclass-args"):
            is_root = issubclass(class_, BaseModel) and class_.__pydantic_root_model__
            return self._visit(node, "root" if is_root and path == "" else None) if is_root else self._visit_other(node)
        if node.get("computed_fields"):
            self._found.has_computed = True
        if node.get("extras_schema") or node.get("extra_behavior") == "allow":
            self._open()
        fields: dict[str, Any] = node["fields"]
        if node["type"] == "dataclass-args":
            fields = {each["name"]: each for each in node["fields"]}
        for name, each in fields.items():
            self._visit_field(name, each, fields, class_)
            self._visit(each["schema"], name if path == "" else None)
        return None

    def _visit_field(self, name: str, node: Mapping[str, Any], others: Mapping[str, Any], class_: type[Any]) -> None:
        alias = node.get("validation_alias")
        if alias is not None or "serialization_alias" in node:
            self._found.has_aliases = True
            if alias is not None and (not isinstance(alias, str) or alias in others):
                self._open()
        if node.get("init") is False or node.get("init_only") or "serialization_exclude_if" in node:
            self._open()
        if node.get("serialization_exclude"):
            self._open()
            if node["schema"]["type"] != "default":
                what = f"{class_.__name__}.{name} has exclude=True and no default, so it cannot be decoded again"
                self._found.impossible.append((what, "add a default, or drop exclude=True"))

    def _visit_union(self, node: Mapping[str, Any], kind: str) -> None:
        choices = [self._inner(child) for key, child in children(node) if key == "choices"]
        if kind == "union":
            kinds = [_JSON_KINDS.get(choice["type"]) for choice in choices]
            if None in kinds or len(set(kinds)) < len(kinds):
                self._open()
        else:
            if not isinstance(node["discriminator"], str):
                self._open()
            for choice in choices:
                fields = choice.get("schema", {}).get("fields", {})
                if isinstance(node["discriminator"], str) and node["discriminator"] not in fields:
                    self._found.discriminates_by_alias = True
                    self._open()
        for choice in choices:
            self._visit(choice, None)

    def _visit_other(self, node: Mapping[str, Any], kind: str = "") -> None:
        """Everything that the schema does not describe: functions, Any, types of other libraries."""
        self._open()
        self._refuse_secrets(node)
        if kind == "json":
            self._found.has_computed = True
        if kind in ("callable", "is-subclass"):
            self._found.impossible.append(("a function or class cannot be written as JSON", "send its name"))
        if kind == "generator":
            self._found.impossible.append(("an iterator can be read only once", "use list[...]"))
        if kind == "typed-dict":
            for each in node["fields"].values():
                self._visit_field("", each, node["fields"], node.get("cls", dict))
                self._visit(each["schema"], None)
            return
        for _, child in children(node):
            if "type" in child and kind not in ("lax-or-strict", "json-or-python"):
                self._visit(child, None)


def _functions(node: Mapping[str, Any]) -> Iterator[Any]:
    if isinstance(node.get("function"), Mapping):
        yield node["function"].get("function")
    for _, child in children(node):
        yield from _functions(child)


def _survives(node: Any, value: Any) -> bool:
    try:
        back = SchemaValidator(node).validate_json(SchemaSerializer(node).to_json(value))
    except Exception:  # noqa: BLE001  (the value's own methods may raise anything)
        return False
    return bool(back == value and type(back) is type(value))
