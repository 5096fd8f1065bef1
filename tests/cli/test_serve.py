"""Serving starts from an export, or says in a line why not."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("onnxruntime")


def test_help_imports_no_torch():
    code = (
        "import sys\n"
        "from ddrm_pyg.cli import main\n"
        "main(['serve', '--help'])\n"
        "assert 'torch' not in sys.modules\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert answer.returncode == 0
    assert "--port" in answer.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "not an export (no serving.json)"),
        (["--port", "70000"], "Invalid value for '--port'"),
        (["--threads", "0"], "Invalid value for '--threads'"),
        (["--max-history", "0"], "Invalid value for '--max-history'"),
        (["--drain", "-1"], "Invalid value for '--drain'"),
    ],
)
def test_wrong_words_are_refused(call, tmp_path, words, message):
    assert message in call("serve", tmp_path, *words).error


def test_words_reach_the_server(call, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("ddrm_pyg.serving.app.Service", lambda *words: words)
    monkeypatch.setattr("ddrm_pyg.serving.app.run", lambda *words: seen.append(words))
    call("serve", tmp_path, "--port", "81", "--max-batch", "7", "--drain", "3")
    ((service, host, port, drain),) = seen
    assert (service[0], service[1].batch, service[1].history) == (tmp_path, 7, 1000)
    assert (host, port, drain) == ("127.0.0.1", 81, 3.0)
