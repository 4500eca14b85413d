"""Settings: which place wins, where each value came from, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowq import Pipeline, PipelineError, Rate, Retry, source, stage
from flowq.errors import NotFound, SettingsError
from flowq.settings import Settings
from flowq.settings.stages import StageSetting

SECRET = "s3cr3t"


@pytest.fixture
def pyproject(tmp_path: Path) -> Path:
    return tmp_path / "pyproject.toml"


def load(pyproject: Path, text: str = "", environ: dict[str, str] | None = None, **flags: object) -> Settings:
    pyproject.write_text(text)
    return Settings.load(pyproject.parent, environ or {}, flags)


def numbered(*stages: str) -> Pipeline:
    """A pipeline with these stages and a source, for settings that are about some of them."""

    def numbers() -> Iterator[int]:
        yield 1

    def handle(number: int) -> None: ...

    return Pipeline("p", source(numbers) >> tuple(stage(name=name)(handle) for name in stages))


def concurrency(settings: Settings, name: str, *stages: str) -> dict[str, int]:
    """How many messages each stage handles at once, in the pipeline that is known by that name."""
    tuned = settings.tuned(name, numbered(*stages))
    return {stage.name: stage.concurrency for stage in tuned.plan.consumers}


def test_without_anything_set_the_built_in_values_hold(tmp_path: Path) -> None:
    settings = Settings.load(tmp_path, {}, {})

    assert settings.redis is None
    assert settings.pipelines == ("pipelines",)
    assert settings.namespace == "flowq"
    assert (settings.lease_seconds, settings.grace_seconds, settings.workers) == (15.0, 30.0, 1)
    assert set(settings.origin.values()) == {"built-in"}


def test_each_place_wins_over_the_one_before_it(pyproject: Path) -> None:
    table = '[tool.flowq]\nnamespace = "file"\nlease = "1m"\nworkers = 2\ngrace = "1s"\n'

    settings = load(pyproject, table, {"FLOWQ_LEASE": "2m", "FLOWQ_WORKERS": "3"}, workers=4)

    assert (settings.namespace, settings.origin["namespace"]) == ("file", "pyproject.toml [tool.flowq]")
    assert (settings.lease_seconds, settings.origin["lease"]) == (120.0, "env FLOWQ_LEASE")
    assert (settings.workers, settings.origin["workers"]) == (4, "flag --workers")
    assert settings.grace_seconds == 1.0
    assert settings.origin["pipelines"] == "built-in"


def test_what_is_set_for_the_web_page_is_a_table_of_its_own(pyproject: Path) -> None:
    table = (
        '[tool.flowq.dashboard]\nlisten = ":9000"\nallow_hosts = "a.example, b.example"\nshow = ["url"]\n'
        "[tool.flowq.profiles.prod.dashboard]\nallow_actions = true\n"
    )

    settings = load(pyproject, table, {"FLOWQ_PROFILE": "prod", "FLOWQ_DASHBOARD_HISTORY": "10m"})

    page = settings.dashboard
    assert (page.listen, page.allow_hosts, page.show) == (":9000", ("a.example", "b.example"), ("url",))
    assert (page.allow_actions, page.show_bodies, page.history_seconds) == (True, None, 600.0)
    assert settings.origin["dashboard_history"] == "env FLOWQ_DASHBOARD_HISTORY"
    assert settings.origin["dashboard_allow_actions"] == "pyproject.toml [tool.flowq.profiles.prod]"


def test_a_flag_that_was_not_given_wins_over_nothing(pyproject: Path) -> None:
    settings = load(pyproject, "[tool.flowq]\nworkers = 2\n", workers=None)

    assert settings.workers == 2


def test_our_own_redis_variable_wins_over_the_common_one(pyproject: Path) -> None:
    common = {"REDIS_URL": "redis://common"}
    ours = {"FLOWQ_REDIS_URL": "redis://ours"}

    assert load(pyproject, "", common).origin["redis"] == "env REDIS_URL"
    both = load(pyproject, "", common | ours)
    assert (both.redis, both.origin["redis"]) == ("redis://ours", "env FLOWQ_REDIS_URL")


def test_the_earlier_name_of_a_setting_still_works(pyproject: Path) -> None:
    by_file = load(pyproject, '[tool.flowq]\nclaim_folder = "/mnt/bodies"\n')
    by_variable = load(pyproject, '[tool.flowq]\nclaim_folder = "/mnt/bodies"\n', {"FLOWQ_CLAIM_FOLDER": "s3://bodies"})
    by_both = load(pyproject, "", {"FLOWQ_CLAIM_FOLDER": "/old", "FLOWQ_CLAIM_STORE": "/new"})

    assert (by_file.claim_store, by_variable.claim_store, by_both.claim_store) == ("/mnt/bodies", "s3://bodies", "/new")
    assert by_variable.origin["claim_store"] == "env FLOWQ_CLAIM_FOLDER"


def test_an_empty_variable_counts_as_not_set(pyproject: Path) -> None:
    settings = load(pyproject, '[tool.flowq]\nredis = "redis://file"\n', {"FLOWQ_REDIS_URL": ""})

    assert settings.redis == "redis://file"


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_a_profile_is_laid_over_the_table(pyproject: Path, how: str) -> None:
    text = (
        '[tool.flowq]\nredis = "redis://dev"\nworkers = 2\n'
        '[tool.flowq.profiles.prod]\nredis = "redis://prod"\n'
        "[tool.flowq.profiles.prod.pipelines.scrape.stages.fetch]\nconcurrency = 64\n"
    )
    pyproject.write_text(text)

    settings = (
        Settings.load(pyproject.parent, {}, profile="prod")
        if how == "flag"
        else Settings.load(pyproject.parent, {"FLOWQ_PROFILE": "prod"})
    )

    assert (settings.redis, settings.workers) == ("redis://prod", 2)
    assert settings.origin["redis"] == "pyproject.toml [tool.flowq.profiles.prod]"
    assert concurrency(settings, "scrape", "fetch") == {"fetch": 64}


def test_an_unknown_profile_names_the_nearest(pyproject: Path) -> None:
    pyproject.write_text("[tool.flowq.profiles.prod]\nworkers = 2\n")

    with pytest.raises(NotFound, match=r'no profile "prd".*\n.*did you mean "prod"'):
        Settings.load(pyproject.parent, {}, profile="prd")


def test_pipelines_may_be_a_folder_a_list_or_a_table_with_a_path(pyproject: Path) -> None:
    assert load(pyproject, '[tool.flowq]\npipelines = "flows"\n').pipelines == ("flows",)
    assert load(pyproject, '[tool.flowq]\npipelines = ["flows", "pkg.flows:scrape"]\n').pipelines == (
        "flows",
        "pkg.flows:scrape",
    )
    dotted = load(pyproject, '[tool.flowq]\npipelines.path = "flows"\n[tool.flowq.pipelines.p.stages.a]\nbatch = 2\n')
    assert dotted.pipelines == ("flows",)
    table = load(pyproject, '[tool.flowq.pipelines]\npath = "flows"\nscrape.stages.fetch.concurrency = 3\n')
    assert table.pipelines == ("flows",)
    assert concurrency(table, "scrape", "fetch") == {"fetch": 3}
    assert load(pyproject, "", {"FLOWQ_PIPELINES": "flows, pkg.flows:scrape"}).pipelines == (
        "flows",
        "pkg.flows:scrape",
    )


def test_a_variable_for_a_stage_wins_over_its_table_whatever_the_case_of_the_name(pyproject: Path) -> None:
    text = "[tool.flowq.pipelines.my_Flow.stages.fetch_all]\nconcurrency = 16\n"

    settings = load(pyproject, text, {"FLOWQ_MY_FLOW__FETCH_ALL__CONCURRENCY": "32"})

    assert concurrency(settings, "my_Flow", "fetch_all", "parse") == {"fetch_all": 32, "parse": 10}
    assert concurrency(settings, "other", "fetch_all") == {"fetch_all": 10}


def test_options_of_a_stage_are_laid_over_each_other_one_by_one(pyproject: Path) -> None:
    text = (
        "[tool.flowq.pipelines.scrape.stages.fetch]\n"
        'retry = { attempts = 8, max = "5m" }\nmax_bytes = "5MB"\nmaxsize = 500\n'
        '[tool.flowq.profiles.prod.pipelines.scrape.stages.fetch.retry]\nmax = "1h"\n'
    )
    pyproject.write_text(text)
    variables = {"FLOWQ_SCRAPE__FETCH__RETRY__ATTEMPTS": "9", "FLOWQ_SCRAPE__FETCH__COMPRESS": "true"}
    settings = Settings.load(pyproject.parent, variables, profile="prod")
    flag = StageSetting.read("scrape", "fetch", "retry.base", "2s", "flag --set")

    plan = settings.with_stages([flag]).tuned("scrape", numbered("fetch")).plan

    fetch = plan.stage("fetch")
    assert fetch.retry == Retry(9, base=2, max=3600)
    assert (fetch.max_bytes, fetch.compress_above) == (5_000_000, 2000)
    assert {edge.maxsize for edge in plan.edges_into("fetch")} == {500}


def test_a_stage_may_have_two_underscores_in_its_name(pyproject: Path) -> None:
    variables = {"FLOWQ_P__FETCH__ALL__CONCURRENCY": "3", "FLOWQ_P__FETCH__ALL__RATE__N": "5"}

    plan = load(pyproject, "", variables).tuned("p", numbered("fetch__all")).plan

    assert (plan.stage("fetch__all").concurrency, plan.stage("fetch__all").rate) == (3, Rate(5))


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("", {}, 1),
        ("[tool.flowq.pipelines.p]\nshards = 8\n", {}, 8),
        ("[tool.flowq.pipelines.p]\nshards = 8\n", {"FLOWQ_P__SHARDS": "16"}, 16),
        ("[tool.flowq.pipelines.other]\nshards = 8\n", {}, 1),
        ("[tool.flowq.pipelines.p]\nshards = 8\nstages.fetch.concurrency = 3\n", {}, 8),
    ],
)
def test_the_number_of_shards_can_be_set(pyproject: Path, text: str, environ: dict[str, str], expected: int) -> None:
    assert load(pyproject, text, environ).tuned("p", numbered("fetch")).plan.shards == expected


def test_options_of_stages_leave_the_number_of_shards_in_the_code_as_it_is(pyproject: Path) -> None:
    @stage
    def fetch(number: int) -> None: ...

    settings = load(pyproject, "", {"FLOWQ_P__FETCH__CONCURRENCY": "3"})
    plan = settings.tuned("p", Pipeline("p", fetch, shards=8)).plan

    assert (plan.shards, plan.stage("fetch").concurrency) == (8, 3)


def test_a_setting_for_a_source_is_refused(pyproject: Path) -> None:
    with pytest.raises(SettingsError, match='"numbers" is a source, and has no options'):
        load(pyproject, "", {"FLOWQ_P__NUMBERS__CONCURRENCY": "3"}).tuned("p", numbered("fetch"))


def test_a_setting_that_contradicts_the_code_is_reported_with_its_origin(pyproject: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        load(pyproject, "", {"FLOWQ_P__FETCH__LINGER": "3s"}).tuned("p", numbered("parse", "fetch"))

    (problem,) = caught.value.problems
    assert "linger has no effect without batch" in problem.text
    assert problem.details == ("fetch.linger = 3s    env FLOWQ_P__FETCH__LINGER",)


def test_a_setting_for_a_stage_that_does_not_exist_is_refused(pyproject: Path) -> None:
    settings = load(pyproject, "[tool.flowq.pipelines.scrape.stages.fecth]\nconcurrency = 16\n")

    with pytest.raises(SettingsError, match=r'has no stage "fecth".*\n.*did you mean "fetch"') as caught:
        settings.tuned("scrape", numbered("fetch", "parse"))
    assert "[tool.flowq.pipelines.scrape.stages.fecth]" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.flowq]\nworker = 2\n", r'no setting "worker"    \S*pyproject.toml:2\n.*did you mean "workers"'),
        ("[tool.flowq]\n\nworkers = 'two'\n", r"workers must be a whole number.*pyproject.toml:3"),
        ("[tool.flowq]\nworkers = true\n", "workers must be a whole number"),
        ("[tool.flowq]\nlease = '15 parsecs'\n", "lease must be a duration above 0, such as"),
        ("[tool.flowq]\nlease = 0\n", "lease must be a duration above 0"),
        ("[tool.flowq]\nnamespace = 'a:b'\n", "namespace must be 1 to 64 letters"),
        ("[tool.flowq]\npipelines = []\n", "pipelines must be a folder"),
        ("[tool.flowq.dashboard]\nlistn = ':1'\n", r'no setting "dashboard.listn"    \S*:2\n.*mean "dashboard.listen"'),
        ("[tool.flowq.dashboard]\n\nallow_actions = 'maybe'\n", r"dashboard.allow_actions must be true.*\S*:3"),
        ("[tool.flowq.dashboard]\nhistory = -1\n", "dashboard.history must be a duration, such as"),
        ("[tool.flowq.dashboard]\nlog_url = 'javascript:alert(1)'\n", "dashboard.log_url must be an https:// address"),
        ("[tool.flowq.dashboard]\ntoken = 's3cr3t'\n", "a token is a secret: set FLOWQ_DASHBOARD_TOKEN instead"),
        ("[tool.flowq]\ndashboard = 3\n", "tool.flowq.dashboard must be a table"),
        ("[tool.flowq.pipelines.scrape]\nstage = 1\n", 'no setting "stage"'),
        ("[tool.flowq.pipelines.scrape]\nshards = 65\n", r"scrape\]: shards: must be a whole number from 1 to 64"),
        ("[tool.flowq.pipelines.scrape]\nshards = true\n", "shards: must be a whole number from 1 to 64"),
        ("[tool.flowq.pipelines.scrape.stages.fetch]\nconcurency = 1\n", 'did you mean "concurrency"'),
        (
            "[tool.flowq.pipelines.scrape.stages.fetch]\nconcurrency = 0\n",
            "concurrency: must be a whole number above 0",
        ),
        ("[tool.flowq.pipelines.scrape.stages.fetch.retry]\nattempt = 3\n", 'did you mean "retry.attempts"'),
        ("[tool.flowq.pipelines.scrape.stages.fetch]\nretry = 3\n", "set retry.attempts, retry.base"),
        ("[tool.flowq.pipelines.scrape.stages.fetch]\ntimeout = 'soon'\n", "timeout: 'soon' is not a duration"),
        ("[tool.flowq.pipelines.scrape.stages.fetch]\ndedup = 'url'\n", "dedup can only be set in the code"),
        ("[tool.flowq.pipelines.scrape.stages]\nfetch = 3\n", "scrape.stages.fetch must be a table"),
        ("[tool.flowq.profiles.prod]\nworker = 2\n", r"profiles.prod\]: there is no setting"),
        ("[tool]\nflowq = 3\n", "tool.flowq must be a table"),
        (
            "[tool.flowq]\npipelines = 'flows'\n[tool.flowq.pipelines.p.stages.a]\nbatch = 2\n",
            r"Cannot overwrite(.|\n)*the folder is  pipelines.path",
        ),
        ("[tool.flowq]\nworkers = \n", r"cannot read pyproject.toml.*pyproject.toml:2"),
    ],
)
def test_what_the_file_says_wrongly_is_refused_with_place_and_remedy(pyproject: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load(pyproject, text)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("FLOWQ_WORKER", "3", r"did you mean FLOWQ_WORKERS\?"),
        ("FLOWQ_SCRAPE__SHARDS", "many", "env FLOWQ_SCRAPE__SHARDS: shards: must be a whole number from 1 to 64"),
        ("FLOWQ_REDIS", "redis://x", r"did you mean FLOWQ_REDIS_URL\?"),
        ("FLOWQ_WORKERS", "-1", "env FLOWQ_WORKERS: workers must be a whole number"),
        (
            "FLOWQ_SCRAPE__FETCH__CONCURRENCY",
            "many",
            "env FLOWQ_SCRAPE__FETCH__CONCURRENCY: concurrency: must be a whole",
        ),
        ("FLOWQ_DASHBOARD_LISTN", ":1", r"did you mean FLOWQ_DASHBOARD_LISTEN\?"),
        ("FLOWQ_DASHBOARD_ALLOW_ACTIONS", "maybe", "env FLOWQ_DASHBOARD_ALLOW_ACTIONS: .* must be true or false"),
        ("FLOWQ_SCRAPE__FETCH__RETRY", "3", 'no setting "retry"'),
        ("FLOWQ_SCRAPE__FETCH__RETRY__ATTEMPT", "3", 'did you mean "retry.attempts"'),
        ("FLOWQ_SCRAPE__FETCH__TIMEOUT", "soon", "timeout: 'soon' is not a duration"),
        ("FLOWQ_SCRAPE__CONCURRENCY", "3", "write FLOWQ_PIPELINE__STAGE__OPTION"),
    ],
)
def test_a_variable_that_is_wrong_is_refused(pyproject: Path, name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load(pyproject, "", {name: value})


@pytest.mark.parametrize(
    "name",
    [
        "FLOWQ_PORT",
        "FLOWQ_SERVICE_HOST",
        "FLOWQ_REDIS_SERVICE_PORT_REDIS",
        "FLOWQ_REDIS_PORT",
        "FLOWQ_REDIS_PORT_6379_TCP_ADDR",
        "FLOWQ_REDIS_SERVER",
        "FLOWQ_SOMETHING_ELSE_ENTIRELY",
    ],
)
def test_variables_that_kubernetes_or_others_set_are_left_alone(pyproject: Path, name: str) -> None:
    assert load(pyproject, "", {name: "tcp://10.0.0.1:6379"}).redis is None


def test_a_duration_may_be_text_or_a_number(pyproject: Path) -> None:
    assert load(pyproject, "[tool.flowq]\ngrace = 2.5\n").grace_seconds == 2.5
    assert load(pyproject, "", {"FLOWQ_GRACE": "2.5"}).grace_seconds == 2.5
    assert load(pyproject, "", grace="250ms").grace_seconds == 0.25


def test_no_repr_and_no_error_shows_a_password(pyproject: Path) -> None:
    url = f"redis://user:{SECRET}@localhost/0"

    assert SECRET not in repr(load(pyproject, "", {"FLOWQ_REDIS_URL": url}))
    with pytest.raises(SettingsError) as caught:
        load(pyproject, f'[tool.flowq]\nredis = ["{url}"]\n')
    assert SECRET not in str(caught.value)


def test_a_table_of_another_tool_does_not_matter(pyproject: Path) -> None:
    assert load(pyproject, "[tool.other]\nworker = 2\n[project]\nname = 'x'\n").workers == 1


def test_a_setting_for_a_pipeline_that_does_not_exist_is_refused(pyproject: Path) -> None:
    settings = load(pyproject, "[tool.flowq.pipelines.scarpe.stages.fetch]\nconcurrency = 16\n")

    settings.check_pipelines(["scarpe", "flights"])
    with pytest.raises(SettingsError, match=r'there is no pipeline "scarpe".*\n.*did you mean "scrape"'):
        settings.check_pipelines(["scrape", "flights"])


def test_durability_is_one_of_two(pyproject: Path) -> None:
    assert load(pyproject).durability == "local"
    assert load(pyproject, environ={"FLOWQ_DURABILITY": "replicated"}).durability == "replicated"
    with pytest.raises(SettingsError, match='durability must be "local" or "replicated"'):
        load(pyproject, '[tool.flowq]\ndurability = "yes"\n')


def test_only_upper_case_variables_are_settings(pyproject: Path) -> None:
    settings = load(pyproject, "", {"flowq_workers": "7", "FLOWQ_LEASE": "2m"})
    assert (settings.workers, settings.lease_seconds) == (1, 120)


# The root of a project


def test_the_settings_of_a_project_hold_in_all_folders_below_it(pyproject: Path) -> None:
    pyproject.write_text('[tool.flowq]\nclaim_store = "bodies"\nworkers = 2\n')
    below = pyproject.parent / "src" / "app"
    below.mkdir(parents=True)
    (below / "pyproject.toml").write_text("[tool.other]\nworkers = 9\n")

    settings = Settings.load(below, {})

    assert (settings.workers, settings.file, settings.root) == (2, pyproject, pyproject.parent)
    assert settings.data_folder == pyproject.parent / ".flowq"
    assert settings.claim_store == str(pyproject.parent / "bodies")


def test_a_project_within_another_is_one_of_its_own(pyproject: Path) -> None:
    pyproject.write_text("[tool.flowq]\nworkers = 2\n")
    inner = pyproject.parent / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text("[tool.flowq]\n")

    settings = Settings.load(inner, {})

    assert (settings.workers, settings.root) == (1, inner)


def test_without_a_project_the_folder_itself_is_the_root(tmp_path: Path) -> None:
    settings = Settings.load(tmp_path, {"FLOWQ_CLAIM_STORE": "bodies"})

    assert (settings.root, settings.file, settings.claim_store) == (tmp_path, None, str(tmp_path / "bodies"))


def test_a_file_above_that_cannot_be_read_counts_only_where_it_is_about_flowq(pyproject: Path) -> None:
    below = pyproject.parent / "below"
    below.mkdir()
    for text in ("[tool.other\n", "tool = 3\n", "tool = [[]]\n"):
        pyproject.write_text(text)
        assert Settings.load(below, {}).file is None

    pyproject.write_text("[tool.flowq]\nworkers = \n")
    with pytest.raises(SettingsError, match=r"cannot read pyproject.toml.*pyproject.toml:2"):
        Settings.load(below, {})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
def test_the_file_of_a_stranger_in_a_folder_above_where_anyone_may_write_is_passed_over(pyproject: Path) -> None:
    below = pyproject.parent / "below"
    below.mkdir()
    pyproject.write_text("[tool.flowq]\nworkers = 2\n")
    pyproject.parent.chmod(0o1777)
    assert Settings.load(below, {}).workers == 2

    os.chown(pyproject, 65534, 65534)
    assert Settings.load(below, {}).workers == 1
    assert Settings.load(pyproject.parent, {}).workers == 2


def test_the_embedded_server_is_one_that_can_be_chosen(pyproject: Path) -> None:
    chosen = load(pyproject, '[tool.flowq]\nredis = "embedded"\n')
    elsewhere = load(pyproject, '[tool.flowq]\nredis = "embedded"\n', {"REDIS_URL": "redis://common"})

    assert (chosen.redis, chosen.is_embedded) == ("embedded", True)
    assert (load(pyproject).redis, load(pyproject).is_embedded) == (None, True)
    assert not elsewhere.is_embedded
