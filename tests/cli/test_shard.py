"""Files and patterns become a world."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("duckdb")

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.scale.rows import MEMORY
from ddrm_pyg.scale.world import ROWS_PER_SHARD, World


@pytest.fixture
def logs(tmp_path):
    for part in range(2):
        rows = [f"u{n % 5},i{n % 7},{n}" for n in range(30 * part, 30 * part + 30)]
        (tmp_path / f"log-{part}.csv").write_text("\n".join(["user,item,time", *rows]))
    return tmp_path / "log-*.csv"


def test_a_pattern_and_its_embeddings(call, logs, tmp_path):
    out = tmp_path / "world"
    record = json.loads(call("shard", logs, "--out", out, "--json").out)
    assert record["num_users"] == 5
    assert record["num_items"] == 7
    assert record["num_shards"] == 1
    assert sum(record["num_edges"].values()) == 35
    emb = Embeddings(torch.randn(5, 4), torch.randn(7, 4))
    emb.save(tmp_path / "emb.safetensors")
    words = ["--embeddings", tmp_path / "emb.safetensors", "--world", out]
    assert "5 users, 7 items, 35 pairs in 1 shards" in call("shard", *words).out
    assert torch.equal(World.open(out).user_emb(0), emb.user)


def test_ratings_and_splits(call, tmp_path):
    """Five users, ten items each; the last three of each are disliked."""
    rows = [
        f"u{n % 5},i{(n % 5 + n // 5) % 10},{n},{5 if n < 35 else 1}" for n in range(50)
    ]
    text = "\n".join(["user,item,time,stars", *rows])
    (tmp_path / "log.csv").write_text(text)
    asked = {
        "liked": ["--rating", "stars", "--liked-from", "4"],
        "global": ["--split", "global"],
        "random": ["--no-time", "--seed", "3"],
    }
    edges = {}
    for name, words in asked.items():
        words = ["shard", tmp_path / "log.csv", "--out", tmp_path / name, *words]
        edges[name] = json.loads(call(*words, "--json").out)["num_edges"]
    assert edges["liked"] == {"train": 25, "val": 20, "test": 5}
    assert edges["global"] == {"train": 35, "val": 5, "test": 10}
    assert edges["random"] == {"train": 35, "val": 5, "test": 10}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([], "give DATA and '--out', or '--embeddings' and '--world'"),
        (["a.csv"], "give DATA and '--out'"),
        (["--out", "w"], "give DATA and '--out'"),
        (["--embeddings", "e.safetensors"], "give DATA and '--out'"),
        (["--world", "w"], "give DATA and '--out'"),
        (["a.csv", "--out", "w", "--world", "w"], "give DATA and '--out'"),
        (["a.csv", "--out", "w"], "a.csv: no such file"),
        (["a.csv", "--out", "w", "--ratios", "1"], "'--ratios' must be three numbers"),
        ([".", "--out", "w"], "must be a table, not a folder"),
        ([".", "--out", "w", "--no-time", "--split", "global"], "needs a column"),
        (["--embeddings", "e.safetensors", "--world", "w"], "w: no such file"),
        (["--embeddings", "e.safetensors", "--world", "."], "e.safetensors: no such"),
    ],
)
def test_wrong_words_are_refused(call, tmp_path, monkeypatch, asked, message):
    monkeypatch.chdir(tmp_path)
    assert message in call("shard", *asked).error
    assert list(tmp_path.iterdir()) == []


def test_the_help_says_what_is_used_where_nothing_is_given(call):
    shown = " ".join(call("shard", "--help").out.split())
    assert f"; {ROWS_PER_SHARD} if none" in shown
    assert f"; {MEMORY} if none" in shown
