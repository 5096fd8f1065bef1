"""Commands that the documentation shows are commands that there are."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
import typer
from typer.core import TyperGroup

from ddrm_pyg.cli import app
from ddrm_pyg.experiments.cells import rows_for
from ddrm_pyg.experiments.plug_in import METRIC, Verdict, as_tables
from ddrm_pyg.experiments.settings import cell_for, denoised
from ddrm_pyg.experiments.tables import Row
from ddrm_pyg.experiments.work import Result
from ddrm_pyg.ranking import METRICS, Metrics
from ddrm_pyg.significance import PairedTest

REPOSITORY = Path(__file__).parents[1]
PAGES = (
    *("README.md", "benchmarks/README.md", "examples/README.md"),
    *sorted(
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / "docs").rglob("*.md")
        if "tables" not in path.parts
    ),
)
COMMANDS = [
    pytest.param(line, id=f"{page}: {line[:60]}")
    for page in PAGES
    for block in re.findall(
        r"```bash\n(.*?)```", (REPOSITORY / page).read_text("utf-8"), re.DOTALL
    )
    for line in re.findall(r"ddrm-pyg [^&\n]+", block)
]


def test_there_are_commands_to_check():
    assert len(COMMANDS) > 5


@pytest.mark.parametrize("line", COMMANDS)
def test_documented_command_is_understood(line):
    group = typer.main.get_command(app())
    line = line.replace("--device cuda", "--device cpu")  # not everywhere
    words = shlex.split(line, comments=True)[1:]
    command, context = group, typer.Context(group)
    while isinstance(command, TyperGroup):
        command = command.get_command(context, words.pop(0))
    assert command is not None
    command.make_context("ddrm-pyg", words)  # refuses unknown options; runs nothing


def kept_row(record) -> Row:
    """A row of the run that README shows, from what is kept of it."""
    backend = cell_for("svd")
    cells = rows_for(backend, denoised(backend, "ddrm", settings="ddrm_future"))
    measures = {name: record[name] for name in (*METRICS, "coverage@20")}
    test = Metrics(torch.arange(0), {}, measures)
    where = (cells[record["name"]], Path(), record["val"])
    cost = ([], None, 0.0, 0, None)
    return Row(record["name"], [Result(*where, test, record["notes"], *cost)])


def paired(record) -> PairedTest:
    return PairedTest(*(record[name] for name in PairedTest._fields))


def test_the_output_in_readme_is_what_the_run_prints():
    kept = REPOSITORY / "docs" / "pictures" / "own-clicks.json"
    record = json.loads(kept.read_text())
    rows, beside = [*map(kept_row, record["rows"])], record["yardstick"]
    verdict = Verdict(
        *("ddrm", record["verdict"], record["rival"], paired(record)),
        (beside["name"], paired(beside)),
    )
    parts = [*(table.text() for table in as_tables(rows)), str(verdict)]
    printed = "\n".join(parts).splitlines()
    text = (REPOSITORY / "README.md").read_text("utf-8")
    (shown,) = re.findall(r"```text\n(.*?verdict on .*?)```", text, re.DOTALL)
    places = [printed.index(line) for line in shown.splitlines() if line]
    assert places[1:] == sorted(places[1:])  # the head stands above both halves
    names = [row.name for row in rows if row.order_aware]
    assert [line[:23].rstrip() for line in shown.splitlines()[1:5]] == names
    free = {row.name: row.metrics[METRIC] for row in rows if not row.order_aware}
    assert f"in the other half `{max(free, key=free.__getitem__)}` is best" in text
