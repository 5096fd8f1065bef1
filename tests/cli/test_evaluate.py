"""Full ranking of given embeddings."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).parents[3] / "shared" / "data" / "ml-1m"
NAMES = [
    f"{name}@{k}" for name in ("recall", "ndcg", "popularity") for k in (10, 20)
] + ["coverage@10", "coverage@20"]


@pytest.fixture
def tables() -> dict[str, np.ndarray]:
    """Vectors that know the two tastes."""
    taste = np.eye(2, dtype=np.float32)
    # ids sort as text: the colour is the parity of the number in them
    user = sorted(range(20), key=str)
    item = sorted(range(24), key=lambda i: f'book "{i}"')
    return {
        kind: taste[np.array(n) % 2] for kind, n in (("user", user), ("item", item))
    }


@pytest.fixture
def ask(call, clicks, tables, tmp_path, monkeypatch):
    """Evaluate the tables, written to a file, with some of them replaced."""
    monkeypatch.chdir(tmp_path)

    def evaluate(*words, **changed):
        np.savez("emb.npz", **(tables | changed))
        columns = ["--data", clicks, "--user", "Customer", "--item", "Book"]
        return call("evaluate", "--embeddings", "emb.npz", *columns, *words)

    return evaluate


def test_json_is_flat(ask):
    answer = ask("--json")
    assert answer.code == 0
    assert answer.out.count("\n") == 1
    record = json.loads(answer.out)
    assert sorted(record) == sorted(NAMES)
    # 12 books of the own colour, of which 8 are known and hidden
    assert record["recall@10"] == 1
    assert os.listdir() == ["emb.npz"]


def test_table_says_the_same(ask):
    record = json.loads(ask("--json").out)
    shown = dict(line.split() for line in ask().out.splitlines())
    assert shown == {name: f"{value:.4f}" for name, value in record.items()}


@pytest.mark.parametrize(
    "options",
    [
        ["--num-layers", "2"],
        ["--num-layers", "1", "--combine", "normalized-sum"],
        ["--split", "val"],
    ],
)
def test_options_change_the_ranking(ask, options):
    answer = ask(*options, "--json")
    assert answer.code == 0
    assert json.loads(answer.out).keys() == set(NAMES)


def test_doubles_are_said_and_read_as_floats(ask, tables):
    doubles = {kind: table.astype(np.float64) for kind, table in tables.items()}
    answer = ask("--num-layers", "2", "--json", **doubles)
    assert "emb.npz: read as float32" in answer.err
    assert answer.out == ask("--num-layers", "2", "--json").out


def test_double_beyond_float32_is_refused(ask):
    table = np.full((20, 2), 1e300)
    assert "must be finite (got inf at row 0, column 0)" in ask(user=table).error


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"user": np.zeros((21, 2), "f")},
            "one row per user of the graph, 20 (got 21)",
        ),
        ({"item": np.zeros((3, 2), "f")}, "one row per item of the graph, 24 (got 3)"),
        ({"item": np.zeros((24, 3), "f")}, "equally wide (got 2 and 3)"),
        ({"user": np.full((20, 2), np.nan, "f")}, "'user' must be finite (got nan at"),
        ({"user": np.full((20, 2), np.inf, "f")}, "'user' must be finite (got inf at"),
        ({"user": np.zeros((20, 2), int)}, "2-dimensional float array"),
        ({"user": np.array([None])}, "emb.npz: not a readable .npz file"),
    ],
)
def test_wrong_tables_are_refused(ask, changed, message):
    assert message in ask("--json", **changed).error
    assert os.listdir() == ["emb.npz"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--split", "tets"],
            "'tets'; did you mean 'test'? It must be one of 'val', 'test'",
        ),
        (["--combine", "sum"], "'sum' is not one of 'mean', 'normalized-sum'"),
        (["--num-layers", "-1"], "Invalid value for '--num-layers'"),
        (["--embeddings", "none.npz"], "none.npz: no such file"),
        (["--embeddings", "emb.txt"], "emb.txt: the suffix must be one of"),
        (["--data", "syntetic"], "did you mean 'synthetic'?"),
        (["--user", "Custmer"], "did you mean 'Customer'?"),
        (["--split", "val", "--ratios", "0.8,0,0.2"], "('val' has no pairs)"),
    ],
)
def test_wrong_options_are_refused(ask, options, message):
    Path("emb.txt").touch()
    assert message in ask(*options).error


@pytest.mark.dataset
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/ml-1m")
def test_published_numbers(call):
    file = SHARED / "pretrained" / "lightgcn.npz"
    data = ["--data", SHARED / "natural", "--num-layers", "3"]
    answer = call("evaluate", "--embeddings", file, *data, "--json")
    record = json.loads(answer.out)
    expected = {"recall@10": 0.0618, "recall@20": 0.1193}
    expected |= {"ndcg@10": 0.0444, "ndcg@20": 0.0652}
    assert {name: round(record[name], 4) for name in expected} == expected
