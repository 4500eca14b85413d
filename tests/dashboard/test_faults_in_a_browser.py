"""What the other tests in a browser count as a fault of a page."""

from __future__ import annotations

from tests.dashboard.browser import OpenWindow, faults_of

REJECTED = """() => {
  const text = "Transition was aborted because of invalid state. Page already revealed";
  Promise.reject(new DOMException(text, "InvalidStateError"));
  Promise.reject(new DOMException("another state", "InvalidStateError"));
  Promise.reject(new Error("the last one"));
}"""


def test_a_transition_that_the_browser_leaves_out_is_no_fault_but_every_other_error_is(
    open_window: OpenWindow,
) -> None:
    page = open_window().new_page()
    faults = faults_of(page)
    with page.expect_event("pageerror", lambda error: "the last one" in str(error)):
        page.evaluate(REJECTED)

    assert faults == ["another state", "the last one"]
