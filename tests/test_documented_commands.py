"""Commands that the documentation shows are commands that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from ddrm_pyg.cli import _app

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
    group = typer.main.get_command(_app())
    line = line.replace("--device cuda", "--device cpu")  # not everywhere
    words = shlex.split(line, comments=True)[1:]
    command, context = group, typer.Context(group)
    while isinstance(command, TyperGroup):
        command = command.get_command(context, words.pop(0))
    assert command is not None
    command.make_context("ddrm-pyg", words)  # refuses unknown options; runs nothing
