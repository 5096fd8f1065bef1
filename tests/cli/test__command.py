from __future__ import annotations

import logging
import re
import shlex
import subprocess
import sys

import pytest
import typer
from typer.core import TyperGroup

from ddrm_pyg.cli import app
from ddrm_pyg.progress import HIDDEN


def commands(group=None, words=("ddrm-pyg",)):
    group = group or typer.main.get_command(app())
    context = typer.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, TyperGroup):
            yield from commands(command, (*words, name))
        else:
            yield pytest.param(command, [*words, name], id=name)


@pytest.mark.parametrize(("command", "words"), [*commands()])
def test_every_command_shows_examples_that_it_understands(command, words):
    lines = command.get_help(typer.Context(command)).partition("\nExamples:\n")[2]
    examples = [line.strip() for line in lines.splitlines()]
    assert examples == command.epilog.splitlines()
    assert examples
    for example in examples:
        example = re.sub("^torchrun .* -m ddrm_pyg", "ddrm-pyg", example)
        parts = shlex.split(example.partition(" > ")[0])
        assert parts[: len(words)] == words
        command.make_context(words[-1], parts[len(words) :])  # refuses what is unknown


@pytest.fixture
def said(call, monkeypatch):
    logger = logging.getLogger("ddrm_pyg")

    def diagnose(*_, **__):
        logger.info("an announcement, bars %s", "hidden" if HIDDEN.get() else "shown")
        logger.warning("a warning")
        raise ValueError("what went wrong")

    monkeypatch.setattr("ddrm_pyg.cli.doctor.diagnose", diagnose)
    return lambda *words: call("doctor", *words)


def test_a_command_says_as_much_as_is_asked_for(said):
    usual = said().err.splitlines()
    error = "ddrm-pyg: error: what went wrong"
    assert usual == ["an announcement, bars shown", "a warning", error]
    assert said("-q").err.splitlines() == ["a warning", error]
    much = said("--verbose").err
    assert much.startswith("an announcement, bars shown\na warning\n")
    assert "Traceback" in much
    assert much.endswith(error + "\n")
    assert said().err.splitlines() == usual  # nothing stays


@pytest.mark.parametrize(
    ("words", "number", "completed"),
    [
        ("ddrm-pyg re", 1, ["reproduce", "recommend"]),
        ("ddrm-pyg settings sh", 2, ["show"]),
        ("ddrm-pyg settings show --j", 3, ["--json"]),
    ],
)
def test_a_shell_completes_words_without_torch(words, number, completed):
    program = (
        "import os, sys\n"
        f"os.environ |= {{'COMP_WORDS': {words!r}, 'COMP_CWORD': '{number}',\n"
        "    '_DDRM_PYG_COMPLETE': 'complete_bash'}\n"
        "from ddrm_pyg.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    assert 'torch' not in sys.modules\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert answer.stdout.split() == completed
    assert answer.stderr == ""


def test_what_was_assumed_is_not_said_where_less_is_asked_for(call, clicks):
    words = ["data", "describe", clicks, "--user", "Customer", "--item", "Book"]
    for _ in range(2):  # nothing stays
        assert "clicks.csv: assumed each user split" in call(*words).err
        quiet = call(*words, "-q")
        assert quiet.code == 0
        assert quiet.err == ""
        assert quiet.out


def test_a_column_that_looks_useful_is_pointed_out_unless_less_is_asked_for(
    call, tmp_path
):
    rows = [f"{u},{i},2018-07-{i + 1:02}" for u in range(3) for i in range(10)]
    path = tmp_path / "clicks.csv"
    path.write_text("\n".join(["user,item,bought_at", *rows]))
    said = call("data", "describe", path).err
    assert said.count("'bought_at' looks like times: with --time bought_at") == 1
    assert call("data", "describe", path, "-q").err == ""
    assert "looks like" not in call("data", "describe", path, "--no-time").err
