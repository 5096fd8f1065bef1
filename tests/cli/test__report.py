"""The page has the command as it was typed."""

from __future__ import annotations

from ddrm_pyg.cli._report import COMMAND, REPORT, write_report
from ddrm_pyg.experiments.report import NextSteps

AFTER = NextSteps({}, {})


def test_the_command_is_as_it_was_typed(call, tmp_path):
    call("evaluate", "--data", "my clicks.csv", "--embeddings", "none.npz")
    command = "ddrm-pyg evaluate --data 'my clicks.csv' --embeddings none.npz"
    assert COMMAND.get() == command
    write_report(tmp_path, "t", ["it helps"], [], AFTER, [], {}, {})
    assert [path.name for path in tmp_path.iterdir()] == [REPORT]
    text = (tmp_path / REPORT).read_text()
    words = command.replace("'", "&#x27;").split()
    assert " ".join(f"<span>{word}</span>" for word in words) in text
