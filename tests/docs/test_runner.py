"""The runner of pages itself: what it does for each kind of block, and which differences it forgives."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from tests.docs import pages
from tests.docs.masks import same


def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> list[str]:
    """What the commands of a page with this text print."""
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    file = tmp_path / "page.md"
    file.write_text(dedent(text))
    return [done.output for _, pairs in pages.run(file, tmp_path / "home") for _, done in pairs]


def test_files_python_and_commands_of_a_page_share_a_folder_and_their_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = """
        ```python title="shop/prices.py"
        TEA = 3
        ```

        ```python
        from shop.prices import TEA
        ```

        ```python
        with open("bill.txt", "w") as bill:
            print(TEA, file=bill)
        ```

        ```console
        $ cd shop; n=7
        $ cat > more.txt <<END
        > $n
        > END
        $ cat ../bill.txt more.txt && pwd
        ```
        """
    assert outputs(tmp_path, monkeypatch, page) == ["", "", "3\n7\n~/page/shop"]


def test_commands_and_python_do_not_see_the_variables_of_a_ci_server_or_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CI", "BUILD_NUMBER", "GITHUB_ACTIONS", "NO_COLOR", "FORCE_COLOR", "PYTEST_ADDOPTS", "TZ"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("LANG", "C")
    page = """
        ```python
        import os
        print(" ".join(sorted(os.environ)), file=open("seen", "w"))
        ```

        ```console
        $ echo $CI$BUILD_NUMBER$GITHUB_ACTIONS$NO_COLOR$FORCE_COLOR$PYTEST_ADDOPTS$TZ $COLUMNS $TERM $LANG
        $ grep -cwE "CI|BUILD_NUMBER|GITHUB_ACTIONS|NO_COLOR|FORCE_COLOR|PYTEST_ADDOPTS|TZ" seen || true
        ```
        """
    assert outputs(tmp_path, monkeypatch, page) == ["100 dumb C.UTF-8", "0"]


def test_a_page_that_continues_another_begins_with_its_files_and_runs_none_of_its_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first.md").write_text('```text title="a"\n1\n```\n\n```console\n$ touch c\n```\n')
    (tmp_path / "second.md").write_text('<!-- continues first.md -->\n\n```text title="a"\n2\n```\n')
    page = """
        <!-- continues second.md -->
        <!-- folder books -->

        ```text title="b"
        3
        ```

        ```console
        $ pwd && cat a b && ls
        ```
        """
    assert outputs(tmp_path, monkeypatch, page) == ["~/books\n2\n3\na\nb"]


def test_a_command_in_the_background_can_be_waited_for_interrupted_and_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = """
        ```console
        $ bash -c 'trap "echo interrupted; exit" INT; touch ready; while :; do sleep 0.01; done' &
        ```

        <!-- until: test -e ready -->
        ```console
        $ kill -INT $!; wait $!
        $ sleep 1000 &
        $ kill -9 $!
        ```

        <!-- exit 137 -->
        ```console
        $ wait $!
        ```
        """
    assert outputs(tmp_path, monkeypatch, page) == ["", "interrupted", "", "", ""]


@pytest.mark.parametrize(
    "block",
    ["```console\n$ false\n```", "```python\nassert 1 == 2\n```", "<!-- exit 2 -->\n```console\n$ true\n```"],
)
def test_a_step_that_ends_otherwise_than_the_page_says_fails_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: str
) -> None:
    with pytest.raises(AssertionError):
        outputs(tmp_path, monkeypatch, block)


@pytest.mark.parametrize(
    ("shown", "seen"),
    [
        ("fetch  19  8.7/s  14ms  53 kB", "fetch 120  9/s 1.2s 2.6 MB"),
        ("show  2  -", "show  2  1.4/s"),
        ("HELLO\nWORLD", "WORLD\nHELLO"),
        ("vm:18837:56a53rph  idle", "vm:2:abcdefgh  idle"),
        ("0s starting  a 0 of 0  left 0  dead 0", ""),
    ],
)
def test_numbers_ids_and_the_order_of_lines_may_differ(shown: str, seen: str) -> None:
    assert same(shown, seen)


def table_of_stages(cause: str, *columns: str, row: str) -> str:
    titles = "stage cause in ok filtered dead waiting delayed running"
    return f" {titles} {' '.join(columns)}\n scan {cause} {row}\n"


def test_columns_of_stages_that_fit_by_chance_may_differ_and_what_a_stage_does_may_not() -> None:
    slow = table_of_stages("! no worker", "oldest", "memory", "trend", row="5 0 0 0 5 0 0 4.5s 4.8 kB █")
    fast = table_of_stages("! no worker", "retries", "oldest", "memory", row="5 0 0 0 5 0 0 0 - 688 B")

    assert same(slow, fast)
    assert not same(slow, fast.replace("no worker", "paused"))
    assert not same(slow, fast.replace(" scan", " scans"))
    assert not same(slow, fast.replace(" waiting", ""))


@pytest.mark.parametrize(
    ("shown", "seen"),
    [("drained", "stopped"), ("error[FQ200]: no", "error[FQ201]: no"), ("HELLO\nWORLD", "HELLO"), ("", "oops")],
)
def test_words_codes_of_errors_and_missing_lines_may_not(shown: str, seen: str) -> None:
    assert not same(shown, seen)


def test_numbers_are_compared_where_the_page_says_exact() -> None:
    assert same("2 stored\n1 dead", "1 dead\n2 stored", exact=True)
    assert not same("2 stored", "3 stored", exact=True)
