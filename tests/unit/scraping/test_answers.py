"""The meaning of the status of a response."""

from __future__ import annotations

import pytest

from flowq.errors import Reject, RetryLater
from flowq.scraping import BrokenBody, ServerFailed
from flowq.scraping.answers import Kind, kind_of


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        (Kind.READ, [200, 201, 202, 203, 226]),
        (Kind.EMPTY, [204, 205]),
        (Kind.MOVED, [301, 302, 303, 307, 308]),
        (Kind.UNCHANGED, [304]),
    ],
)
def test_what_is_no_failure_has_a_kind(kind: Kind, statuses: list[int]) -> None:
    assert {kind_of(status, retry_after_seconds=5) for status in statuses} == {kind}


@pytest.mark.parametrize("status", [300, 400, 401, 403, 404, 405, 406, 410, 414, 418, 451, 501, 505, 999])
def test_a_refused_page_is_rejected(status: int) -> None:
    with pytest.raises(Reject, match=f"HTTP {status}"):
        kind_of(status, retry_after_seconds=5)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_host_is_left_alone_as_a_whole(status: int) -> None:
    with pytest.raises(RetryLater) as caught:
        kind_of(status, retry_after_seconds=7)
    assert (caught.value.after, caught.value.hold) == (7, "host")


@pytest.mark.parametrize("status", [408, 425, 500, 502, 504, 507, 509, 511, 520, 522, 524, 525, 529, 598])
def test_what_may_pass_is_tried_again(status: int) -> None:
    with pytest.raises(ServerFailed, match=f"HTTP {status}"):
        kind_of(status, retry_after_seconds=5)


def test_an_unrequested_part_is_never_taken_for_the_page() -> None:
    with pytest.raises(BrokenBody, match="HTTP 206"):
        kind_of(206, retry_after_seconds=5)
