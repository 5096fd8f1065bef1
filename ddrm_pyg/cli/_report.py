"""The page that commands leave beside their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddrm_pyg.experiments.report import NextSteps
    from ddrm_pyg.experiments.tables import Table

COMMAND: ContextVar[str] = ContextVar("COMMAND", default="ddrm-pyg")
"""The command as it was typed."""

REPORT = "report.html"
"""Name of the page in a folder of results."""


def write_report(
    folder: Path,
    title: str,
    verdict: Sequence[str],
    meaning: Sequence[str],
    after: NextSteps,
    tables: Sequence[Table],
    pictures: Mapping[str, bytes],
    settings: Any,
    notes: Sequence[str] = (),
) -> None:
    """Write a :class:`ddrm_pyg.experiments.report.Report` of the running command."""
    from ddrm_pyg.experiments.report import Report
    from ddrm_pyg.files import write_text

    parts = (title, verdict, meaning, after, tables, pictures, settings)
    write_text(folder / REPORT, Report(*parts, COMMAND.get(), notes).html())
