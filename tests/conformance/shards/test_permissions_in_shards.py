"""What a user of Redis needs for a pipeline with several shards, and who says so when it is missing in one of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

import flowq
from flowq.broker.inspection.health import ServerHealth, whole_acl
from flowq.broker.keys import Keys
from flowq.broker.migration.resharding import Resharding
from flowq.broker.open import open_broker
from flowq.errors import BrokerRefused
from flowq.settings import Settings
from tests.conformance.test_permissions import Guarded, guarded

__all__ = ["guarded"]  # a fixture

SHARDS = 4


@flowq.stage
async def keep(n: int) -> None: ...


PIPELINE = flowq.Pipeline("lab", keep, shards=SHARDS)


async def run(guarded: Guarded, namespace: str) -> None:
    await flowq.run(PIPELINE, redis=guarded.url, namespace=namespace)


async def test_a_run_does_not_begin_while_the_keys_of_one_shard_are_forbidden(
    guarded: Guarded, unique_namespace: str
) -> None:
    keys = Keys(unique_namespace, "lab")
    guarded.permit("+@all", *(f"~{keys.in_shard(shard).all}" for shard in range(SHARDS) if shard != 2))
    with pytest.raises(BrokerRefused) as refused:
        await run(guarded, unique_namespace)
    assert refused.value.code == "FQ402"

    settings = Settings.of_program(redis=guarded.url, namespace=unique_namespace)
    async with open_broker("lab", settings, SHARDS) as broker:
        with pytest.raises(BrokerRefused, match="use the keys") as named:
            await ServerHealth(broker).refuse_without_permission()
    assert keys.of_all_shards in named.value.hint


@pytest.mark.parametrize("command", ["info", "evalsha", "xadd", "zscan"])
async def test_a_run_over_shards_does_not_begin_without_a_command_and_names_it(
    command: str, guarded: Guarded, unique_namespace: str
) -> None:
    guarded.permit("~*", "+@all", f"-{command}")

    with pytest.raises(BrokerRefused, match=command.upper()) as refused:
        await run(guarded, unique_namespace)
    assert f"+{command}" in refused.value.hint


async def test_a_user_with_the_suggested_rules_runs_a_pipeline_over_shards_and_is_never_refused(
    guarded: Guarded, unique_namespace: str
) -> None:
    keys = Keys(unique_namespace, "lab").of_all_shards
    guarded.permit(*whole_acl(keys).split(), *_of_new_servers(guarded))

    async with flowq.Publisher(PIPELINE, redis=guarded.url, namespace=unique_namespace) as publisher:
        await publisher.push_many(keep, range(40))
    summary = await flowq.run(PIPELINE, redis=guarded.url, namespace=unique_namespace)

    assert summary.stages["keep"].ok == 40
    assert guarded.denials == []


async def test_a_user_with_the_suggested_rules_changes_the_number_of_shards_and_is_never_refused(
    guarded: Guarded, unique_namespace: str
) -> None:
    guarded.permit(*whole_acl(Keys(unique_namespace, "lab").of_all_shards).split(), *_of_new_servers(guarded))
    async with flowq.Publisher(PIPELINE, redis=guarded.url, namespace=unique_namespace) as publisher:
        await publisher.push_many(keep, range(40), delay=3600)

    settings = Settings.of_program(redis=guarded.url, namespace=unique_namespace)
    async with open_broker("lab", settings, SHARDS) as broker:
        await Resharding(broker, replace(PIPELINE.plan, shards=SHARDS + 2)).carry_out()

    assert guarded.denials == []


def _of_new_servers(guarded: Guarded) -> list[str]:
    version = guarded.admin.info("server")["redis_version"].split(".")
    return ["+waitaof"] if (int(version[0]), int(version[1])) >= (7, 2) else []
