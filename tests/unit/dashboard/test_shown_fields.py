"""Secrets in messages are masked wherever they are, and an edit keeps what it could not see."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq.dashboard.access.shown_conditions import conditions_in
from flowq.dashboard.access.shown_fields import MASK, ShownFields, with_masked_parts

ALL, NONE = ShownFields(everything=True), ShownFields(everything=False)
SECRET = "hunter2"
NAMES = ["password", "PassWord", "db_passwd", "passphrase", "pwd", "access_token", "X-Auth-Token", "client secret"]
NAMES += ["Authorization", "authorisation", "api_key", "api-key", "apiKey", "API KEY", "Set-Cookie", "private.key"]

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.sampled_from(["url", "a", "password"]), parts),
    max_leaves=12,
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rules", [ALL, ShownFields(everything=False, paths=("m",))])
def test_a_secret_is_never_shown(name: str, rules: ShownFields) -> None:
    message = {
        "m": {
            name: SECRET,
            "deep": [{name: [SECRET, {"x": SECRET}]}],
            "headers": [[name, SECRET], {"name": name, "value": SECRET}, {"Key": "-", "key": name, "content": SECRET}],
            "url": f"https://ann:{SECRET}@shop.test/",
        }
    }
    assert SECRET not in json.dumps(rules.of(message))
    assert not rules.allows(f"m.{name}")
    assert not rules.allows(f"m.deep.0.{name}.1")
    assert not any(rules.allows(f"m.headers.{path}") for path in ("0.1", "1.value", "2.content"))


def test_only_named_fields_are_shown_where_bodies_are_not() -> None:
    rules = ShownFields(everything=False, paths=("url", "order.id"))
    message = {"url": "/a", "urls": "/b", "order": {"id": 7, "mail": "x@shop.test"}, "n": 1}
    assert rules.of(message) == {"url": "/a", "urls": MASK, "order": {"id": 7, "mail": MASK}, "n": MASK}
    assert [rules.allows(path) for path in ("url", "order.id", "order", "order.mail", "urls", "n")] == [
        *(True, True, False, False, False, False)
    ]
    assert NONE.of("text") == MASK


@pytest.mark.parametrize("operator", ["=", "!=", "~", "<", "<=", ">", ">="])
@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("m{}*s*", {"m": {"headers": {"Authorization": "SECRET"}}}),
        ("url{}*s*", {"url": "https://ann:SECRET@shop.test/"}),
        ("m.1.value.deep{}s", {"m": [0, {"name": "password", "value": {"deep": "SECRET"}}, 0]}),
        ("m.0.1.deep{}s", {"m": [["Cookie", {"deep": "SECRET"}]]}),
        ("order{}*s*", {"order": {"id": 7, "api_key": "SECRET"}}),
    ],
)
def test_a_search_tells_nothing_of_what_is_masked(operator: str, written: str, message: object) -> None:
    with_secrets = [json.loads(json.dumps(message).replace("SECRET", secret)) for secret in ("a", "s", "sss", "z", "~")]
    for rules in (ALL, ShownFields(everything=False, paths=("m", "url", "order"))):
        (condition,) = conditions_in([written.format(operator)], rules)
        assert len(set(map(condition.holds, with_secrets))) == 1


def test_a_search_finds_what_is_shown() -> None:
    message = {"url": "http://a/", "n": 7, "tags": ["x", "y"], "m": [{"name": "color", "value": {"of": "red"}}]}
    written = ["url~http*", "n>6", "tags.1=y", "m.0.value.of=red", 'tags=["x","y"]', "none!=1", "m.3!=x"]
    assert all(condition.holds(message) for condition in conditions_in(written, ALL))
    assert not any(condition.holds(message) for condition in conditions_in(["n<6", "tags.7=y", "url=x"], ALL))


def test_what_has_no_secrets_is_shown_as_it_is() -> None:
    message = {"key": "author", "tags": ["cookie", "recipe"], "has_password": True, "token": None, "u": "http://a/?p=1"}
    assert ALL.of(message) == message


@given(values)
def test_an_edit_that_changes_nothing_keeps_every_secret(message: Any) -> None:
    seen = json.loads(json.dumps(ALL.of(message)))
    assert repr(with_masked_parts(seen, message)) == repr(message)


def test_an_edit_changes_only_what_was_edited() -> None:
    message = {"n": 1, "ok": True, "password": SECRET, "list": [{"token": SECRET}, "http://a:b@c/"]}
    seen: dict[str, Any] = ALL.of(message)
    edited = {**seen, "n": 1.0, "ok": 1, "new": "x"}
    assert repr(with_masked_parts(edited, message)) == repr({**message, "n": 1.0, "ok": 1, "new": "x"})


@pytest.mark.parametrize(
    ("edited", "path"),
    [
        ({"pin": MASK}, "pin"),
        ({"password": SECRET, "list": [MASK]}, "list.0"),
        ({"url": "https://ann:••••••@other.test/"}, "url"),
    ],
)
def test_a_mask_is_never_stored(edited: Any, path: str) -> None:
    with pytest.raises(ValueError, match=f"^{path}$"):
        with_masked_parts(edited, {"password": SECRET, "url": "https://ann:pw@shop.test/"})


@pytest.mark.parametrize(
    ("message", "edited", "path"),
    [
        ({"name": "password", "value": SECRET}, {"name": "color", "value": MASK}, "value"),
        ({"headers": [["Cookie", SECRET]]}, {"headers": [["Accept", MASK]]}, "headers.0.1"),
        ([{"key": "token", "value": {"deep": SECRET}}], [{"key": "page", "value": {"deep": MASK}}], "0.value.deep"),
    ],
)
def test_a_secret_cannot_be_edited_into_the_open(message: Any, edited: Any, path: str) -> None:
    with pytest.raises(ValueError, match=f"^{path}$"):
        with_masked_parts(edited, message)


def test_a_message_as_deep_as_json_may_be_is_cut_not_refused() -> None:
    message: Any = SECRET
    for _ in range(1000):
        message = [message]
    assert SECRET not in json.dumps(ALL.of(message))
