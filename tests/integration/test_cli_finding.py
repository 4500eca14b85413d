"""All pipelines of a project are found, in every layout, and their names work in every command."""

from __future__ import annotations

import json

import pytest

from tests.integration.project import Project

STAGES = """
    from collections.abc import Iterator

    from flowq import Pipeline, stage


    @stage
    def take(n: int) -> int:
        return n


    @stage
    def keep(n: int) -> None: ...


"""
BROKEN = "raise RuntimeError('out of order')\n"

pytestmark = pytest.mark.project({})


def listed(project: Project) -> dict[str, str]:
    """Names and files, as `flowq ls` lists them; each must work."""
    rows = json.loads(project.flowq("ls", "--json").stdout)
    for row in rows:
        if not row["error"]:
            pushed = project.flowq("push", f"{row['name']}.take", "1", "--dry-run")
            assert (pushed.returncode, pushed.stdout) == (0, "valid\n"), pushed.stderr
    return {row["name"]: row["file"] for row in rows}


def test_a_file_may_define_several_under_any_names_and_in_lists_and_dictionaries(project: Project) -> None:
    project.write("shop", STAGES + '    orders = Pipeline("orders", take >> keep)\n    x = Pipeline("refunds", take)\n')
    project.write("sites", STAGES + '    sites = [Pipeline(f"site_{n}", take) for n in ("a", "b")]\n')
    project.write("hosts", STAGES + '    hosts = {n: Pipeline("host_" + n, take) for n in ("c",)}\n')
    project.write(
        "made", STAGES + "    def make(name):\n        return Pipeline(name, take)\n\n    m = make('made_here')\n"
    )

    assert listed(project) == {
        "orders": "pipelines/shop.py",
        "refunds": "pipelines/shop.py",
        "site_a": "pipelines/sites.py",
        "site_b": "pipelines/sites.py",
        "host_c": "pipelines/hosts.py",
        "made_here": "pipelines/made.py",
    }


def test_names_of_a_module_that_cannot_be_asked_for_their_class_as_djangos_settings_do_not_matter(
    project: Project,
) -> None:
    lazy = """
    class Lazy:
        @property
        def __class__(self):
            raise RuntimeError("settings are not configured")


    class Odd(dict):
        def values(self):
            raise RuntimeError("not yet")


    settings, more, odd = Lazy(), [Lazy()], Odd()
    """
    project.write("orders", STAGES + lazy + '\n    orders = Pipeline("orders", take)\n')

    assert listed(project) == {"orders": "pipelines/orders.py"}


def test_packages_within_packages_and_folders_without_init_are_searched_and_each_pipeline_counts_once(
    project: Project,
) -> None:
    project.write("pipelines/eu/__init__.py", "from pipelines.eu.fr.paris import paris\n")
    project.write("pipelines/eu/fr/__init__.py", "")
    project.write("pipelines/eu/fr/paris.py", STAGES + '    paris = Pipeline("paris", take)\n')
    project.write("pipelines/us/ohio.py", STAGES + '    ohio = Pipeline("ohio", take)\n')
    project.write("pipelines/us/helpers.py", BROKEN)

    assert listed(project) == {"paris": "pipelines/eu/fr/paris.py", "ohio": "pipelines/us/ohio.py"}


@pytest.mark.parametrize("place", ["src", "src/shop", "src/shop/pipelines", "shop.pipelines.orders:flow"])
def test_packages_in_src_are_imported_by_their_own_names(place: str, project: Project) -> None:
    project.write("src/shop/__init__.py", "")
    project.write("src/shop/models.py", "N = int\n")
    project.write("src/shop/pipelines/__init__.py", "")
    by_its_name = '    from shop.models import N\n    assert __name__ == "shop.pipelines.orders"\n'
    text = STAGES + by_its_name + '    flow = Pipeline("orders", take)\n'
    project.write("src/shop/pipelines/orders.py", text)
    project.write("pyproject.toml", f'[tool.flowq]\npipelines = "{place}"\n')

    assert listed(project) == {"orders": "src/shop/pipelines/orders.py"}


def test_folders_and_files_may_be_named_like_modules_of_python_below_the_root(project: Project) -> None:
    project.write("queue", STAGES + '    q = Pipeline("json", take)\n')
    project.write("pipelines/email/smtp.py", STAGES + '    q = Pipeline("letters", take)\n')

    assert listed(project) == {"json": "pipelines/queue.py", "letters": "pipelines/email/smtp.py"}


def test_two_pipelines_of_one_name_are_one_error_with_both_places_and_hide_no_other(project: Project) -> None:
    for name in ("one", "two"):
        project.write(name, STAGES + f'    p = Pipeline("shop", take)\n    q = Pipeline("{name}", take)\n')
    both = 'there are two pipelines named "shop": pipelines/one.py:15 and pipelines/two.py:15'

    for arguments in (["run", "shop"], ["status", "shop"], ["push", "shop", "1"]):
        refused = project.flowq(*arguments)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr.startswith(f"error[FQ215]: {both}")
    assert {row["name"]: row["error"] for row in json.loads(project.flowq("ls", "--json").stdout)} == {
        "one": None, "shop": both, "two": None,
    }  # fmt: skip
    assert [both in project.flowq("check", *names).stderr for names in ([], ["shop"], ["one"])] == [True, True, False]


def test_a_file_that_fails_to_import_hides_no_other(project: Project) -> None:
    project.write("broken", BROKEN)
    project.write("shop", STAGES + '    orders = Pipeline("orders", take)\n')
    project.write("computed", STAGES + '    p = Pipeline("com" + "puted_name", take)\n')

    for name in ("orders", "computed_name", "shop"):
        assert project.flowq("graph", name).returncode == 0
    assert "RuntimeError: out of order" in project.flowq("graph", "broken").stderr
    project.write("edited", STAGES + '    x = Pipeline("returns", take\n')
    assert "SyntaxError" in project.flowq("graph", "returns").stderr
    unknown = project.flowq("graph", "order")
    assert 'did you mean "orders"?  (flowq ls); pipelines/broken.py cannot be imported  (flowq check)' in unknown.stderr
    status = project.flowq("status")
    assert "broken: pipelines/broken.py cannot be imported  (flowq check broken)" in status.stderr
    assert {line.split()[0] for line in status.stdout.splitlines() if line.strip()} >= {"orders", "computed_name"}


def test_a_pipeline_in_a_list_may_have_stages_that_run_in_other_processes(project: Project) -> None:
    text = STAGES.replace("@stage\n    def keep", "@stage(process=True)\n    def keep")
    project.write("sites", text + '    sites = [Pipeline(f"site_{n}", take >> keep) for n in ("a", "b")]\n')
    project.flowq("push", "site_b", "1")

    ran = project.flowq("run", "site_b", "--drain")

    assert (ran.returncode, "drained" in ran.stderr) == (0, True), ran.stderr


def test_settings_of_stages_go_by_the_name_of_the_pipeline(project: Project) -> None:
    project.write("shop", STAGES + '    x = Pipeline("orders", take)\n')
    project.write("computed", STAGES + '    computed = Pipeline("com" + "puted", take)\n')
    project.write(
        "pyproject.toml",
        """
        [tool.flowq.pipelines]
        orders.stages.take.concurrency = 3
        computed.stages.take.concurrency = 4
    """,
    )

    def concurrency(name: str, **variables: str) -> str:
        found = json.loads(project.flowq("config", name, "--json", **variables).stdout)
        return next(one["value"] for one in found if one["name"] == "take.concurrency")

    assert [concurrency(name) for name in ("orders", "computed")] == ["3", "4"]
    assert concurrency("orders", FLOWQ_ORDERS__TAKE__CONCURRENCY="5") == "5"
    wrong = project.flowq("config", "orders", FLOWQ_SHOP__TAKE__CONCURRENCY="5")
    assert (wrong.returncode, 'there is no pipeline "SHOP"' in wrong.stderr) == (2, True)


def test_workers_find_the_pipeline_that_was_asked_for(project: Project) -> None:
    source = """
    from flowq import source

    @source
    def numbers() -> Iterator[int]:
        yield from range(3)
"""
    project.write("sites", STAGES + source + '    sites = [Pipeline(f"site_{n}", numbers >> take) for n in "ab"]\n')

    for name in ("site_a", "site_b"):
        run = project.ok("run", name, "--json", "--set", "take.concurrency=2")
        assert (run.summary["pipeline"], run.summary["stages"]["take"]["in"]) == (name, 3)


def completed(project: Project, words: str) -> list[str]:
    variables = {"_FLOWQ_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    return project.flowq(**variables).stdout.split()


def test_names_of_pipelines_and_their_stages_are_completed_without_importing_them(project: Project) -> None:
    project.write(
        "shop",
        STAGES + '    x = Pipeline("orders", take >> keep)\n    y = Pipeline(name="refunds")\n' + "    " + BROKEN,
    )

    assert completed(project, "flowq status ") == ["orders", "refunds"]
    assert completed(project, "flowq push orders.") == ["orders.take", "orders.keep"]
