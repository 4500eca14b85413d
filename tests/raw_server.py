"""A web server that sends exact bytes and may stop anywhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeAlias

Script: TypeAlias = Callable[[asyncio.StreamWriter], Awaitable[None]]
Answer: TypeAlias = bytes | Script | list["bytes | Script"]


def answer(body: bytes | str = b"", status: int = 200, **headers: str) -> bytes:
    """An answer with its length; `content_type=` and the like are headers."""
    content = body.encode() if isinstance(body, str) else body
    fields = {"content-type": "text/html", "content-length": str(len(content)), "connection": "close"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode("latin-1", "surrogateescape") + content


def redirect(location: str, status: int = 302) -> bytes:
    return answer(b"", status, location=location.encode().decode("latin-1"))


class RawServer:
    """`pages` maps a path to what is sent: bytes, a script that writes, or one of these for each request in turn.

    `asked` holds the requests in order, each as its path and its headers.
    """

    def __init__(self, pages: Mapping[str, Answer], port: int) -> None:
        self.pages = dict(pages)
        self.url = f"http://127.0.0.1:{port}"
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def paths(self) -> list[str]:
        """The paths that were asked for, but for robots.txt."""
        return [path for path, _ in self.asked if path != "/robots.txt"]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            request, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            path = request.split(" ")[1]
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            before = [asked for asked, _ in self.asked].count(path)
            self.asked.append((path, headers))
            found = self.pages.get(path, answer("not here", 404))
            script = found[min(before, len(found) - 1)] if isinstance(found, list) else found
            if isinstance(script, bytes):
                writer.write(script)
            else:
                await script(writer)
            await writer.drain()


@contextlib.asynccontextmanager
async def raw_server(pages: Mapping[str, Answer]) -> AsyncIterator[RawServer]:
    """Serve while the block runs."""
    conversations = set[asyncio.Task[None]]()

    def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(server.serve(reader, writer))
        conversations.add(task)
        task.add_done_callback(conversations.discard)

    listening = await asyncio.start_server(converse, "127.0.0.1", 0)
    server = RawServer(pages, listening.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        listening.close()
        for task in conversations:
            task.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)
