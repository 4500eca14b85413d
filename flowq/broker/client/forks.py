"""After a fork: the child detaches from the connections of its parent, unnoticed by the server and by the parent.

Parent and child share each socket, and the descriptor that the parent's event loop waits on. If the child closed a
connection as usual, it would end the TLS session of its parent, and stop the loop of its parent from watching the
socket; if it kept it, the server would not see the parent hang up. So the child replaces its copies by sockets that
lead nowhere: whatever it still does with these connections, also while it frees them at its exit, stays in the child.
"""

from __future__ import annotations

import os
import socket
from weakref import WeakSet

from flowq.broker.client.redis_protocol import RedisProtocol

_open: WeakSet[RedisProtocol] = WeakSet()


def known(connection: RedisProtocol) -> RedisProtocol:
    """Remember an open connection, so that a forked child detaches from it."""
    _open.add(connection)
    return connection


def detach() -> None:
    """In a child: make the connections of its parent lead nowhere. Does nothing the second time."""
    connections = list(_open)
    _open.clear()
    if not connections:
        return
    nowhere, other = socket.socketpair()
    other.close()
    with nowhere:
        for connection in connections:
            if (descriptor := connection.descriptor) is not None:
                os.dup2(nowhere.fileno(), descriptor, inheritable=False)


os.register_at_fork(after_in_child=detach)
