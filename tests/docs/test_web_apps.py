"""The web apps of the how-to page, under the servers that it names: no request is lost, and none is handled twice."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.message import Message
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.docs.page import Block, read
from tests.docs.pages import ROOT
from tests.docs.session import Session
from tests.integration.flowq_process import wait_until

PAGE = ROOT / "docs" / "how-to" / "publish-from-a-web-app.md"
LONGEST_SECONDS = 60

GUNICORN = "gunicorn --preload --workers 2 --no-control-socket --bind 127.0.0.1:8123"
FASTAPI = f"{GUNICORN} --worker-class asgi fastapi_app:app"
SERVERS = {
    "fastapi, gunicorn": ("/orders", FASTAPI),
    "fastapi, gunicorn with uvicorn": (
        "/orders",
        f"{GUNICORN} --worker-class uvicorn.workers.UvicornWorker fastapi_app:app",
    ),
    "flask, gunicorn": ("/orders", f"{GUNICORN} --threads 4 flask_app:app"),
    "django, gunicorn": ("/orders", f"{GUNICORN} --threads 4 mysite.wsgi"),
    "django, gunicorn with async views": ("/async/orders", f"{GUNICORN} --worker-class asgi mysite.asgi"),
    "django, uvicorn": ("/orders", "uvicorn mysite.asgi:application --workers 2 --port 8123 --lifespan on"),
}


class Shop:
    """The folder of the page, with its apps and an address for one of them."""

    def __init__(self, session: Session, address: str) -> None:
        self.session, self.address = session, address

    def type(self, command: str) -> str:
        done = self.session.type(command)
        assert done.exit_code == 0, done.output
        return done.output

    def serve(self, command: str) -> None:
        """Start a server, and wait until it answers."""
        self.type(f"{command} > web.log 2>&1 &")
        wait_until(self._answers)

    def _answers(self) -> bool:
        try:
            self.get("/nothing")
        except OSError:
            return False
        return True

    def get(self, path: str) -> int:
        return self._request(Request(self.address + path))[0]

    def post(self, path: str, number: str) -> tuple[int, Any, Message]:
        """Place an order."""
        body = json.dumps({"number": number, "cents": 100}).encode()
        status, answer, headers = self._request(
            Request(self.address + path, body, {"Content-Type": "application/json"})
        )
        return status, json.loads(answer), headers

    def _request(self, request: Request) -> tuple[int, bytes, Message]:
        try:
            with urlopen(request, timeout=LONGEST_SECONDS) as response:
                return response.status, response.read(), response.headers
        except HTTPError as error:
            with error:
                return error.code, error.read(), error.headers

    def shipped(self) -> list[str]:
        """The orders that a run ships."""
        self.type("flowq run orders --drain --quiet")
        return (self.session.folder / "shipped.txt").read_text().split()


@contextmanager
def shop(home: Path, **replaced: str) -> Generator[Shop]:
    """A shop with the files of the page, in which some texts are replaced."""
    text = PAGE.read_text()
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    page = read(text)
    with Session(home, "shop", page) as session:
        for step in page.steps:
            if isinstance(step, Block) and step.title:
                session.do(step, PAGE)
        session.type("echo http://127.0.0.1:8123 > address")  # with the free port, which outputs do not show
        yield Shop(session, (session.folder / "address").read_text().strip())


@pytest.mark.parametrize("server", SERVERS)
def test_each_request_to_a_web_app_is_handled_once(server: str, tmp_path: Path) -> None:
    path, command = SERVERS[server]
    with shop(tmp_path) as made:
        if "django" in server:
            made.type("python -m django migrate --run-syncdb --settings mysite.settings --pythonpath . > migrate.log")
        made.serve(command)
        numbers = [f"A-{n}" for n in range(80)]
        repeated = numbers + random.sample(numbers, 20)
        random.shuffle(repeated)

        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(partial(made.post, path), repeated))

        assert [answer["id"] for _, answer, _ in answers] == repeated
        if "django" not in server or "async" in server:
            assert Counter(status for status, *_ in answers) == {202: 80, 200: 20}
        assert sorted(made.shipped()) == sorted(numbers)
        made.type("kill $!; wait $!")


@pytest.mark.parametrize("server", ["fastapi, gunicorn", "flask, gunicorn", "django, uvicorn"])
def test_a_full_stage_answers_503_and_when_to_come_again(server: str, tmp_path: Path) -> None:
    path, command = SERVERS[server]
    with shop(tmp_path, **{"maxsize=10_000": "maxsize=3"}) as made:
        if "django" in server:
            made.type("python -m django migrate --run-syncdb --settings mysite.settings --pythonpath . > migrate.log")
        made.serve(command)

        answers = [made.post(path, f"A-{n}") for n in range(5)]

        assert [status for status, *_ in answers] == [202, 202, 202, 503, 503]
        assert answers[4][2]["Retry-After"] == "5"
        assert sorted(made.shipped()) == ["A-0", "A-1", "A-2"]
        assert made.post(path, "A-4")[0] == 202


def test_an_app_answers_503_while_redis_is_away_and_works_again_when_it_is_back(tmp_path: Path) -> None:
    with shop(tmp_path, **{"<!-- port 8123 -->": "<!-- port 8123 -->\n\n<!-- port 6379 -->\n"}) as made:
        made.type("export FLOWQ_REDIS_URL=redis://127.0.0.1:6379/0")
        made.type("redis-server --port 6379 --appendonly yes > redis.log & redis=$!")
        made.type("until redis-cli -p 6379 ping; do :; done")
        made.serve(FASTAPI.replace("--workers 2", "--workers 1"))  # a second might start too late to find Redis
        assert made.post("/orders", "A-1")[0] == 202

        made.type("kill -9 $redis; wait $redis || true")
        assert made.get("/ready") == 503
        status, _, headers = made.post("/orders", "A-2")
        assert (status, headers["Retry-After"]) == (503, "5")

        made.type("redis-server --port 6379 --appendonly yes > redis.log &")
        wait_until(lambda: made.get("/ready") == 200)
        assert made.post("/orders", "A-2")[0] == 202
        assert sorted(made.shipped()) == ["A-1", "A-2"]
