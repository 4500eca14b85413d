"""Measures what the web page costs: bytes, processor time of its server and of Redis, memory.

Run it with `python -m benchmarks.web_page`.
Twenty pages are open on a pipeline of 50 stages with dead letters, and on one of 4, while messages are pushed.
"""

from __future__ import annotations

import argparse
import gzip
import os
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.dashboard.web_page import WebPage

_PAGES, _MEASURED_SECONDS, _PUSH_EVERY_SECONDS = 20, 30, 1.0
_STATIC = Path(__file__).parents[1] / "flowq" / "dashboard" / "static"
_TICKS = os.sysconf("SC_CLK_TCK")


def pipeline(n_stages: int) -> str:
    """Stages in a row; the first rejects negative numbers."""
    names = [f"s{number}" for number in range(n_stages - 1)]
    stages = "".join(f"@stage\nasync def {name}(n: int) -> int: return n\n" for name in names[1:])
    return (
        "from __future__ import annotations\nfrom flowq import Pipeline, Reject, stage\n"
        "@stage\nasync def s0(n: int) -> int:\n    if n < 0: raise Reject(f'HTTP {n % 5}')\n    return n\n"
        f"{stages}@stage\nasync def store(n: int) -> None: ...\n"
        f"big = Pipeline('big', {' >> '.join((*names, 'store'))})\n"
    )


def cpu_seconds(pid: int) -> float:
    """What a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_mb(pid: int) -> float:
    """The memory of a process."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1000


class Reader(threading.Thread):
    """One open page: counts what its stream brings."""

    def __init__(self, page: WebPage, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._page, self._ended = page, stop
        self.n_patches, self.n_bytes, self.n_packed = 0, 0, 0

    def run(self) -> None:
        with self._page.open("GET", "/p/big/events", headers={"accept-encoding": "gzip"}) as stream:
            unpacker = zlib.decompressobj(wbits=31)
            while not self._ended.is_set():
                piece = stream.read1()
                text = unpacker.decompress(piece)
                if b"event: patch" in text:
                    self.n_patches += text.count(b"event: patch")
                    self.n_bytes += len(text)
                    self.n_packed += len(piece)


@contextmanager
def pushing(page: WebPage) -> Iterator[None]:
    """Messages that come and go, so that numbers change in every stage."""
    stop = threading.Event()
    running = page.project.start("run", "big", "--forever")

    def push() -> None:
        while not stop.wait(_PUSH_EVERY_SECONDS):
            page.project.flowq("push", "big.s0", "-", stdin="\n".join(map(str, range(100))))

    pusher = threading.Thread(target=push, daemon=True)
    pusher.start()
    try:
        yield
    finally:
        stop.set()
        pusher.join()
        running.popen.terminate()
        running.wait()


def measured(n_stages: int, n_letters: int) -> dict[str, float]:
    """The figures of one pipeline."""
    with WebPage({"big": pipeline(n_stages)}) as page:
        if n_letters:
            page.project.flowq("push", "big.s0", "-", stdin="\n".join(str(-n) for n in range(1, n_letters + 1)))
            page.project.ok("run", "big", "--drain", "--max-dead", str(n_letters + 1))
            page.get("/p/big/dead")
        with pushing(page):
            stop = threading.Event()
            readers = [Reader(page, stop) for _ in range(_PAGES)]
            for reader in readers:
                reader.start()
            page.get("/p/big/dead")
            time.sleep(10)
            server, redis, began = cpu_seconds(page.process.pid), cpu_seconds(page.redis.pid), time.monotonic()
            time.sleep(_MEASURED_SECONDS)
            seconds = time.monotonic() - began
            server, redis = cpu_seconds(page.process.pid) - server, cpu_seconds(page.redis.pid) - redis
            html = page.get("/p/big").text.encode()
            stop.set()
            for reader in readers:
                reader.join(60)
        n_patches = sum(reader.n_patches for reader in readers)
        return {
            "page, gzip kB": len(gzip.compress(html)) / 1000,
            "patch, mean kB": sum(reader.n_bytes for reader in readers) / n_patches / 1000,
            "patch, mean gzip kB": sum(reader.n_packed for reader in readers) / n_patches / 1000,
            f"server with {_PAGES} pages, % of a core": 100 * server / seconds,
            "Redis with all of it, % of a core": 100 * redis / seconds,
            "memory of the server, MB": resident_mb(page.process.pid),
        }


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--letters", type=int, default=100_000, help="dead letters of the large pipeline")
    n_letters: int = parser.parse_args().letters
    files = {"CSS": "*.css", "JS": "*.js"}
    for name, pattern in files.items():
        sizes = sum(len(gzip.compress(path.read_bytes())) for path in _STATIC.rglob(pattern))
        print(f"{name}, gzip kB{'':40}{sizes / 1000:8.1f}")
    small, large = measured(4, 0), measured(50, n_letters)
    print(f"\n{'':50}{'4 stages':>10}{'50 stages':>11}")
    for name, figure in small.items():
        print(f"{name:50}{figure:10.1f}{large[name]:11.1f}")


if __name__ == "__main__":
    main()
