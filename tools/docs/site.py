"""Builds the documentation as a site into build/docs/site, and checks its links: `make docs`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from tools.docs.assembly import ROOT, Assembly, without_notes
from tools.docs.links import dead_links

BUILD = ROOT / "build" / "docs"


def main() -> int:
    """Build the site; return 1 where it has warnings or links that lead nowhere."""
    return build(BUILD, repository=os.environ.get("REPOSITORY", ""))


def build(folder: Path, *, repository: str = "") -> int:
    """Build the site into `folder`/site, from pages that are assembled in `folder`/pages."""
    shutil.rmtree(folder, ignore_errors=True)
    pages, site = folder / "pages", folder / "site"
    Assembly(pages, repository).all()
    project = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    navigation = _listed(pages, project["nav"], set(_pages(project["nav"])))
    (folder / "zensical.toml").write_text(_configuration(navigation))
    done = subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=folder, check=False)
    if done.returncode:
        return 1
    for page in pages.rglob("*.md"):
        (site / page.relative_to(pages)).write_text(without_notes(page.read_text()))
    (site / "llms.txt").write_text(_llms(project, pages, navigation))
    dead = list(dead_links(site))
    print("\n".join(dead) or f"the site is in {site}/index.html")
    return 1 if dead else 0


def _configuration(navigation: list[Any]) -> str:
    """The configuration for the assembled pages: that of the project, with its places and the whole navigation."""
    text = (ROOT / "zensical.toml").read_text()
    theme = ROOT / "tools" / "docs" / "theme"
    text = re.sub(r'custom_dir = "[^"]*"', f'custom_dir = "{theme}"', text)
    nav = f'docs_dir = "pages"\nsite_dir = "site"\nnav = {_toml(navigation)}'
    return re.sub(r"^nav = \[.*?^\]", lambda _: nav, text, flags=re.MULTILINE | re.DOTALL)


def _toml(value: Any) -> str:
    match value:
        case dict():
            value = cast(dict[str, Any], value)
            return "{ " + ", ".join(f'"{name}" = {_toml(item)}' for name, item in value.items()) + " }"
        case list():
            return "[" + ", ".join(map(_toml, cast(list[Any], value))) + "]"
        case _:
            return f'"{value}"'


def _listed(pages: Path, inside: Any, named: set[str]) -> Any:
    """A part of the navigation with the pages of each `folder/` that are not named, and without what is empty."""
    match inside:
        case list():
            listed = [_listed(pages, item, named) for item in cast(list[Any], inside)]
            lists = [cast(list[Any], item) if isinstance(item, list) else [item] for item in listed]
            return [page for pages_of_item in lists for page in pages_of_item if page]
        case dict():
            items = cast(dict[str, Any], inside).items()
            return {title: listed for title, item in items if (listed := _listed(pages, item, named))}
        case str() if inside.endswith("/"):
            found = sorted((pages / inside).glob("*.md"), key=lambda page: (page.name != "index.md", page.name))
            return [name for page in found if (name := page.relative_to(pages).as_posix()) not in named]
        case _:
            return inside


def _llms(project: dict[str, Any], pages: Path, navigation: list[Any]) -> str:
    lines = [f"# {project['site_name']}", "", f"> {project['site_description']}"]
    for item in navigation:
        ((title, inside),) = item.items()
        lines += ["", f"## {title}", ""]
        lines += [f"- [{_title(pages / page)}]({page})" for page in _pages(inside)]
    return "\n".join(lines) + "\n"


def _pages(item: Any) -> Iterator[str]:
    match item:
        case dict():
            yield from _pages(list(cast(dict[str, Any], item).values()))
        case list():
            for inside in cast(list[Any], item):
                yield from _pages(inside)
        case _:
            yield item


def _title(page: Path) -> str:
    found = re.search(r"^# (.*)$", page.read_text(), re.MULTILINE)
    return found[1] if found else page.stem


if __name__ == "__main__":
    sys.exit(main())
