"""Parameters of a command that several options make up: `settings: Here` stands for --redis, --namespace, --profile."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class MadeBy:
    """Within `Annotated`: the function whose parameters are the options, and whose result the command is given."""

    make: Callable[..., Any]


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer has to see it: the options stand where what they make up stands.

    Whatever a function raises about its options ends the command before it begins.
    """
    makers: dict[str, tuple[Callable[..., Any], Sequence[str]]] = {}
    options: list[inspect.Parameter] = []
    for parameter in _parameters(command):
        own = [found.make for found in getattr(parameter.annotation, "__metadata__", ()) if isinstance(found, MadeBy)]
        parts = _parameters(own[0]) if own else [parameter]
        if own:
            makers[parameter.name] = own[0], [part.name for part in parts]
        options += parts

    def called(**given: Any) -> None:
        made = {
            name: make(**{option: given.pop(option) for option in options}) for name, (make, options) in makers.items()
        }
        command(**given, **made)

    called.__doc__, called.__module__ = command.__doc__, command.__module__
    called.__annotations__ = {option.name: option.annotation for option in options}
    called.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    return called


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    found = inspect.signature(function, eval_str=True).parameters.values()
    return [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in found]
