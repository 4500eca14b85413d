"""A real gunicorn that serves an application of a project, until the block ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.request import Request, urlopen

from tests.integration.flowq_process import LONGEST_SECONDS, wait_until
from tests.integration.project import Project


class WebServer:
    """gunicorn in a folder of the project. The port is bound before it starts, so that no other program gets it."""

    def __init__(self, project: Project, folder: Path, *options: str, app: str = "app:app", **variables: str) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._log = project.folder / "gunicorn.log"
        number = self._listener.fileno()
        with self._log.open("w") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "--bind", f"fd://{number}", "--pythonpath", str(project.folder),
                 "--no-control-socket", *options, app],
                cwd=folder, env=project.environ | variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=(number,),
            )  # fmt: skip
        self._url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def log(self) -> str:
        """What it has said."""
        return self._log.read_text()

    def post(self, path: str) -> str:
        """The answer to a request, which must be a good one. The first waits until the server answers."""
        with urlopen(Request(self._url + path, method="POST"), timeout=LONGEST_SECONDS) as answer:
            return str(answer.read().decode())

    def workers(self) -> list[int]:
        """The pids of its worker processes."""
        children = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"gunicorn" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def stop(self) -> int:
        """Stop it as an operator does; its exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(LONGEST_SECONDS)

    def __enter__(self) -> Self:
        wait_until(lambda: "Booting worker" in self.log or self.popen.poll() is not None)
        assert self.popen.poll() is None, self.log
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self.popen.kill()  # its workers notice, and end
        self.popen.wait(LONGEST_SECONDS)
