"""A webhook receiver and a mail server on 127.0.0.1, both with faults, that count what reaches them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from aiosmtpd.smtp import SMTP, Envelope
from standardwebhooks import Webhook, WebhookVerificationError

from examples.dispatch.faults import Fault, hook_faults, mail_faults, numbers
from examples.flights.dataset import FlightsUnavailable, flights, month_file

SECRET = "whsec_dGhpcyBvbmUgaXMgbm90IHNlY3JldA=="
HTTP_PORT, SMTP_PORT = 8026, 8025


@dataclass
class Received:
    """The notifications received. A webhook is applied once, however often it arrives: its webhook-id identifies it.

    `places` are the row numbers of the flights in their file, from 1; other flights get no random faults.
    """

    places: Mapping[str, int]
    requests: int = 0
    bad_signatures: int = 0
    applied: dict[str, str] = field(default_factory=dict[str, str])  # webhook-id -> flight
    again: Counter[str] = field(default_factory=Counter[str])  # webhook-ids that had been applied before
    mails: dict[str, str] = field(default_factory=dict[str, str])  # Message-ID -> flight
    mails_sent: int = 0
    faults: Counter[str] = field(default_factory=Counter[str])
    _tries: Counter[str] = field(default_factory=Counter[str])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hook(self, id_: str, flight: str, airline: str) -> Fault | None:
        """Record a webhook with a valid signature. Returns the fault to show."""
        with self._lock:
            self.requests += 1
            fault = self._fault(id_, hook_faults(self.places.get(flight, 0), airline))
            if fault in (None, "lost"):
                if id_ in self.applied:
                    self.again[id_] += 1
                self.applied[id_] = flight
            return fault

    def forged(self) -> None:
        """Record a webhook with an invalid signature."""
        with self._lock:
            self.requests += 1
            self.bad_signatures += 1

    def mail(self, id_: str, flight: str) -> Fault | None:
        """Record an e-mail. Returns the fault to show."""
        with self._lock:
            fault = self._fault(id_, mail_faults(self.places.get(flight, 0)))
            if fault is None:
                self.mails_sent += 1
                self.mails[id_] = flight
            return fault

    def _fault(self, id_: str, faults: tuple[Fault, ...]) -> Fault | None:
        tries = self._tries[id_]
        self._tries[id_] += 1
        # 410 is permanent
        fault = faults[tries] if tries < len(faults) else "410" if "410" in faults else None
        if fault:
            self.faults[fault] += 1
        return fault

    def numbers(self) -> dict[str, Any]:
        """All counts, for people and for JSON."""
        return {
            "webhook requests": self.requests,
            "webhooks applied": len(self.applied),
            "seen twice": self.again.total(),
            "bad signatures": self.bad_signatures,
            "mails": self.mails_sent,
            "different mails": len(self.mails),
            "faults": dict(self.faults),
        }


class WebhookServer(ThreadingHTTPServer):
    """Receives webhooks at `url`/AIRLINE."""

    request_queue_size = 128

    def __init__(self, received: Received, port: int, secret: str, retry_after: float) -> None:
        super().__init__(("127.0.0.1", port), _Answer)
        self.received = received
        self.secret = Webhook(secret)
        self.retry_after_seconds = retry_after
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore senders that disconnect; print the traceback of anything else."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        server = cast("WebhookServer", self.server)
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            event = server.secret.verify(body, dict(self.headers))
        except WebhookVerificationError:
            server.received.forged()
            self._send(401)
            return
        match server.received.hook(self.headers["webhook-id"], event["data"]["id"], self.path[1:]):
            case None:
                self._send(204)
            case "429":
                self._send(429, {"Retry-After": f"{server.retry_after_seconds:g}"})
            case "lost":
                self.close_connection = True  # without a response
            case fault:
                self._send(int(fault))

    def _send(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the counts say more."""


class _Mailbox:
    """What aiosmtpd calls for each e-mail."""

    def __init__(self, received: Received) -> None:
        self._received = received

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Envelope) -> str:
        mail = message_from_bytes(cast("bytes", envelope.content))
        flight = str(mail["Subject"]).partition(" to ")[0]
        if self._received.mail(str(mail["Message-ID"]), flight):
            return "451 greylisted, try again later"
        return "250 accepted"


@dataclass(frozen=True)
class Receivers:
    """The addresses of both, and what they have received."""

    webhooks: str
    smtp: str
    received: Received


@contextlib.contextmanager
def receivers(
    file: Path, *, http_port: int = 0, smtp_port: int = 0, secret: str = SECRET, retry_after: float = 1
) -> Generator[Receivers]:
    """Receive notifications of the flights in `file`, in threads of this process, while the block runs.

    Port 0 is any free port. `retry_after` is the value that 429 sends, in seconds.
    """
    received = Received(numbers(file))
    with WebhookServer(received, http_port, secret, retry_after) as hooks, _mail_server(received, smtp_port) as smtp:
        thread = threading.Thread(target=hooks.serve_forever, kwargs={"poll_interval": 0.02}, name="webhooks")
        thread.start()
        try:
            yield Receivers(hooks.url, smtp, received)
        finally:
            hooks.shutdown()
            thread.join()


@contextlib.contextmanager
def _mail_server(received: Received, port: int) -> Generator[str]:
    listening: Future[tuple[str, Callable[[], None]]] = Future()

    async def serve() -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await loop.create_server(lambda: SMTP(_Mailbox(received), hostname="127.0.0.1"), "127.0.0.1", port)
        address = ":".join(map(str, server.sockets[0].getsockname()))
        listening.set_result((address, lambda: loop.call_soon_threadsafe(stopped.set) and None))
        await stopped.wait()
        server.close()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if listening.done():
                raise
            listening.set_exception(error)

    thread = threading.Thread(target=run, name="mail server")
    thread.start()
    address, stop = listening.result()
    try:
        yield address
    finally:
        stop()
        thread.join()


def main() -> int:
    """Receive until Ctrl-C, then print what was received."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # shells start background jobs with SIGINT ignored
        signal.signal(stop, signal.default_int_handler)
    try:
        with receivers(flights() / month_file(1), http_port=HTTP_PORT, smtp_port=SMTP_PORT) as started:
            print(f"webhooks at {started.webhooks}, mail at {started.smtp}; Ctrl-C prints the counts", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
            print(json.dumps(started.received.numbers(), indent=2))
    except (FlightsUnavailable, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
