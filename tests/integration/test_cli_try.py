"""`flowq try`: one stage on messages of one's own, by the rules of a worker, without any Redis."""

from __future__ import annotations

import json
from subprocess import CompletedProcess

import pytest

from tests.integration.project import Project

LAB = """
    from __future__ import annotations

    from collections.abc import Iterator

    from pydantic import BaseModel

    from flowq import Context, Pipeline, Reject, RetryLater, resource, source, stage, use


    class Link(BaseModel):
        url: str


    class Page(BaseModel):
        url: str
        html: str


    class Doc(BaseModel):
        title: str


    @resource
    def client() -> Iterator[dict[str, str]]:
        print("client open")
        yield {"a": "<a>", "b": "<b>"}
        print("client closed")


    @source
    def seeds() -> Iterator[Link]:
        yield Link(url="a")


    @stage(dedup="url")
    async def fetch(link: Link, http: dict[str, str] = use(client)) -> Page | None:
        print("fetching", link.url)
        if link.url == "gone":
            raise Reject("HTTP 410")
        if link.url == "busy":
            raise RetryLater("HTTP 429", after=30)
        return Page(url=link.url, html=http[link.url]) if link.url != "image" else None


    @stage(process=True, compress=True)
    def parse(page: Page) -> Iterator[Doc | Link]:
        yield Doc(title=page.html)
        yield Link(url=page.url + "/1")


    @stage(batch=2, linger=60)
    def store(docs: list[Doc]) -> None:
        print("stored", len(docs))


    @stage(ack="manual")
    async def index(doc: Doc, ctx: Context) -> None:
        ctx.emit(store, doc)
        await ctx.ack()


    @stage(timeout=0.05)
    async def slow(doc: Doc) -> None:
        import asyncio

        await asyncio.sleep(60)


    lab = Pipeline("lab", seeds >> fetch >> parse >> (store | fetch), index, slow)
"""


pytestmark = pytest.mark.project({"lab": LAB})


def tried(project: Project, *arguments: str, stdin: str = "") -> CompletedProcess[str]:
    """A trial that must not reach for a Redis: there is none at this address."""
    return project.flowq("try", *arguments, stdin=stdin, FLOWQ_REDIS_URL="redis://127.0.0.1:1")


def test_it_prints_what_the_function_gives_and_nothing_that_it_prints_itself(project: Project) -> None:
    project.write("link.json", '{\n  "url": "a"\n}\n')

    done = tried(project, "lab.fetch", "link.json")

    assert (done.returncode, done.stdout) == (0, '{"url":"a","html":"<a>"}\n')
    assert done.stderr.split("\n") == ["client open", "fetching a", "client closed", ""]


def test_the_outputs_of_one_stage_are_the_messages_of_the_next(project: Project) -> None:
    pages = tried(project, "lab.fetch", stdin='{"url": "a"}\n{"url": "b"}\n').stdout
    given = tried(project, "lab.parse", "-", stdin=pages)
    docs = tried(project, "lab.parse", "--to", "store", stdin=pages).stdout
    stored = tried(project, "lab.store", stdin=docs * 2)

    assert [json.loads(line) for line in given.stdout.splitlines()] == [
        {"title": "<a>"}, {"url": "a/1"}, {"title": "<b>"}, {"url": "b/1"},
    ]  # fmt: skip
    assert docs.splitlines() == ['{"title":"<a>"}', '{"title":"<b>"}']
    assert (stored.returncode, stored.stdout) == (0, "")
    assert sum(int(line.split()[1]) for line in stored.stderr.splitlines()) == 4


def test_what_a_handler_emits_and_settles_by_itself_is_printed_too(project: Project) -> None:
    assert tried(project, "lab.index", stdin='{"title": "x"}').stdout == '{"title":"x"}\n'


def test_a_failure_shows_where_it_was_what_would_follow_and_does_not_stop_the_others(project: Project) -> None:
    links = "".join(f'{{"url": "{url}"}}\n' for url in ("gone", "busy", "image", "c", "a"))

    done = tried(project, "lab.fetch", stdin=links)

    assert (done.returncode, done.stdout) == (1, '{"url":"a","html":"<a>"}\n')
    assert [line for line in done.stderr.splitlines() if line.startswith(("error", "fetch ", "  hint"))] == [
        "error[FQ304]: fetch failed for line 1    pipelines/lab.py:35",
        "  hint: in a run, this message would now be a dead letter (rejected)",
        "error[FQ304]: fetch failed for line 2    pipelines/lab.py:35",
        "  hint: in a run, it would be retried in about 30 s, up to 5 attempts",
        "fetch filtered line 3: it returned None",
        "error[FQ304]: fetch failed for line 4    pipelines/lab.py:35",
        "  hint: in a run, it would be retried in about 0.25 s, up to 5 attempts",
    ]
    assert 'raise Reject("HTTP 410")' in done.stderr
    assert "KeyError: 'c'" in done.stderr
    assert "flowq/runtime" not in done.stderr


def test_what_would_be_compressed_in_redis_is_printed_as_it_is(project: Project) -> None:
    project.write("lab", LAB.replace('{"a": "<a>"', '{"a": "<a>" * 10_000'))

    given = json.loads(tried(project, "lab.fetch", stdin='{"url": "a"}').stdout)

    assert given == {"url": "a", "html": "<a>" * 10_000}


def test_a_timeout_counts_as_in_a_run(project: Project) -> None:
    done = tried(project, "lab.slow", stdin='{"title": "x"}')

    assert done.returncode == 1
    assert "it ran longer than 0.05 s" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "line"),
    [
        (["lab.fetch"], '{"url": "a"}\n{"utl": "b"}\n', "error[FQ205]: line 2 does not fit fetch, which accepts Link"),
        (["lab.fetch"], "no json", "error[FQ205]: line 1 does not fit fetch, which accepts Link"),
        (["lab.fetch"], "", "error[FQ200]: no message to try"),
        (["lab.fetch", "nowhere.json"], "", "error[FQ200]: cannot read nowhere.json"),
        (["lab"], "", "error[FQ200]: which stage?"),
        (["lab.fecth"], "", 'error[FQ201]: pipeline "lab" has no stage "fecth"'),
        (["lab.fetch", "--to", "prase"], "", 'error[FQ201]: pipeline "lab" has no stage "prase"'),
        (["lab.seeds"], "", 'error[FQ200]: "seeds" is a source: it accepts no messages'),
        (["lba.fetch"], "", 'error[FQ201]: no pipeline "lba"'),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(project: Project, arguments: list[str], stdin: str, line: str) -> None:
    done = tried(project, *arguments, stdin=stdin)

    assert done.returncode == 2
    (found,) = [said for said in done.stderr.splitlines() if said.startswith("error")]
    assert found.startswith(line)


def test_the_help_has_an_example_that_composes(project: Project) -> None:
    assert "flowq try scrape.fetch link.json | flowq try scrape.parse" in tried(project, "--help").stdout
