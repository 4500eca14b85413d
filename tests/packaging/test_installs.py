"""The wheel in clean environments: on each Python, with each extra alone, and with none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging.conftest import Installed
from tests.packaging.environments import OWN_VERSION
from tests.ports import free_port

Variables = dict[str, str]
VERSIONS = ("3.11", "3.12", "3.13", "3.14")


def write(folder: Path, name: str, text: str) -> None:
    (folder / "pipelines" / f"{name}.py").write_text(text)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_wheel_installs_and_runs_a_pipeline_on_each_python(
    version: str, installed: Installed, shop: Path, redis: Variables
) -> None:
    environment = installed(version=version)
    assert environment.ok(shop, "flowq", "--version").startswith("flowq ")
    assert environment.ok(shop, "flowq", "run", "shop", **redis).count("got ") == 3


@pytest.mark.parametrize("version", [version for version in VERSIONS if version < "3.14"])
def test_the_server_of_the_extra_embedded_runs_a_pipeline_on_each_python_that_it_is_built_for(
    version: str, installed: Installed, shop: Path
) -> None:
    assert installed("embedded", version=version).ok(shop, "flowq", "run", "shop").count("got ") == 3


def test_without_extras_what_is_missing_is_said_with_the_extra_that_has_it_and_the_rest_works(
    installed: Installed, shop: Path, redis: Variables
) -> None:
    environment = installed()
    write(shop, "large", LARGE)
    write(shop, "packed", PACKED)
    (shop / "rows.ndjson.zst").write_bytes(b"(\xb5/\xfd")
    (shop / "seven.ndjson").write_text("7\n")
    for extra, *command in (
        ("embedded", "flowq", "run", "shop"),
        ("test", "flowq", "run", "shop", "--memory"),
        ("test", "flowq", "test", "shop"),
        ("metrics", "flowq", "run", "shop", "--metrics", ":9100"),
        ("dashboard", "flowq", "dashboard"),
        (
            "dashboard",
            "python",
            "-c",
            "from pipelines.shop import *; from flowq import *; dashboard_app(shop, auth=1)",
        ),
        ("otel", "flowq", "run", "shop", "--otel"),
        ("reload", "flowq", "run", "shop", "--reload"),
        ("claim", "flowq", "run", "large"),
        ("zstd", "flowq", "run", "packed"),
        ("scraping", "python", "-c", "import flowq.scraping"),
        ("browser", "python", "-c", "import flowq.scraping.browser"),
    ):
        if extra == "zstd" and OWN_VERSION >= "3.14":
            continue  # its standard library has zstd
        variables = {} if extra == "embedded" else {**redis, "FLOWQ_CLAIM_STORE": "bodies"}
        done = environment.run(shop, *command, **variables)
        assert done.returncode != 0, command
        expected = "scraping" if extra == "browser" else extra  # what it needs first
        assert f"flowq-streams[{expected}]" in done.stderr, done.stderr
        assert "FQ900" not in done.stderr
        assert command[0] == "python" or "Traceback" not in done.stderr

    for command in (["check"], ["graph", "shop"], ["try", "shop.show", "seven.ndjson"], ["config"]):
        environment.ok(shop, "flowq", *command)
    for command in (["run", "shop"], ["status", "shop"], ["dlq", "ls", "shop"], ["push", "shop.show", "7"]):
        environment.ok(shop, "flowq", *command, **redis)
    environment.ok(shop, "flowq", "new", "news", "--template", "etl")
    environment.ok(shop, "python", "-c", "from flowq import *; from flowq.sources import *")


LARGE = """
from collections.abc import Iterator
from flowq import Pipeline, source, stage

@source
def texts() -> Iterator[str]: yield "x" * 50_000

@stage(claim_above=10_000)
def measure(text: str) -> None: print("got", len(text), flush=True)

large = Pipeline("large", texts >> measure)
"""
PACKED = """
from flowq import Pipeline, stage
from flowq.sources import ndjson

@stage
def show(n: int) -> None: print("got", n, flush=True)

packed = Pipeline("packed", ndjson(int, "rows.ndjson.zst") >> show)
"""
MEASURED = """
from collections.abc import Iterator
from urllib.request import urlopen
from flowq import Pipeline, source, stage

@source
def numbers() -> Iterator[int]: yield 1

@stage
def show(n: int, port: int = PORT) -> None:
    print("got", b"flowq_messages" in urlopen(f"http://127.0.0.1:{port}/metrics").read(), flush=True)

measured = Pipeline("measured", numbers >> show)
"""


def test_the_extra_claim_alone_keeps_large_bodies_out_of_redis(
    installed: Installed, shop: Path, redis: Variables
) -> None:
    write(shop, "large", LARGE)
    (shop / "bodies").mkdir()
    printed = installed("claim").ok(shop, "flowq", "run", "large", **redis, FLOWQ_CLAIM_STORE="bodies")
    assert "got 50000" in printed


def test_the_extra_zstd_alone_reads_packed_files(installed: Installed, shop: Path, redis: Variables) -> None:
    environment = installed("zstd")
    write(shop, "packed", PACKED)
    library = "compression.zstd" if OWN_VERSION >= "3.14" else "backports.zstd"
    code = f"import {library} as zstd; open('rows.ndjson.zst', 'wb').write(zstd.compress(b'7\\n'))"
    environment.ok(shop, "python", "-c", code)
    assert "got 7" in environment.ok(shop, "flowq", "run", "packed", **redis)


def test_the_extra_metrics_alone_serves_them(installed: Installed, shop: Path, redis: Variables) -> None:
    port = free_port()
    write(shop, "measured", MEASURED.replace("PORT", str(port)))
    command = ("flowq", "run", "measured", "--metrics", f"127.0.0.1:{port}")
    assert "got True" in installed("metrics").ok(shop, *command, **redis)


def test_the_extra_dashboard_alone_serves_a_page(installed: Installed, shop: Path, redis: Variables) -> None:
    code = """
import re, subprocess, sys, urllib.request
command = [sys.executable, "-m", "flowq", "dashboard", "--listen", "0"]
serving = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
try:
    url = re.search(r"http://\\S+", serving.stderr.readline())[0]
    for path in ("/p/shop", "/static/flowq.css"):
        print("got", urllib.request.urlopen(url + path, timeout=60).status)
finally:
    serving.terminate()
    serving.communicate()
"""
    assert installed("dashboard").ok(shop, "python", "-c", code, **redis).count("got 200") == 2


def test_the_extra_otel_alone_writes_spans(installed: Installed, shop: Path, redis: Variables) -> None:
    printed = installed("otel").ok(shop, "flowq", "run", "shop", "--otel", **redis, OTEL_TRACES_EXPORTER="console")
    assert '"trace_id"' in printed


def test_the_extra_reload_alone_watches_a_run(installed: Installed, shop: Path, redis: Variables) -> None:
    installed("reload").ok(shop, "flowq", "run", "shop", "--reload", **redis)


def test_the_extra_test_alone_runs_in_memory_and_tests_a_new_pipeline(installed: Installed, shop: Path) -> None:
    environment = installed("test")
    assert environment.ok(shop, "flowq", "run", "shop", "--memory").count("got ") == 3
    project = shop / "new"
    project.mkdir()
    environment.ok(project, "flowq", "new", "news", "--template", "etl")
    assert " passed" in environment.ok(project, "python", "-m", "pytest", "-p", "no:cacheprovider")
    assert "nothing lost" in environment.ok(project, "flowq", "test", "news", "--seeds", "2")


def test_the_extra_scraping_alone_reads_pages(installed: Installed, shop: Path) -> None:
    code = "from flowq.scraping import *; print(Html('<a href=b>', 'http://h/a').links)"
    assert "http://h/b" in installed("scraping").ok(shop, "python", "-c", code)


def test_the_extra_browser_alone_imports(installed: Installed, shop: Path) -> None:
    installed("browser").ok(shop, "python", "-c", "import flowq.scraping.browser")


def test_the_extra_examples_alone_has_what_the_example_pipelines_import(installed: Installed, shop: Path) -> None:
    modules = "airportsdata, aiosmtplib, aiosqlite, asyncpg, duckdb, httpx2, standardwebhooks, flowq.scraping"
    installed("examples").ok(shop, "python", "-c", f"import {modules}")
