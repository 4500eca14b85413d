"""Assembles the pages of the site: those of docs/, and what they link to outside of it, with links that lead there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
_LANGUAGES = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".lua": "lua"}
_FENCED = re.compile(r"^( *)(`{3,}).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r'(\]\(|(?:src|srcset|href)=")([^)"#\s:]+)(?=[)"#\s])')
_PICTURE = re.compile(
    r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">\s*<img ([^>]*)src="([^"]+)"([^>]*)>'
    r"\s*</picture>"
)


@dataclass
class Assembly:
    """A folder of pages. `repository` is the address of the code on a host, for links to edit a page; or empty."""

    folder: Path
    repository: str = ""
    done: set[Path] = field(default_factory=set[Path])

    def all(self) -> None:
        """Write all pages of docs/, and whatever else they lead to."""
        docs = sorted(file for file in (ROOT / "docs").rglob("*") if file.is_file())
        for file in [*docs, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
            self._add(file)

    def _add(self, file: Path) -> None:
        if file in self.done:
            return
        self.done.add(file)
        target = self.folder / place(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".md":
            target.write_text(self._with_notes(file, self._with_links(file)))
        elif target.suffix == ".md":
            target.write_text(self._with_notes(file, _listing(file) if file.is_dir() else _source(file)))
        else:
            target.write_bytes(file.read_bytes())

    def _with_links(self, file: Path) -> str:
        text = _PICTURE.sub(
            r'<img \2src="\3#only-light"\4><img \2src="\1#only-dark"\4>', file.read_text()
        )  # the reader's choice decides, not only the system's
        parts, end = list[str](), 0
        for fenced in _FENCED.finditer(text):
            parts += [self._linked(file, text[end : fenced.start()]), fenced[0]]
            end = fenced.end()
        return "".join([*parts, self._linked(file, text[end:])])

    def _linked(self, file: Path, text: str) -> str:
        def moved(found: re.Match[str]) -> str:
            target = (file.parent / found[2]).resolve()
            if not target.exists() or not target.is_relative_to(ROOT):
                return found[0]  # the check of links names it
            self._add(target)
            return found[1] + _relative(place(target), place(file))

        return _LINK.sub(moved, text)

    def _with_notes(self, file: Path, text: str) -> str:
        """The page, with where to edit it and where it is as Markdown."""
        edit = f"edit: {self.repository}/edit/main/{file.relative_to(ROOT)}\n" if self.repository else ""
        return f"---\nmarkdown: {place(file).name}\n{edit}---\n{text}"


def place(file: Path) -> PurePosixPath:
    """Where a file of the project is on the site."""
    path = PurePosixPath(file.relative_to(ROOT))
    if path.is_relative_to("docs"):
        return path.relative_to("docs")
    if path.suffix == ".md":
        return PurePosixPath(str(path).lower()) if len(path.parts) == 1 else "source" / path.with_name("README.md")
    return PurePosixPath("source") / path.with_name(path.name + ".md")


def without_notes(text: str) -> str:
    """A page as it is published beside its HTML."""
    return re.sub(r"\A---\n.*?^---\n", "", text, flags=re.MULTILINE | re.DOTALL)


def _relative(target: PurePosixPath, page: PurePosixPath) -> str:
    return PurePosixPath(os.path.relpath(target, page.parent)).as_posix()


def _source(file: Path) -> str:
    return f"# {file.relative_to(ROOT)}\n\n````{_LANGUAGES.get(file.suffix, '')}\n{file.read_text()}````\n"


def _listing(folder: Path) -> str:
    files = sorted(file.name for file in folder.iterdir() if not file.name.startswith(("__", ".")))
    return f"# {folder.relative_to(ROOT)}\n\n" + "".join(f"- `{name}`\n" for name in files)
