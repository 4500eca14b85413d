"""`flowq run dispatch` with receivers that fail: what reached them, compared with an oracle that reads the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from examples.dispatch.oracle import Expected, expected
from examples.dispatch.receivers import SECRET, Received, receivers
from tests.integration.flowq_process import FlowqProcess
from tests.integration.january import january

TWICE = (23,)
NEW_SECRET = "whsec_YW5vdGhlciBvbmUgdGhhdCBpcyBub25l"


@dataclass(frozen=True)
class Sent:
    """Everything has been sent, and the pipeline been run once more."""

    run: FlowqProcess
    second: FlowqProcess
    received: Received
    expected: Expected

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        stages: dict[str, dict[str, Any]] = self.run.summary["stages"]
        return stages


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    """January, one of its days a second time, to receivers that know only the new one of two secrets."""
    with (
        january(tmp_path_factory.mktemp("dispatch"), again=TWICE) as flights,
        receivers(flights.file, retry_after=0.02, secret=NEW_SECRET) as to,
    ):
        settings = {
            "DISPATCH_WEBHOOKS": to.webhooks,
            "DISPATCH_SMTP": to.smtp,
            "DISPATCH_SECRETS": f"{SECRET} {NEW_SECRET}",
            "DISPATCH_RETRY_SECONDS": "0.05",
        }
        first = flights.run("dispatch", **settings)
        second = flights.run("dispatch", **settings)
        yield Sent(first, second, to.received, expected(flights.file))


def test_the_counters_are_those_of_the_oracle(sent: Sent) -> None:
    outcome, stages = sent.expected, sent.stages
    assert sent.run.wait() == 3, sent.run.stderr
    assert stages["notify"]["in"] == outcome.rows
    assert stages["notify"]["filtered"] == outcome.filtered
    assert stages["webhook"]["in"] == outcome.hooks
    assert stages["webhook"]["ok"] == len(outcome.applied)
    assert stages["webhook"]["dead"] == len(outcome.gone) > 0
    assert stages["webhook"]["retries"] == outcome.hook_retries
    assert stages["email"]["in"] == stages["email"]["ok"] == len(outcome.mails)
    assert stages["email"]["retries"] == outcome.faults["451"]


def test_a_flight_that_occurs_twice_is_notified_once(sent: Sent) -> None:
    duplicates = [sent.stages[stage]["duplicates"] for stage in ("webhook", "email")]
    assert sum(duplicates) == sent.expected.repeated > 0


def test_every_kind_of_fault_was_met_as_often_as_the_oracle_says(sent: Sent) -> None:
    assert min(sent.expected.faults[fault] for fault in ("410", "429", "500", "lost", "451")) > 0
    assert sent.received.faults == sent.expected.faults


def test_every_webhook_is_applied_once_and_comes_with_the_same_id_in_each_try(sent: Sent) -> None:
    received = sent.received
    assert received.requests == sent.expected.requests
    assert sorted(received.applied.values()) == sorted(sent.expected.applied)
    assert received.again.total() == len(received.again) == sent.expected.faults["lost"]
    assert received.bad_signatures == 0


def test_every_mail_arrives_once_with_an_id_of_its_own(sent: Sent) -> None:
    assert sorted(sent.received.mails.values()) == sorted(sent.expected.mails)
    assert sent.received.mails_sent == len(sent.received.mails)


def test_a_second_run_sends_nothing_again(sent: Sent) -> None:
    assert sent.second.wait() == 0, sent.second.stderr
    assert [counters["in"] for counters in sent.second.summary["stages"].values()] == [0, 0, 0, 0]
