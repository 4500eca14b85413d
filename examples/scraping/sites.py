"""Fetches real documentation sites from packages into a cache folder."""

from __future__ import annotations

import argparse
import os
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from examples.packages import PackageUnavailable, from_apt, from_pip, only

NAMES = ("sqlalchemy", "postgresql", "sphinx", "sqlite")
SQLALCHEMY = "SQLAlchemy==2.1.9"


class SiteUnavailable(Exception):
    """A site is neither in the cache nor available; the text, one line, says why and what to do."""


@dataclass(frozen=True, slots=True)
class Site:
    """A folder of static pages. `start` is the path of the start page, from `root`."""

    name: str
    root: Path
    start: str = "/index.html"

    def pages(self) -> Iterator[str]:
        """The path of every HTML file on disk, linked or not, such as `/tutorial/index.html`."""
        for file in sorted(self.root.rglob("*.htm*")):
            if is_html(file.name) and file.is_file():
                yield "/" + file.relative_to(self.root).as_posix()


def made_site(folder: Path, pages: int) -> Site:
    """Create a site of `pages` small pages in a folder: the first links to all others, and they link back."""
    folder.mkdir()
    others = [f"page{n}.html" for n in range(1, pages)]
    links = "".join(f"<a href={name}>{name}</a>" for name in others)
    (folder / "index.html").write_text(f"<title>start</title>{links}")
    for name in others:
        (folder / name).write_text(f"<title>{name}</title><a href=index.html>back</a>")
    return Site("made", folder)


def is_html(path: str) -> bool:
    """Whether a file is a page, by its name."""
    return path.lower().endswith((".html", ".htm"))


def site(name: str) -> Site:
    """The site of that name, fetched by the first call (2 to 11 MB) and kept in `$FLOWQ_SITES` or `.sites`.

    `sqlalchemy` comes from the Python package index and needs only pip. `postgresql`, `sphinx` and `sqlite`
    are Debian packages and need `apt-get` and `dpkg-deb`, but neither root nor an installation. A name with a
    slash is a folder of your own.

    Raises SiteUnavailable when there is no such site or it cannot be fetched.
    """
    if "/" in name:
        return _checked(Site(Path(name).name, Path(name)))
    if name not in NAMES:
        raise SiteUnavailable(f"no site {name!r}: choose one of {', '.join(NAMES)}")
    folder = _cache() / name
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=folder.parent) as scratch:
            try:
                _publish(_fetch(name, Path(scratch)), folder)
            except PackageUnavailable as error:
                raise SiteUnavailable(f"site {name} is not available: {error}") from error
    return _checked(Site(name, folder))


def _checked(found: Site) -> Site:
    if not (found.root / found.start[1:]).is_file():
        raise SiteUnavailable(f"site {found.name}: no {found.start} in {found.root}; remove or correct the folder")
    return found


def _cache() -> Path:
    cache = Path(os.environ.get("FLOWQ_SITES") or Path(__file__).parents[2] / ".sites").resolve()
    cache.mkdir(parents=True, exist_ok=True)
    (cache / ".gitignore").write_text("*\n")
    return cache


def _fetch(name: str, scratch: Path) -> Path:
    match name:
        case "postgresql":
            return _from_apt("postgresql-doc-[0-9]+", "usr/share/doc/postgresql-doc-*/html/index.html", scratch)
        case "sphinx":
            return _from_apt("sphinx-doc", "usr/share/doc/sphinx-doc/html/index.html", scratch)
        case "sqlite":
            return _from_apt("sqlite3-doc", "usr/share/doc/sqlite3*/index.html", scratch)
        case _:
            return _from_pip(SQLALCHEMY, "*/doc/index.html", scratch)


def _publish(pages: Path, folder: Path) -> None:
    for file in pages.rglob("*"):
        if file.is_symlink():  # into other packages, which only some machines have
            file.unlink()
    try:
        pages.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process has just published the same site
            raise


def _from_pip(requirement: str, start: str, scratch: Path) -> Path:
    with tarfile.open(from_pip(requirement, scratch)) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)  # since Python 3.11.4
        archive.extractall(scratch, [member for member in archive if "/doc/" in member.name])
    return only(scratch, start).parent


def _from_apt(package: str, start: str, scratch: Path) -> Path:
    """Unpack the newest Debian package of that name, an expression; `start` is the glob of its first page."""
    from_apt(package, scratch)
    return only(scratch, start).parent


def main() -> int:
    """Fetch the sites named on the command line and print where they are."""
    parser = argparse.ArgumentParser(prog="python -m examples.scraping.sites", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="site", help=", ".join(NAMES))
    exit_code = 0
    for name in parser.parse_args().names:
        try:
            found = site(name)
            print(f"{found.name:<12} {sum(1 for _ in found.pages()):>5} pages  {found.root}")
        except SiteUnavailable as error:
            print(f"error: {error}", file=sys.stderr)
            exit_code = 1
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
