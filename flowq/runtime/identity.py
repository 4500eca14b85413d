"""The identity of this process in Redis."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowq.broker.message_ids import new_worker_name
from flowq.world import REAL, World

SUPERVISOR_VARIABLE = "FLOWQ_SUPERVISOR"
"""The environment variable with the name of the supervisor that started this process."""


def process_facts() -> dict[str, Any]:
    """Facts that identify a process on its machine, so that its neighbours can see whether it is still alive."""
    return {
        "supervisor": os.environ.get(SUPERVISOR_VARIABLE, ""),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "born": process_birth(os.getpid()),
        "where": process_space(),
    }


def process_birth(pid: int) -> str:
    """The start of a process in clock ticks since boot; "" if it is not alive or the system does not tell."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        # A zombie has ended. It stays forever where process 1 does not reap orphans, as in many containers.
        return "" if state in b"ZX" else fields[18].decode()
    except (OSError, ValueError, IndexError):
        return ""


def process_space() -> str:
    """The boot and PID namespace in which a process id is valid; "" if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def is_this_machine(host: str, space: str) -> bool:
    """Whether a process with these facts belongs to this machine or container."""
    here = process_space()
    return space == here and (bool(here) or host == socket.gethostname())


@dataclass(slots=True)
class Identity:
    """The name under which this process reads. It changes when the name was considered dead and reclaimed."""

    worker: str = ""
    past: set[str] = field(default_factory=set[str])
    world: World = REAL

    def __post_init__(self) -> None:
        self.worker = self.worker or new_worker_name(self.world)

    def renew(self) -> str:
        """Take a new name."""
        self.past.add(self.worker)
        self.worker = new_worker_name(self.world)
        return self.worker

    @property
    def names(self) -> set[str]:
        """Every name this process has had: it never reclaims its own deliveries."""
        return self.past | {self.worker}
