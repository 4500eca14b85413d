"""A real PostgreSQL for tests: a cluster in a temporary folder, on a unix socket, stopped by its pid."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.requirements import unavailable

START_SECONDS = 60.0
STOP_SECONDS = 60.0
_AS_ROOT_RUN_BY = "nobody"  # PostgreSQL refuses to run as root


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else unavailable("no PostgreSQL server", "apt-get install postgresql")


class PostgresServer:
    """A PostgreSQL with one empty database, alive inside its `with` block."""

    def __init__(self) -> None:
        self._programs = _programs()
        self._folder = tempfile.TemporaryDirectory(prefix="flowq-pg-")
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql://tester@/postgres?host={self._folder.name}"

    def __enter__(self) -> Self:
        folder, data = Path(self._folder.name), f"{self._folder.name}/data"
        if os.geteuid() == 0:
            user = pwd.getpwnam(_AS_ROOT_RUN_BY)
            os.chown(folder, user.pw_uid, user.pw_gid)
        initdb = [*_as_another_user(), str(self._programs / "initdb")]
        options = ("--username=tester", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D", data)
        done = subprocess.run([*initdb, *options], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(folder),
            "fsync": "off",
            "shared_buffers": "16MB",
        }
        with (folder / "postgres.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *_as_another_user(dies_with_parent=True),
                    *(str(self._programs / "postgres"), "-D", data),
                    *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
                ],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until_it_answers()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # SIGTERM would wait for its clients
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._folder.cleanup()

    def _wait_until_it_answers(self) -> None:
        asking = [str(self._programs / "pg_isready"), "-q", "-h", self._folder.name, "-U", "tester"]
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run(asking, check=False).returncode != 0:
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (Path(self._folder.name) / "postgres.log").read_text()
                self.__exit__(None, None, None)
                raise RuntimeError(f"PostgreSQL did not start:\n{said}")
            time.sleep(0.02)


def _as_another_user(*, dies_with_parent: bool = False) -> list[str]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return []
    switch: list[str] = []
    if os.geteuid() == 0:
        user = pwd.getpwnam(_AS_ROOT_RUN_BY)
        switch = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    mortal = ["--pdeathsig", "INT"] if dies_with_parent else []
    return [setpriv, *switch, *mortal] if switch or mortal else []
