"""One parameter of a command for several options: `settings: Here` stands for --redis, --namespace and --profile."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of each group in place of its parameter, as Typer needs it.

    `Annotated[Value, make]` is a group: the parameters of `make` are its options, and its result is the value. What
    it raises ends the command before it begins.
    """
    groups: dict[str, tuple[Callable[..., Any], list[inspect.Parameter]]] = {}
    options: list[inspect.Parameter] = []
    for parameter in _parameters(command):
        make = getattr(parameter.annotation, "__metadata__", (None,))[0]
        if inspect.isfunction(make):
            groups[parameter.name] = make, _parameters(make)
            options += groups[parameter.name][1]
        else:
            options.append(parameter)

    @wraps(command)
    def called(**values: Any) -> None:
        for name, (make, members) in groups.items():
            values[name] = make(**{option.name: values.pop(option.name) for option in members})
        command(**values)

    called.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    return called


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    found = inspect.signature(function, eval_str=True).parameters.values()
    return [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in found]
