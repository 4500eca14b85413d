"""The scraping example: where its sites come from, and the errors when they are not available."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.scraping.sites import Site, SiteUnavailable, site


def test_a_site_in_the_cache_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "postgresql").mkdir()
    (tmp_path / "postgresql" / "index.html").write_text("cached")
    monkeypatch.setenv("FLOWQ_SITES", str(tmp_path))
    monkeypatch.setenv("PATH", "")

    assert site("postgresql") == Site("postgresql", tmp_path.resolve() / "postgresql")


def test_without_apt_the_error_names_the_site_that_needs_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWQ_SITES", str(tmp_path))
    monkeypatch.setenv("PATH", "")

    with pytest.raises(
        SiteUnavailable, match=r"^site sphinx is not available: .*no apt-get; sqlalchemy needs only pip$"
    ):
        site("sphinx")
    assert [path.name for path in tmp_path.iterdir()] == [".gitignore"]


def test_an_unknown_site_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(
        SiteUnavailable, match=r"no site 'sphynx': choose one of sqlalchemy, postgresql, sphinx, sqlite"
    ):
        site("sphynx")
