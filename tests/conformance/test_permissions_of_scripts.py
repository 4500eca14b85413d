"""A script whose user lacks a permission is refused before it has changed anything: Lua does not roll back.

Each case calls one script as flowq does. Then the keys are put back to what they were before the call, and users who
lack one command each repeat it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import hiredis
import pytest
import redis

from flowq.broker import scripts
from flowq.broker.client.connection import Dialer, Link, UrlDialer
from flowq.broker.inspection.health import whole_acl
from flowq.broker.keys import Keys
from flowq.broker.publishing import Publishing
from flowq.broker.scripts import Script
from flowq.broker.settling import Settling
from flowq.delivery.encoding.dedup_key import dedup_hash
from flowq.delivery.policy import DedupMemory
from flowq.errors import BrokerRefused
from tests.conformance.script_cases import CASES, Case, Lab
from tests.conformance.worker import IN, Worker, done, output
from tests.redis_server import KINDS, RedisServer

ALL = {value.name: value for value in vars(scripts).values() if isinstance(value, Script)}
OF_SCRIPTS = (b"EVAL", b"EVALSHA")
COMMANDS = sorted({rule[1:] for rule in whole_acl("").split() if rule[0] == "+"} - {"eval", "evalsha"})
DAY_MS = 86_400_000
LEAVES_IT_TO_PUBLISH = [-2]
"""What publish_plain answers if publish.lua has to do it, which asks for what is missing."""


class Server:
    """A server, its administrator, and a user who has the suggested permissions, perhaps without a command."""

    def __init__(self, server: RedisServer, admin: Any) -> None:
        self.admin, self.url = admin, server.url
        self.limited_url = server.url.replace("unix://", "unix://worker:sesame@")

    def permit(self, keys: Keys, *, without: str = "") -> None:
        rules = [*whole_acl(keys.all).split(), *([f"-{without}"] if without else [])]
        self.admin.execute_command("ACL", "SETUSER", "worker", "reset", "on", ">sesame", *rules)

    def state(self, keys: Keys) -> Mapping[bytes, bytes]:
        """Every key of the pipeline as Redis dumps it."""
        return {name: self.admin.dump(name) for name in sorted(self.admin.keys(keys.all))}

    def put_back(self, keys: Keys, state: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
        """Make the keys what they were. Returns them as Redis dumps them now: an equal stream may look different."""
        for name in self.admin.keys(keys.all):
            self.admin.delete(name)
        for name, dump in state.items():
            self.admin.restore(name, 0, dump)
        return self.state(keys)


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with RedisServer(request.param) as server, redis.Redis.from_url(server.url) as admin:
        yield Server(server, admin)


@pytest.fixture
def keys(unique_namespace: str) -> Keys:
    return Keys(unique_namespace, "lab")


@dataclass
class Watcher:
    """Connections that note the last call of a script, and what the keys were before it."""

    dialer: Dialer
    server: Server
    keys: Keys
    script: Script
    words: Sequence[bytes] = ()
    before: Mapping[bytes, bytes] = field(default_factory=dict[bytes, bytes])

    def __post_init__(self) -> None:
        self.url, self.address, self.is_private = self.dialer.url, self.dialer.address, self.dialer.is_private

    async def dial(self) -> Any:
        return _Watched(await self.dialer.dial(), self)

    def note(self, command: Sequence[bytes]) -> None:
        if command[0] in OF_SCRIPTS and command[1] in (self.script.digest, self.script.text):
            self.words, self.before = command[2:], self.server.state(self.keys)

    def call(self) -> tuple[Any, ...]:
        """The noted call, by text: whatever else the server has forgotten."""
        n_keys = int(self.words[0])
        return self.script.by_text(self.words[1 : 1 + n_keys], self.words[1 + n_keys :])


class _Watched:
    """A connection as flowq uses one."""

    def __init__(self, connection: Any, watcher: Watcher) -> None:
        self._connection, self._watcher = connection, watcher

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def ask(self, request: bytes, n_replies: int, **options: Any) -> list[Any]:
        reader = hiredis.Reader()
        reader.feed(request)
        for _ in range(n_replies):
            self._watcher.note(reader.gets())
        answers: list[Any] = await self._connection.ask(request, n_replies, **options)
        return answers


async def refused_commands(script: Script, case: Case, server: Server, keys: Keys) -> set[str]:
    """The commands without which this call of a script is refused. Fails if a call that is refused changes anything."""
    watcher = Watcher(UrlDialer(server.url), server, keys, script)
    async with AsyncExitStack() as stack:
        worker, other = [await Worker.sign_on(watcher, keys, name) for name in ("first", "second")]
        direct = Link(watcher)
        for each in (worker, other, direct):
            stack.push_async_callback(each.close)

        async def command(*words: Any) -> Any:
            return await direct.call(*words, timeout_seconds=60)

        await case(Lab(worker, other, keys, command))
    call = watcher.call()

    async def repeat(without: str) -> tuple[bool, bool]:
        """Whether the call is refused, and whether it changes anything."""
        server.permit(keys, without=without)
        before, link, is_refused = server.put_back(keys, watcher.before), Link(UrlDialer(server.limited_url)), False
        try:
            is_refused = await link.call(*call, timeout_seconds=60) == LEAVES_IT_TO_PUBLISH
        except BrokerRefused:
            is_refused = True
        finally:
            await link.close()
        return is_refused, server.state(keys) != before

    checks_first = b"acl_check_cmd" in script.text
    assert await repeat("") == (False, checks_first), "each script that writes checks first"
    text = script.text.lower()
    outcomes = {name: await repeat(name) for name in COMMANDS if name.partition("|")[0].encode() in text}
    assert [name for name, outcome in outcomes.items() if outcome == (True, True)] == []
    return {name for name, (is_refused, _) in outcomes.items() if is_refused}


def named_in(script: Script) -> set[str]:
    """The commands that a script names, but for those that it only checks."""
    text = re.sub(
        rb"(?:check_permissions|is_permitted)\(.*|^local (?:COMMANDS|TO_REOPEN) .*", b"", script.text, flags=re.M
    )
    return {name.decode().lower() for name in re.findall(rb"'([A-Z]+)'", text)}


async def _publish_twice(lab: Lab) -> None:
    """With a counter to begin with: one that is taken back stays, as 0."""
    for call in ("first", "second"):
        messages = [output(IN, b"1"), output(IN, b"2")]
        await Publishing(lab.worker.broker).publish(IN, messages, token=f"token {call}", call_id=call)


@pytest.mark.parametrize("name", ALL)
async def test_whatever_command_its_user_lacks_a_refused_script_has_changed_nothing(
    name: str, server: Server, keys: Keys
) -> None:
    case = _publish_twice if name == "publish_plain" else CASES[name]

    refused = await refused_commands(ALL[name], case, server, keys)

    commands = {command.partition("|")[0] for command in refused}
    assert commands <= named_in(ALL[name]), "only what it may call is asked for"


# What a stage has seen, in each form: see seen.lua

SEEN = dedup_hash("seen")
EARLIER = b'{"worker":"of an earlier version"}'


@dataclass(frozen=True)
class Form:
    """A form, how it is made, and what only some forms ask for."""

    asked: str
    commands: Sequence[tuple[object, ...]] = ()
    ttl_ms: int | None = None
    keeps_last: bool = False
    is_used_before: bool = False


FORMS = {
    "missing": Form("hdel hmget"),
    "missing beside an earlier version": Form("sadd", [("HSET", "{workers}", "earlier", EARLIER)]),
    "set of an earlier version": Form("sadd", [("SADD", "{seen}", SEEN)]),
    "sorted set of an earlier version": Form(
        "zcount zremrangebyrank", [("ZADD", "{seen_until}", 1, SEEN)], ttl_ms=DAY_MS
    ),
    "the same that keeps the last": Form(
        "hdel xpending xrange zcount zrange zrem zremrangebyrank",
        [("ZADD", "{seen_until}", 1, SEEN)], ttl_ms=DAY_MS, keeps_last=True,
    ),
    "packed": Form("hdel hmget", is_used_before=True),
    "packed with a ttl": Form("hdel hmget", ttl_ms=DAY_MS, is_used_before=True),
    "packed that keeps the last": Form("hdel hmget xpending xrange zrem", keeps_last=True, is_used_before=True),
    "expired": Form("del hdel hmget", [("HSET", "{seen_until}", "about", "10 1 0 0 0 1 0")], ttl_ms=DAY_MS),
    "being packed": Form(
        "hdel hmget sismember spop", [("HSET", "{seen}", "about", "10 1 0 1"), ("SADD", "{unpacked}", SEEN)]
    ),
    "being packed, with a ttl": Form(
        "hdel hmget zrange zrem",
        [("HSET", "{seen_until}", "about", "10 1 0 1 0 1 0"), ("ZADD", "{unpacked_until}", 9e12, SEEN)], ttl_ms=DAY_MS,
    ),
    "being packed, that keeps the last": Form(
        "hdel hmget hsetnx sismember spop xpending xrange zrem",
        [("HSET", "{seen}", "about", "10 1 0 1"), ("SADD", "{unpacked}", SEEN), ("HSET", "{latest}", SEEN, "1-1 m")],
        keeps_last=True,
    ),
}  # fmt: skip
SPECIAL = {name for form in FORMS.values() for name in form.asked.split()}


def using(form: Form, memory: DedupMemory) -> Case:
    """The case that makes a form."""

    async def make(lab: Lab) -> None:
        names = {
            name: getattr(lab.keys, name)("parse")
            for name in ("seen", "seen_until", "unpacked", "unpacked_until", "latest")
        }
        for command in form.commands:
            words = [
                word.format(workers=lab.keys.workers, **names) if isinstance(word, str) else word for word in command
            ]
            await lab.redis(*words)
        if form.is_used_before:
            await publish(lab, memory)

    return make


async def publish(lab: Lab, memory: DedupMemory) -> None:
    messages = [output(IN, b"1", dedup=value) for value in ("seen", "new", "new")]
    await Publishing(lab.worker.broker).publish(IN, messages, dedup=memory, token=lab.worker.broker.new_token())


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("script", [scripts.PUBLISH, scripts.SETTLE], ids=lambda script: script.name)
async def test_what_is_asked_for_because_a_stage_deduplicates_is_what_its_form_needs(
    name: str, script: Script, server: Server, keys: Keys
) -> None:
    form = FORMS[name]
    memory = DedupMemory(form.ttl_ms, (IN,) if form.keeps_last else ())

    async def case(lab: Lab) -> None:
        await using(form, memory)(lab)
        if script is scripts.PUBLISH:
            await publish(lab, memory)
            return
        settling = Settling(lab.worker.broker, {IN: memory})
        await settling.connect()
        await lab.worker.publish(b"1")
        message, *_ = await lab.worker.read()
        await lab.worker.settle(
            done(message, *[output(IN, b"1", dedup=value) for value in ("seen", "new")]), by=settling
        )
        await settling.close()

    refused = await refused_commands(script, case, server, keys)

    needs = {"xpending"} if script is scripts.SETTLE else set[str]()
    assert refused & SPECIAL == set(form.asked.split()) | needs
