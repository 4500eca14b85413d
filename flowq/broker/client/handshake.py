"""Opens a connection to one server, over TCP, TLS or a Unix socket, logs in, and selects its database."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from redis.asyncio.connection import SSLConnection

from flowq.broker.client.forks import known
from flowq.broker.client.redis_protocol import RedisProtocol, pack_command

CONNECT_TIMEOUT_SECONDS = 3.0
_LOGIN_TIMEOUT_SECONDS = 60.0  # without progress; callers have a deadline of their own for the whole login
# A machine that has vanished is noticed within 45 seconds. Systems name the options differently, and some lack them.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


async def connected(
    settings: Mapping[str, Any], *, tls: bool = False, host: str = "", port: int = 0, path: str = ""
) -> RedisProtocol:
    """A connection to one server. `settings` are those of `RedisUrl.settings`. Raises what the socket or Redis says."""
    loop, transport = asyncio.get_running_loop(), None
    async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
        if path:
            _, connection = await loop.create_unix_connection(RedisProtocol, path)
        else:
            context = _tls_context(settings) if tls else None
            transport, connection = await loop.create_connection(RedisProtocol, host, port, ssl=context)
    try:
        if transport is not None:
            _set_options(transport.get_extra_info("socket"), is_kept_alive=settings.get("socket_keepalive", True))
        await _greet(connection, settings)
    except BaseException:
        await connection.close()
        raise
    return known(connection)


def _tls_context(settings: Mapping[str, Any]) -> ssl.SSLContext:
    """By redis-py, from its options. One for each connection, since certificates may be renewed while a worker runs."""
    options = {name: value for name, value in settings.items() if name.startswith("ssl_")}
    made: Any = SSLConnection(**options).ssl_context
    context: ssl.SSLContext = made.get()
    return context


def _set_options(sock: socket.socket, *, is_kept_alive: bool) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if is_kept_alive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _greet(connection: RedisProtocol, settings: Mapping[str, Any]) -> None:
    commands: list[tuple[Any, ...]] = []
    user, password = settings.get("username"), settings.get("password", "")
    if user or password:
        commands.append((b"AUTH", user, password) if user else (b"AUTH", password))
    if name := settings.get("client_name"):
        commands.append((b"CLIENT", b"SETNAME", name))
    if database := settings.get("db"):
        commands.append((b"SELECT", database))
    for command in commands:  # not all at once: before the login, the others would be refused as well
        await answer(connection, *command, timeout_seconds=_LOGIN_TIMEOUT_SECONDS)


async def answer(connection: RedisProtocol, *command: Any, timeout_seconds: float) -> Any:
    """The reply to one command. Raises it if it is an error."""
    (reply,) = await connection.ask(pack_command(command), 1, timeout_seconds=timeout_seconds)
    if isinstance(reply, Exception):
        raise reply
    return reply
