"""Serves one documentation site on 127.0.0.1 with seeded faults, and counts its requests."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import mimetypes
import signal
import socket
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Sequence
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypedDict, cast
from urllib.parse import unquote, urlsplit
from zlib import crc32

from examples.scraping.faults import ALL, Fault, FaultPlan
from examples.scraping.sites import NAMES, Site, SiteUnavailable, site

CIRCLE = "/__loop__/a", "/__loop__/b"
"""Two paths that redirect to each other."""


class Stats(TypedDict):
    """The requests of a server, not including `/robots.txt` and `/__stats__`."""

    requests: int
    paths: dict[str, int]
    faults: dict[str, int]
    robots: int
    times: dict[str, list[float]]  # Unix time of each request, by path


class SiteServer(ThreadingHTTPServer):
    """One site on one port. `url` is the address of its start page, `origin` that of the server."""

    daemon_threads = False  # closing waits for responses in progress
    request_queue_size = 128

    def __init__(
        self,
        pages: Site,
        *,
        port: int,
        faults: Iterable[Fault],
        retry_after: float,
        slow: float,
        robots: str | int | None,
        closed: float,
        closed_after: int,
        drip: float,
    ) -> None:
        super().__init__(("127.0.0.1", port), _Answer)
        self.root = pages.root.resolve()
        self.origin = f"http://127.0.0.1:{self.server_port}"
        self.url = self.origin + pages.start
        self.retry_after_seconds = retry_after
        self.slow_seconds = slow
        self.robots = robots
        self.drip_seconds = drip
        self.start = pages.start
        self._closed_seconds = closed
        self._closed_after = closed_after
        self._opens_at: float | None = None
        self._plan = FaultPlan.of(pages, faults)
        self._lock = threading.Lock()
        self._times: dict[str, list[float]] = defaultdict(list)
        self._faults: Counter[str] = Counter()
        self._requests = 0
        self._robots_requests = 0
        self._connections: set[socket.socket] = set()

    def note(self, path: str) -> Fault | None:
        """Count a request. Returns the fault to show."""
        with self._lock:
            if path == "/robots.txt":
                self._robots_requests += 1
                return None
            times = self._times[path]
            now = time.time()
            self._requests += 1
            if self._requests > self._closed_after:
                self._opens_at = self._opens_at or now + self._closed_seconds
            is_closed = self._opens_at is not None and now < self._opens_at
            fault = "429" if is_closed else self._plan.fault(path, hit=len(times))
            times.append(now)
            if fault:
                self._faults[fault] += 1
            return fault

    def stats(self) -> Stats:
        """The current counts, as `/__stats__` returns them in JSON."""
        with self._lock:
            times = {path: list(stamps) for path, stamps in self._times.items()}
            return Stats(
                requests=sum(map(len, times.values())),
                paths={path: len(stamps) for path, stamps in times.items()},
                faults={kind: self._faults[kind] for kind in ALL},
                robots=self._robots_requests,
                times=times,
            )

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        self._connections.discard(cast("socket.socket", request))
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Close idle keep-alive connections: each has a thread that waits for another request."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):  # the client was faster
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect; print the traceback of anything else."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Answer(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16  # head and body in one packet

    @property
    def host(self) -> SiteServer:
        return cast("SiteServer", self.server)

    def do_GET(self) -> None:
        path = unquote(self.path)
        if path == "/__stats__":
            self._send(200, json.dumps(self.host.stats()).encode(), "application/json")
        elif path in CIRCLE:
            self._redirect(CIRCLE[path == CIRCLE[0]])
        elif path == "/robots.txt" and self.host.robots is not None:
            self.host.note(path)
            self._send_robots(self.host.robots)
        else:
            self._meet(self.host.note(path), path)

    def _meet(self, fault: Fault | None, path: str) -> None:
        match fault:
            case "429" | "503":
                self._send(int(fault), b"later\n", headers={"Retry-After": self._retry_after(path)})
            case "loop":
                self._redirect(CIRCLE[0])
            case "slow":
                time.sleep(self.host.slow_seconds)
                self._send_file()
            case "cut":
                self._send_file(cut=True)
            case None:
                self._send_file()

    def _retry_after(self, path: str) -> str:
        """Whole seconds are sent as a date for every fifth path: HTTP allows both forms."""
        seconds = self.host.retry_after_seconds
        if seconds % 1 or crc32(path.encode()) % 5:
            return f"{seconds:g}"
        return formatdate(math.ceil(time.time()) + seconds, usegmt=True)

    def _send_file(self, *, cut: bool = False) -> None:
        path = unquote(urlsplit(self.path).path)
        file = (self.host.root / path.lstrip("/")).resolve()
        inside = file.is_relative_to(self.host.root)
        if inside and file.is_dir() and not path.endswith("/"):
            self._redirect(urlsplit(self.path).path + "/")
            return
        if inside and file.is_dir():
            file /= "index.html"
        if not (inside and file.is_file()):
            self._send(404, b"not found\n")
            return
        # no charset, as with most servers: the page itself declares its encoding
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        self._send(200, file.read_bytes(), kind, cut=cut)

    def _send_robots(self, robots: str | int) -> None:
        if isinstance(robots, int):
            self._send(robots, b"")
        else:
            self._send(200, robots.encode())

    def _redirect(self, target: str) -> None:
        self._send(302, b"", headers={"Location": target})

    def _send(
        self,
        status: int,
        body: bytes,
        kind: str = "text/plain",
        *,
        headers: dict[str, str] | None = None,
        cut: bool = False,
    ) -> None:
        """Answer; with `cut`, hang up after the first half of the body."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.host.drip_seconds and status == 200 and self.path != self.host.start:
            self._drip(body)
        else:
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    def _drip(self, body: bytes) -> None:
        for n in range(len(body)):
            self.wfile.write(body[n : n + 1])
            self.wfile.flush()
            time.sleep(self.host.drip_seconds)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: `/__stats__` says more."""


@contextlib.contextmanager
def serve(
    pages: Site,
    *,
    port: int = 0,
    faults: Iterable[Fault] = (),
    retry_after: float = 1,
    slow: float = 2.0,
    robots: str | int | None = None,
    closed: float = 0,
    closed_after: int = 0,
    drip: float = 0,
) -> Generator[SiteServer]:
    """Serve a site from threads of this process while the block runs.

    `port` 0 is any free port. `faults` are the kinds of FaultPlan to show: `retry_after` is the value that 429 and 503
    send, `slow` is how long the slow page takes, both in seconds. `robots` is the text of `/robots.txt` or its status;
    None serves the site's own file, if it has one. After the first `closed_after` requests every page is
    answered with 429 for `closed` seconds. `drip` is the delay after each byte
    in seconds, except on the start page.
    """
    server = SiteServer(
        pages,
        port=port,
        faults=faults,
        retry_after=retry_after,
        slow=slow,
        robots=robots,
        closed=closed,
        closed_after=closed_after,
        drip=drip,
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="site server")
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.hang_up()
        server.server_close()


def robots_txt(disallow: Sequence[str], crawl_delay: float | None = None) -> str:
    """The text of a robots.txt that forbids these path prefixes for all agents.

    >>> print(robots_txt(["/release"], crawl_delay=0.5), end="")
    User-agent: *
    Crawl-delay: 0.5
    Disallow: /release
    """
    delay = [] if crawl_delay is None else [f"Crawl-delay: {crawl_delay:g}"]
    return "\n".join(["User-agent: *", *delay, *(f"Disallow: {prefix}" for prefix in disallow), ""])


def site_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that select the site and its faults; server and oracle share them."""
    kinds = ",".join(ALL)
    parser.add_argument("site", help=f"{', '.join(NAMES)}, or the path (with a slash in it) of a folder")
    parser.add_argument("--faults", type=_fault_list, default=(), help=f"off, all, or some of {kinds}")
    parser.add_argument("--disallow", action="append", default=[], help="a path prefix for robots.txt")


def _fault_list(text: str) -> tuple[Fault, ...]:
    if text in ("off", "all"):
        return ALL if text == "all" else ()
    wanted = text.split(",")
    if unknown := [kind for kind in wanted if kind not in ALL]:
        raise argparse.ArgumentTypeError(f"no fault {unknown[0]!r}: off, all, or some of {','.join(ALL)}")
    return tuple(kind for kind in ALL if kind in wanted)


def main() -> int:
    """Serve the site named on the command line until Ctrl-C; the first line printed is the URL to crawl."""
    parser = argparse.ArgumentParser(prog="python -m examples.scraping.server", description=__doc__)
    site_arguments(parser)
    parser.add_argument("--port", type=int, default=0, help="default: any free port")
    parser.add_argument("--retry-after", type=int, default=1, help="value of Retry-After of 429 and 503, in seconds")
    parser.add_argument("--slow", type=float, default=2.0, help="duration of the slow page, in seconds")
    parser.add_argument("--crawl-delay", type=float, help="Crawl-delay in robots.txt, in seconds")
    options = parser.parse_args()
    ruled = options.disallow or options.crawl_delay is not None
    for stop in (signal.SIGINT, signal.SIGTERM):  # shells start background jobs with SIGINT ignored
        signal.signal(stop, signal.default_int_handler)
    try:
        with serve(
            site(options.site),
            port=options.port,
            faults=options.faults,
            retry_after=options.retry_after,
            slow=options.slow,
            robots=robots_txt(options.disallow, options.crawl_delay) if ruled else None,
        ) as server:
            print(server.url, flush=True)
            threading.Event().wait()
    except (SiteUnavailable, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
