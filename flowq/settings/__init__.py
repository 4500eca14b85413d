"""Settings of a project: built-in, then [tool.flowq] in pyproject.toml, then FLOWQ_* variables, then flags.

Reads files and the environment, and knows no Redis."""

from __future__ import annotations

from flowq.settings.project import DATA_FOLDER as DATA_FOLDER
from flowq.settings.project import EMBEDDED as EMBEDDED
from flowq.settings.project import Settings as Settings
