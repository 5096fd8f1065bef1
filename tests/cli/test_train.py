"""Training on a world from the command line."""

from __future__ import annotations

import json
import random

import pytest

pytest.importorskip("duckdb")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([], "not a world (no world.json)"),
        (["--epochs", "0"], "Invalid value for '--epochs'"),
        (["--lr", "0"], "Invalid value for '--lr'"),
        (["--dim", "8"], "'--dim' is not for '--method ddrm' (got 8)"),
        (["--method", "mf", "--steps", "8"], "'--steps' is not for '--method mf'"),
        (["--hidden", "8,x"], "'--hidden' must be whole numbers like 1000,300"),
    ],
)
def test_wrong_words_are_refused(call, tmp_path, asked, message):
    words = ["train", "--world", tmp_path, "--out", tmp_path / "out"]
    assert message in call(*words, *asked).error
    assert not (tmp_path / "out").exists()


@pytest.mark.slow  # `.ci/run` runs the page itself, too
def test_from_logs_to_a_served_answer(call, tmp_path):
    """The small run of docs/howto/shards.md, but for the port."""
    pytest.importorskip("onnxscript")
    engine = pytest.importorskip("ddrm_pyg.serving.engine")
    draw = random.Random(0)
    rows = [f"u{u},i{draw.randrange(30)},{t}" for u in range(80) for t in range(12)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,time", *rows]))
    world, trained, out = (tmp_path / name for name in ("world", "trained", "out"))
    assert call("shard", tmp_path / "log.csv", "--out", world).code == 0
    words = ["--world", world, "--out", tmp_path / "mf", "--epochs", "2", "--dim", "8"]
    record = json.loads(call("train", "--method", "mf", *words, "--json").out)
    assert [line["epoch"] for line in record["history"]] == [1, 2]
    words = ["--world", world, "--out", trained, "--epochs", "2", "--hidden", "8"]
    record = json.loads(call("train", *words, "--json").out)
    assert [line["epoch"] for line in record["history"]] == [1, 2]
    assert record["best"] in record["history"]
    weights = ["--weights", trained / "ddrm"]
    lists = tmp_path / "lists"
    assert "80 users now" in call("bulk", world, *weights, "--out", lists).out
    words = [world, *weights, "--out", out, "--format", "onnx"]
    assert call("export", *words).code == 0
    (listed,) = engine.Engine(out).recommend([["i3", "i4"]], k=5, exclude=[["i5"]])
    assert len(listed.item) == 5
    assert not {"i3", "i4", "i5"} & set(listed.item)
