"""Training on a world from the command line."""

from __future__ import annotations

import pytest

pytest.importorskip("duckdb")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ([], "not a world (no world.json)"),
        (["--epochs", "0"], "Invalid value for '--epochs'"),
        (["--lr", "0"], "Invalid value for '--lr'"),
        (["--hidden", "8,x"], "'--hidden' must be whole numbers like 1000,300"),
    ],
)
def test_wrong_words_are_refused(call, tmp_path, asked, told):
    words = ["train", "--world", tmp_path, "--out", tmp_path / "out"]
    assert told in call(*words, *asked).error
    assert not (tmp_path / "out").exists()
