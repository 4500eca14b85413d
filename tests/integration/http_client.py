"""Sends HTTP requests to a flowq process."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.flowq_process import FlowqProcess

_URL = re.compile(r"at (http://\S+)/metrics")


@dataclass(frozen=True)
class Answer:
    """Status, and the body as it came."""

    status: int
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def url_of(process: FlowqProcess) -> str:
    """Where a process says that it serves."""
    process.wait_for(lambda: _URL.search(process.stderr))
    found = _URL.search(process.stderr)
    assert found
    return found[1]


def get(url: str) -> Answer:
    """One GET."""
    try:
        with urlopen(url, timeout=60) as response:
            return Answer(response.status, response.read().decode())
    except HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode())


def samples(url: str) -> Mapping[tuple[str, ...], float]:
    """The metrics of a process as Prometheus's own parser reads them: (name, label values by label name) -> value."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(get(f"{url}/metrics").text)
        for sample in family.samples
    }
