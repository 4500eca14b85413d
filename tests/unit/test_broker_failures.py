"""Exceptions of calls to Redis, in flowq's words."""

from __future__ import annotations

import pytest
import redis.exceptions as redis_errors

from flowq.broker.client.redis_errors import translate
from flowq.errors import BrokerUnavailable


def test_a_redis_with_too_many_clients_does_not_ask_to_start_it() -> None:
    problem = translate(redis_errors.ConnectionError("max number of clients reached"), "redis://db:6379/0")

    assert isinstance(problem, BrokerUnavailable)
    assert "maxclients" in problem.hint


@pytest.mark.parametrize("error", [redis_errors.ConnectionError("refused"), ConnectionRefusedError(111, "refused")])
def test_one_that_is_not_there_is(error: Exception) -> None:
    problem = translate(error, "redis://db:6379/0")

    assert isinstance(problem, BrokerUnavailable)
    assert "start one" in problem.hint


def test_a_slot_that_has_moved_is_named_as_the_reason() -> None:
    error = translate(redis_errors.MovedError("8319 127.0.0.2:7001"), "127.0.0.1:7000")

    assert isinstance(error, BrokerUnavailable)
    assert error.detail == "the slot has moved: 8319 127.0.0.2:7001"
