"""Lists of a whole world, in its own ids."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch

pytest.importorskip("duckdb")

from ddrm_pyg.cli.bulk import _chosen
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.nn.ddrm import DDRM
from ddrm_pyg.scale.ingest import shard
from ddrm_pyg.scale.world import cut_embeddings


@pytest.fixture
def made(tmp_path):
    rows = [f"ann {n % 5},book {n % 7},{n}" for n in range(20)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,time", *rows]))
    world = shard([tmp_path / "log.csv"], tmp_path / "world")
    emb = Embeddings(torch.randn(5, 4), torch.randn(7, 4))
    emb.save(tmp_path / "emb.safetensors")
    cut_embeddings(world, tmp_path / "emb.safetensors")
    DDRM(4, (8,)).save_pretrained(tmp_path / "weights")
    return [tmp_path / "world", "--weights", tmp_path / "weights"]


def test_lists_in_own_ids(call, made, tmp_path):
    out = tmp_path / "lists"
    words = ["bulk", *made, "--out", out, "-k", "2"]
    assert json.loads(call(*words, "--json").out)["users"] == 5
    frame = pd.read_parquet(out / "user-00000.parquet")
    assert list(frame.columns) == ["user", "item", "rank", "score"]
    assert frame["user"].unique().tolist() == [f"ann {n}" for n in range(5)]
    assert set(frame["item"]) <= {f"book {n}" for n in range(7)}
    assert frame["rank"].tolist() == [1, 2] * 5
    pairs = {(f"ann {n % 5}", f"book {n % 7}") for n in range(20)}
    assert not pairs & set(zip(frame["user"], frame["item"], strict=True))
    assert "0 users now, 1 shards" in call(*words).out
    assert "must be new or hold these lists" in call(*words, "--seed", "1").error


@pytest.mark.parametrize("words", ["1-0", "x", "3-", "-1"])
def test_no_shards_are_refused(words):
    with pytest.raises(ValueError, match=r"'--shards' must be like 3-7 or 3"):
        _chosen(words)


def test_some_shards_are_chosen():
    assert list(_chosen("3-5")) == [3, 4, 5]
    assert list(_chosen("0")) == [0]
    assert _chosen(None) is None


def test_what_happened_since(call, made, tmp_path):
    out = tmp_path / "lists"
    rows = ["ann 0,book 1", "kim,book 2", "kim,a new book"]
    (tmp_path / "since.csv").write_text("\n".join(["who,what", *rows]))
    words = ["bulk", *made, "--out", out, "--history", tmp_path / "since*.csv"]
    words += ["--user", "who", "--item", "what"]
    record = json.loads(call(*words, "--json").out)
    assert record == {"users": 6, "shards": 2, "out": str(out)}
    new = pd.read_parquet(out / "user-00001.parquet")
    assert new["user"].unique().tolist() == ["kim"]
    assert not {"book 2", "a new book"} & set(new["item"])
    old = pd.read_parquet(out / "user-00000.parquet")
    assert "a new book" in set(old["item"])
    assert "book 1" not in set(old[old["user"] == "ann 0"]["item"])
    (tmp_path / "since.csv").write_text("who,what\nkim,book 1")
    assert "must be new or hold these lists" in call(*words).error


def test_vectors_need_a_history_and_shards_are_there(call, made, tmp_path):
    words = ["bulk", *made, "--out", tmp_path / "lists"]
    asked = ["--item-emb", "new.csv"]
    assert "'--item-emb' must come with '--history'" in call(*words, *asked).error
    assert "'shards' must lie in 0 ... 0 (got 1)" in call(*words, "--shards", 1).error
    asked = ["--history", tmp_path / "none.csv"]
    assert "none.csv" in call(*words, *asked).error
    assert not (tmp_path / "lists").exists()


def test_a_missing_file_is_named(call, made, tmp_path):
    words = [made[0], "--weights", tmp_path / "none", "--out", tmp_path / "lists"]
    assert "none: no such file" in call("bulk", *words).error
    assert not (tmp_path / "lists").exists()
