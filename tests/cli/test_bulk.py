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


@pytest.mark.parametrize("words", ["1-0", "x", "3-", "0-9", "-1", "9"])
def test_shards_that_are_not_there_are_refused(words):
    with pytest.raises(ValueError, match=r"'--shards' must be within 0-8"):
        _chosen(words, 9)


def test_some_shards_are_chosen():
    assert _chosen("3-5", 9) == [3, 4, 5]
    assert _chosen("0", 9) == [0]
    assert _chosen(None, 2) == [0, 1]


def test_a_missing_file_is_named(call, made, tmp_path):
    words = [made[0], "--weights", tmp_path / "none", "--out", tmp_path / "lists"]
    assert "none/config.json: no such file" in call("bulk", *words).error
    assert not (tmp_path / "lists").exists()
