"""A process that forks: publishers that were open before work in the child, and go on working in the parent.

Each test is a program of its own, since the threads of pytest are no place to fork from.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.certificates import Authority
from tests.conftest import Servers
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.runtime.host import run_program

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

TOP = """
import asyncio, multiprocessing, os, redis, sys, threading, time, warnings
from flowq import Inspector, Pipeline, Publisher, SyncPublisher, stage
from flowq.errors import FlowqError

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
url, *arguments = sys.argv[1:]

@stage
def take(n: int) -> None: ...

pipeline = Pipeline("one", take)
sync = SyncPublisher(pipeline, redis=url)
other = Publisher(pipeline, redis=url)

def push():
    sync.push(take, 1)

def fork(child):
    pid = os.fork()
    if pid == 0:
        child()
        sys.exit()  # the interpreter ends as usual, and frees what it has from its parent
    return pid

def ended(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)

async def count():
    async with Inspector(pipeline, redis=url) as inspector:
        print("stored:", (await inspector.balance())["take"].waiting)

def connections():  # of publishers, as the server sees them
    with redis.Redis.from_url(url) as client:
        return {each["id"] for each in client.client_list() if int(each["id"]) != client.client_id()}
"""


@pytest.fixture(scope="module")
def tls_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    port = free_port()
    with RedisServer("debian", *authority.redis_options(port)):
        yield f"rediss://localhost:{port}/0?ssl_ca_certs={authority.itself.file}"


@pytest.fixture(params=["socket", "tls"])
def own_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server with no connections but those of the test."""
    if request.param == "tls":
        url = request.getfixturevalue("tls_url")
        with redis.Redis.from_url(url) as client:
            client.flushall()
        yield url
    else:
        with RedisServer("bundled") as server:
            yield server.url


@pytest.fixture(params=["socket", "tls", "embedded"])
def url(request: pytest.FixtureRequest, redis_server: Servers) -> str:
    if request.param == "embedded":
        return "embedded"
    url = str(request.getfixturevalue("tls_url")) if request.param == "tls" else redis_server("bundled").url
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url


def test_children_forked_while_threads_push_push_too_and_nothing_is_lost_or_doubled(url: str, tmp_path: Path) -> None:
    printed = run_program(tmp_path, TOP + WHILE_THREADS_PUSH, url)

    assert printed["stored"] == printed["pushed"]


WHILE_THREADS_PUSH = """
stop = threading.Event()
n_pushed = [0, 0, 0]

def push_on(i):
    while not stop.is_set():
        push()
        n_pushed[i] += 1

def child():
    for _ in range(10):
        push()

with sync:
    threads = [threading.Thread(target=push_on, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: all(n_pushed))
    children = [fork(child) for _ in range(5)]  # each leaves the `with` of its parent, as a copy of it
    for pid in children:
        ended(pid)
    before = sum(n_pushed)
    until(lambda: sum(n_pushed) > before + 30)  # the parent goes on
    stop.set()
    for thread in threads:
        thread.join()
print("pushed:", sum(n_pushed) + 5 * 10)
asyncio.run(count())
"""


def test_neither_a_child_that_ends_nor_one_that_pushes_disturbs_a_connection_of_its_parent(
    own_url: str, tmp_path: Path
) -> None:
    printed = run_program(tmp_path, TOP + UNDISTURBED, own_url)

    assert printed == {"after idle": "the same", "after pushing": "the same", "stored": "3"}


UNDISTURBED = """
sync.__enter__()
push()
before = connections()
ended(fork(lambda: None))
print("after idle:", "the same" if connections() == before else "others")
ended(fork(push))
push()
print("after pushing:", "the same" if connections() == before else "others")
asyncio.run(count())
sync.__exit__()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="where the C library has a fork of its own")
def test_a_child_that_was_forked_without_pythons_knowledge_as_by_uwsgi_pushes_too(own_url: str, tmp_path: Path) -> None:
    printed = run_program(tmp_path, TOP + FORKED_IN_C, own_url)

    assert printed == {"after the child": "the same", "stored": "12"}


FORKED_IN_C = """
import ctypes

sync.__enter__()
push()
before = connections()
pid = ctypes.PyDLL(None).fork()
if pid == 0:
    for _ in range(10):
        push()
    os._exit(0)
ended(pid)
push()
print("after the child:", "the same" if connections() == before else "others")
asyncio.run(count())
sync.__exit__()
"""


def test_when_the_parent_hangs_up_the_server_sees_it_while_children_live(own_url: str, tmp_path: Path) -> None:
    printed = run_program(tmp_path, TOP + HANGS_UP, own_url)

    assert printed == {"stored": "3"}


HANGS_UP = """
reader, writer = os.pipe()

def child():
    os.close(writer)
    push()
    os.read(reader, 1)  # until the parent has hung up
    push()

with sync:
    push()
    mine = connections()
    pid = fork(child)
    until(lambda: connections() - mine)
until(lambda: not connections() & mine)
os.close(writer)
ended(pid)
asyncio.run(count())
"""


def test_children_of_children_push_too_whether_or_not_their_parent_has(tmp_path: Path) -> None:
    assert run_program(tmp_path, TOP + GRANDCHILDREN, "embedded") == {"stored": "7"}


GRANDCHILDREN = """
def parent_that_pushes():
    push()
    ended(fork(push))
    push()

with sync:
    push()
    ended(fork(lambda: ended(fork(push))))
    ended(fork(parent_that_pushes))
    with sync:
        ended(fork(push))
    push()
asyncio.run(count())
"""


def test_processes_of_multiprocessing_push_with_what_their_parent_had_open(url: str, tmp_path: Path) -> None:
    printed = run_program(tmp_path, TOP + MULTIPROCESSING, url)

    assert printed == {"ids": "40", "stored": "41"}


MULTIPROCESSING = """
def one(n):
    return sync.push(take, n)

with sync:
    push()
    with multiprocessing.get_context("fork").Pool(4) as pool:
        print("ids:", len(set(pool.map(one, range(40), chunksize=1))))
asyncio.run(count())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_publisher_in_an_event_loop_opens_again_in_the_loop_of_a_child(
    loop: str, own_url: str, tmp_path: Path
) -> None:
    printed = run_program(tmp_path, TOP + IN_A_LOOP, own_url, loop)

    assert printed == {"after the child": "the same", "stored": "7"}


IN_A_LOOP = """
import importlib
loop = importlib.import_module(*arguments)

async def in_child():
    await asyncio.gather(*(other.push(take, 1) for _ in range(5)))

def child():
    loop.run(in_child())

async def main():
    async with other:
        await other.push(take, 1)
        before = connections()
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
        assert process.exitcode == 0
        await other.push(take, 1)
        print("after the child:", "the same" if connections() == before else "others")

loop.run(main())
asyncio.run(count())
"""


def test_a_child_whose_first_pushes_find_no_redis_opens_the_publisher_with_a_later_one(
    redis_server: Servers, tmp_path: Path
) -> None:
    server = redis_server("bundled")
    with redis.Redis.from_url(server.url) as client:
        client.flushall()

    assert run_program(tmp_path, TOP + NO_REDIS_AT_FIRST, server.url) == {"refused": "6", "stored": "6"}


NO_REDIS_AT_FIRST = """
async def push_both():
    return await asyncio.gather(other.push(take, 1), other.push(take, 2), return_exceptions=True)

async def in_child(admin):
    admin.config_set("requirepass", "another")
    refused = [*await push_both(), *await push_both()]
    admin.config_set("requirepass", "")
    stored = await push_both()
    return refused, stored

def child():
    with redis.Redis.from_url(url) as admin:
        admin.ping()
        admin.config_set("requirepass", "another")
        refused = asyncio.run(push_both())
        more, stored = asyncio.run(in_child(admin))
    assert not any(isinstance(each, BaseException) for each in stored), stored
    print("refused:", sum(isinstance(each, FlowqError) and "not open" not in str(each) for each in [*refused, *more]))
    sys.stdout.flush()

async def main():
    async with other:
        await other.push(take, 1)
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
        assert process.exitcode == 0
        for n in range(3):
            await other.push(take, n)

asyncio.run(main())
asyncio.run(count())
"""


@pytest.mark.parametrize("how", ["pushes", "enters"])
def test_a_fake_server_that_no_child_can_share_is_refused_there(how: str, tmp_path: Path) -> None:
    printed = run_program(tmp_path, TOP + IN_MEMORY, "memory", how)

    assert printed["child"] == "the publisher has its server in the memory of the parent process"
    assert printed["parent"] == "pushed"


IN_MEMORY = """
def child():
    try:
        sync.push(take, 1) if arguments == ["pushes"] else sync.__enter__()
    except FlowqError as error:
        print("child:", error.message, flush=True)

with sync:
    push()
    ended(fork(child))
    push()
print("parent: pushed")
"""


def test_a_child_keeps_the_settings_of_its_parent_wherever_it_goes(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.flowq]\nredis = "embedded"\n')

    assert run_program(tmp_path, TOP + ELSEWHERE, "embedded") == {"stored": "2"}


ELSEWHERE = """
sync = SyncPublisher(pipeline)

def child():
    os.chdir("/")
    push()

with sync:
    push()
    ended(fork(child))
    asyncio.run(count())
"""


def test_a_publisher_that_was_closed_at_the_fork_is_not_open_in_the_child(tmp_path: Path) -> None:
    printed = run_program(tmp_path, TOP + CLOSED, "embedded")

    assert printed == {"child": "the publisher is not open"}


CLOSED = """
def child():
    try:
        push()
    except FlowqError as error:
        print("child:", error.message, flush=True)

with sync:
    push()
ended(fork(child))
"""
