"""Which fields of a message the page shows: secrets are always masked, other fields where bodies are hidden."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

MASK, TOO_DEEP = "•••••• masked", "•••••• nested too deep"
"""Stand for what is not shown. Where an edited message still has them, its old value is meant."""

_DOTS = "••••••"
_DEEPEST = 100  # Python allows about a thousand nested calls
_SECRET_NAME = re.compile(
    r"pass_?(?:word|wd|phrase)|pwd|token|secret|authori[sz]ation|api_?key|private_?key|cookie|credential", re.IGNORECASE
)
_SEPARATORS = re.compile(r"[^a-zA-Z0-9]+")
_NAMES, _VALUES = ("name", "key", "header", "field"), frozenset({"value", "values", "content"})
_LONGEST_NAME = 200
_USER_IN_URL = re.compile(r"(?<=://)([^/?#\s@:]{0,200}):[^/?#\s@]{1,500}@")
_SECRET_IN_QUERY = re.compile(r"(?<=[?&;])([^=&;\s]{1,100}=)([^&;\s#\"'<>]{1,4000})")


@dataclass(frozen=True, slots=True)
class ShownFields:
    """Which fields of messages a page shows.

    `everything`: all of them but secrets. Otherwise only those whose path begins with one of `paths`, such as "url" or
    "order.id".

    >>> shown = ShownFields(everything=True)
    >>> shown.of({"url": "https://ann:s3cret@shop.test/", "headers": {"Authorization": "Bearer 7"}})
    {'url': 'https://ann:••••••@shop.test/', 'headers': {'Authorization': '•••••• masked'}}
    >>> ShownFields(everything=False, paths=("url",)).of({"url": "/a", "mail": "ann@shop.test"})
    {'url': '/a', 'mail': '•••••• masked'}
    """

    everything: bool
    paths: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether no field of any message is shown."""
        return not self.everything and not self.paths

    def allows(self, path: str) -> bool:
        """Whether the field at a path is certainly shown. A search by any other field would reveal its values.

        The second of two items, and the value beside a name, may belong to a secret in some messages.
        """
        names = path.split(".")
        is_beside_a_name = len(names) > 1 and (names[-1].lower() in _VALUES or (names[-1] + names[-2]).isdecimal())
        return self._is_open(names) and not is_secret(path) and not is_beside_a_name

    def of(self, message: Any) -> Any:
        """A JSON value with MASK in place of what is not shown."""
        return self._part(message, ())

    def branch(self, message: Any, path: str) -> Any:
        """What leads to the field at a path, as `of` shows it: quick, however large the message is beside it."""
        return self.of(_branch(message, path.split(".")[:_DEEPEST]))

    def _is_open(self, path: Sequence[str]) -> bool:
        return self.everything or any(_begins(path, shown.split(".")) for shown in self.paths)

    def _part(self, value: Any, path: tuple[str, ...], *, is_pair: bool = False) -> Any:
        if isinstance(value, dict | list) and len(path) >= _DEEPEST:
            return TOO_DEEP
        match value:
            case dict():
                members = cast("Mapping[str, Any]", value)
                names_a_secret = any(isinstance(name := members.get(key), str) and is_secret(name) for key in _NAMES)
                return {
                    name: _masked(part)
                    if is_secret(name) or (names_a_secret and name.lower() in _VALUES)
                    else self._part(part, (*path, name))
                    for name, part in members.items()
                }
            case list():
                items = cast("Sequence[Any]", value)
                if is_pair and len(items) == 2 and isinstance(items[0], str) and is_secret(items[0]):
                    return [items[0], _masked(items[1])]
                return [self._part(item, (*path, str(i)), is_pair=True) for i, item in enumerate(items)]
            case str() if self._is_open(path):
                return masked_text(value)
            case _:
                return value if self._is_open(path) else MASK


SECRETS_MASKED = ShownFields(everything=True)


def is_secret(name: str) -> bool:
    """Whether a field of this name is never shown.

    >>> [is_secret(name) for name in ("api-key", "X-Auth-Token", "apiKey", "set_cookie", "url", "keyboard")]
    [True, True, True, True, False, False]
    """
    return _SECRET_NAME.search(_SEPARATORS.sub("_", name[:_LONGEST_NAME])) is not None


def masked_text(text: str) -> str:
    """A text without the passwords and tokens in its URLs.

    >>> masked_text("GET https://ann:s3cret@shop.test/?token=abc&page=2")
    'GET https://ann:••••••@shop.test/?token=••••••&page=2'
    """
    if "://" in text:
        text = _USER_IN_URL.sub(rf"\1:{_DOTS}@", text)
    if "=" in text:
        text = _SECRET_IN_QUERY.sub(lambda found: found[1] + (_DOTS if is_secret(found[1]) else found[2]), text)
    return text


def with_masked_parts(edited: Any, original: Any, fields: ShownFields = SECRETS_MASKED) -> Any:
    """An edited message with the old values in place of masks; `fields` were shown of it.

    Raises ValueError, with the path of the field, if a mask has no old value, or if that would now be shown, as the
    value beside a name does that was changed from "password" to "color".

    >>> with_masked_parts({"user": "eve", "password": MASK}, {"user": "ann", "password": "s3cret"})
    {'user': 'eve', 'password': 's3cret'}
    >>> with_masked_parts({"pin": MASK}, {"password": "s3cret"})
    Traceback (most recent call last):
    ValueError: pin
    """
    unmasked = _unmasked(edited, original, fields.of(original), ())
    _refuse_revealed(edited, unmasked, fields.of(unmasked), ())
    return unmasked


def _unmasked(edited: Any, original: Any, shown: Any, path: tuple[str, ...]) -> Any:
    if isinstance(edited, dict | list) and len(path) >= _DEEPEST:
        return cast("Any", edited)
    match edited:
        case dict():
            members = cast("Mapping[str, Any]", edited)
            return {
                name: _unmasked(part, _at(original, name), _at(shown, name), (*path, name))
                for name, part in members.items()
            }
        case list():
            items = cast("Sequence[Any]", edited)
            return [_unmasked(part, _at(original, i), _at(shown, i), (*path, str(i))) for i, part in enumerate(items)]
        case str() if edited == shown:
            return original
        case str() if _DOTS in edited and not (isinstance(original, str) and _DOTS in original):
            raise ValueError(".".join(path))
        case _:
            return edited


def _refuse_revealed(edited: Any, unmasked: Any, shown: Any, path: tuple[str, ...]) -> None:
    if isinstance(edited, dict | list) and len(path) >= _DEEPEST:
        return
    match edited:
        case dict():
            for name, part in cast("Mapping[str, Any]", edited).items():
                _refuse_revealed(part, _at(unmasked, name), _at(shown, name), (*path, name))
        case list():
            for i, part in enumerate(cast("Sequence[Any]", edited)):
                _refuse_revealed(part, _at(unmasked, i), _at(shown, i), (*path, str(i)))
        case str() if edited not in (unmasked, shown):
            raise ValueError(".".join(path))
        case _:
            pass


def _at(value: Any, name: str | int) -> Any:
    """The part of an object or list; None if there is none."""
    match value, name:
        case dict(), str():
            return cast("Mapping[str, Any]", value).get(name)
        case list(), int():
            items = cast("Sequence[Any]", value)
            return items[name] if name < len(items) else None
        case _:
            return None


def _branch(value: Any, names: Sequence[str]) -> Any:
    """A message without what is beside a field, except the names that may tell that it is secret."""
    if not names:
        return value
    match value:
        case dict():
            members = cast("Mapping[str, Any]", value)
            beside = {key: name for key in _NAMES if isinstance(name := members.get(key), str)}
            name = names[0]
            return beside | ({name: _branch(members[name], names[1:])} if name in members else {})
        case list():
            items = cast("Sequence[Any]", value)
            position = int(names[0]) if names[0].isdecimal() else -1
            parts = [item if isinstance(item, str) and len(items) == 2 else None for item in items]
            if 0 <= position < len(items):
                parts[position] = _branch(items[position], names[1:])
            return parts
        case _:
            return value


def _masked(value: Any) -> Any:
    return value if value is None or isinstance(value, bool) else MASK


def _begins(path: Sequence[str], beginning: Sequence[str]) -> bool:
    return list(path[: len(beginning)]) == list(beginning)
