"""An action that cannot be done as it was sent leaves a line in the audit, and a flood of them pushes nothing out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from starlette.testclient import TestClient

from flowq import Pipeline, stage
from flowq.broker.audit import AuditRecord
from flowq.dashboard.access.visitors import Visitors
from flowq.dashboard.application import application_of
from flowq.dashboard.live.site import PageOptions, Site
from flowq.settings import Settings


@stage
async def fetch(url: str) -> None:
    print(url)


class Acting:
    """Requests of an open page, without a server."""

    def __init__(self, client: TestClient, site: Site, page_token: str) -> None:
        self._client, self._site, self._page_token = client, site, page_token

    def do(self, action: str, body: str, **headers: str) -> int:
        own = {"origin": "http://testserver", "sec-fetch-site": "same-origin", "x-flowq-token": self._page_token}
        sent = {"content-type": "application/json", **own, **headers}
        return self._client.post(f"/p/shop/do/{action}", content=body, headers=sent).status_code

    def audit(self) -> Sequence[AuditRecord]:
        portal = self._client.portal
        assert portal is not None
        return portal.call(self._site.watch("shop").inspector.audit, 100)


@pytest.fixture
def page() -> Iterator[Acting]:
    visitors, options = Visitors(), PageOptions(allow_actions=True)
    settings = Settings.of_program(redis="memory")
    app = application_of([Pipeline("shop", fetch).plan], settings, options, visitors, hosts=None)
    with TestClient(app) as client:
        yield Acting(client, app.state.site, visitors.page_token("local"))


@pytest.mark.parametrize(
    ("action", "body", "reason"),
    [
        ("purge", "{", "the request is not valid"),
        ("retry", '{"no such field": 1}', "the request is not valid"),
        ("pause", '{"stage": "fech"}', 'pipeline "shop" has no stage "fech"'),
        ("remove", '{"letter": "x", "stage": "fetch"}', '"x" is not the id of a letter'),
        ("retry", '{"where": "[\\"url=/a\\"]"}', 'the field "url" is not shown here, and cannot be searched'),
        ("release", '{"stage": "fetch", "key": "a"}', "fetch has no rate, and no pacing keys"),
    ],
)
def test_an_action_that_is_not_valid_is_recorded(page: Acting, action: str, body: str, reason: str) -> None:
    assert page.do(action, body) == 422
    (record,) = page.audit()
    assert record.actor == "local@testclient (web)"
    assert record.result == f"refused: {reason}"


def test_a_question_is_not_recorded(page: Acting) -> None:
    for body in ('{"dry_run": true, "stage": "fech"}', '{"dry_run": true, "no such field": 1}', '{"dry_run": true}'):
        assert page.do("pause", body) == 200
    assert page.audit() == []


def test_a_flood_of_them_pushes_nothing_out(page: Acting) -> None:
    page.do("pause", "{}")
    for _ in range(15):
        page.do("purge", "{")
        page.do("purge", "{}", origin="http://example.org")
        page.do("pause", '{"stage": "fech"}')
    refused = [record for record in page.audit() if record.result.startswith("refused: ")]
    assert len(refused) == 20
    assert len(page.audit()) == 21
