"""Where the bytes are: everything that flowq asks of Redis. No rules of its own, and no other floor knows Redis.

`Broker` holds the connections. Questions and changes are methods of small stateless classes that are created where
they are needed, as in `Workers(broker).leases(names)`.
"""

from __future__ import annotations

import sys

from flowq.errors import UnsupportedPlatform

if sys.platform == "win32":
    raise UnsupportedPlatform("flowq does not run on Windows: use WSL 2, which is Linux, or a container")
