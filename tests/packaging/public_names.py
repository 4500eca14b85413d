"""The public names of flowq with their parameters, as text: `python -m tests.packaging.public_names` writes them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel

FILE = Path(__file__).with_name("public_names.txt")
MODULES = ("flowq", "flowq.sources", "flowq.scraping", "flowq.testing")


def public_names() -> str:
    """A line for each name in `__all__`, and for each public attribute of a class that flowq defines."""
    return "".join(f"{line}\n" for module in MODULES for line in _of_module(module))


def _of_module(name: str) -> Iterator[str]:
    module = import_module(name)
    for public in sorted(module.__all__):
        value = getattr(module, public)
        yield f"{name}.{public}{_parameters(value)}"
        if inspect.isclass(value):
            yield from (f"{name}.{public}.{member}" for member in sorted(_members(value)))


def _members(class_: type[Any]) -> Iterator[str]:
    """The public attributes that flowq gives to a class, apart from those of its bases outside of flowq."""
    own = [base for base in class_.__mro__ if base.__module__.startswith("flowq") and base is not class_]
    fields = set(class_.model_fields) if issubclass(class_, BaseModel) else set[str]()
    names = {name for base in (class_, *own) for name in vars(base) if name != "model_config"} | fields
    for name in names:
        if not name.startswith("_"):
            value = inspect.getattr_static(class_, name, None)
            called = getattr(class_, name, None)
            yield name + (_parameters(called) if inspect.isroutine(called) or isinstance(value, classmethod) else "")


def _parameters(value: Any) -> str:
    """The names of the parameters; `=` after those that may be left out."""
    if not callable(value):
        return ""
    if inspect.isclass(value) and value.__init__ in (Exception.__init__, BaseException.__init__):
        return "(...)"
    signature = inspect.signature(value)
    plain = [
        parameter.replace(
            annotation=inspect.Parameter.empty,
            default=inspect.Parameter.empty if parameter.default is inspect.Parameter.empty else _Left(),
        )
        for parameter in signature.parameters.values()
        if parameter.name != "self"
    ]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))


class _Left:
    """A default, whatever it is."""

    def __repr__(self) -> str:
        return "…"


if __name__ == "__main__":
    FILE.write_text(public_names())
