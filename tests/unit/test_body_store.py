"""The store of large bodies by itself: its location, and processes that cannot use it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flowq.errors import UsageError
from flowq.large_bodies.store import BodyStore


def ran(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A Python program, run to its end."""
    command = [sys.executable, "-W", "ignore", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)


@pytest.mark.parametrize(
    "location", ["ftp://host/x", "s3:///prefix", "s3://key:secret@bucket", "az://account/container?sig=secret"]
)
def test_a_location_that_cannot_be_used_is_refused_without_showing_its_secrets(location: str) -> None:
    with pytest.raises(UsageError) as raised:
        BodyStore(location, "flowq", "p")
    assert "secret" not in str(raised.value)


def test_a_folder_may_be_written_as_a_path_or_as_a_url(tmp_path: Path) -> None:
    here = BodyStore("claims", "flowq", "p")
    assert str(here) == str(Path("claims/flowq/p").absolute())
    assert str(BodyStore((tmp_path / "a b").as_uri(), "flowq", "p")) == str(tmp_path / "a b" / "flowq" / "p")
    assert str(BodyStore("s3://bucket/", "flowq", "p")) == "s3://bucket/flowq/p"


def test_after_a_fork_the_store_says_what_to_do_instead_of_hanging(tmp_path: Path) -> None:
    program = f"""
import asyncio, os
from flowq.errors import ClaimStoreUnavailable
from flowq.large_bodies.store import BodyStore

async def use():
    store = BodyStore({str(tmp_path)!r}, "flowq", "p")
    await store.take_name("x")
    await store.store([b"body"])

asyncio.run(use())
if os.fork():
    raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))
try:
    asyncio.run(use())
except ClaimStoreUnavailable as error:
    print(error.hint, flush=True)
    os._exit(0)
os._exit(1)
"""
    process = ran(program, tmp_path)
    assert (process.returncode, "spawn" in process.stdout) == (0, True), process.stderr


def test_without_obstore_the_error_names_the_extra(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
sys.modules["obstore"] = None
import flowq

@flowq.stage(claim_above=5000)
async def keep(body: bytes) -> None: ...

asyncio.run(flowq.run(flowq.Pipeline("p", keep), redis="memory", claim_store={str(tmp_path)!r}))
"""
    assert "flowq-streams[claim]" in ran(program, tmp_path).stderr


def test_a_pipeline_without_the_option_does_not_import_obstore(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from collections.abc import Iterator
import flowq

@flowq.source
def numbers() -> Iterator[bytes]:
    yield b"x"

@flowq.stage
async def keep(body: bytes) -> None: ...

asyncio.run(flowq.run(flowq.Pipeline("p", numbers >> keep), redis="memory", claim_store="claims"))
print("obstore" in sys.modules)
"""
    process = ran(program, tmp_path)
    assert process.stdout == "False\n", process.stderr
