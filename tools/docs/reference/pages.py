"""All generated pages of docs/reference/."""

from __future__ import annotations

from pathlib import Path

from tools.docs.reference.api import declaring, programs, testing
from tools.docs.reference.commands import commands
from tools.docs.reference.error_codes import error_codes
from tools.docs.reference.metrics import metrics
from tools.docs.reference.redis_keys import redis_keys
from tools.docs.reference.settings import settings

FOLDER = Path(__file__).parents[3] / "docs" / "reference"
_MARK = "<!-- Written by `make reference`: change the code, not this page. -->\n\n"


def pages() -> dict[str, str]:
    """The pages by file name."""
    made = {
        "stages.md": declaring(),
        "programs.md": programs(),
        "test-kit.md": testing(),
        "commands.md": commands(),
        "settings.md": settings(),
        "errors.md": error_codes(),
        "metrics.md": metrics(),
        "redis-keys.md": redis_keys(),
    }
    return {name: _MARK + text for name, text in made.items()}
