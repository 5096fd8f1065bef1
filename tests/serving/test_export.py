"""What is exported lists what it was made of, or is not there."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ddrm_pyg.serving.engine import load_onnx, read_manifest
from ddrm_pyg.serving.export import export, load_pt2, load_recommend
from ddrm_pyg.serving.program import MeanEncode, PastEncode, Recommend

LOADERS = {"pt2": load_pt2, "onnx": load_onnx}


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("size", [1, 2, 7, 300])
@pytest.mark.parametrize("length", [1, 2, 7, 300])
def test_loaded_programs_list_what_eager_does(exported, histories, kind, size, length):
    num_items = len(exported.ids)
    eager = Recommend(exported.encode, 20).eval()
    inputs = (
        histories(size, length, num_items, seed=size),
        histories(size, 3, num_items, seed=length),
        exported.item_emb,
    )
    expected = [part.numpy() for part in eager(*inputs)]
    program = LOADERS[kind](exported.folder / f"recommend.{kind}")
    score, item = program(*(table.numpy() for table in inputs))
    np.testing.assert_allclose(score, expected[0], rtol=1e-5, atol=1e-5)
    assert (item == expected[1]).all()
    encode = LOADERS[kind](exported.folder / f"encode.{kind}")
    vectors, mask = torch.randn(size, length, 16), torch.rand(size, length) < 0.5
    (ideal,) = encode(vectors.numpy(), mask.numpy())
    expected = eager.encode(vectors, mask)
    torch.testing.assert_close(
        torch.from_numpy(np.asarray(ideal)), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", LOADERS)
def test_programs_give_the_same_twice(exported, histories, kind):
    program = LOADERS[kind](exported.folder / f"recommend.{kind}")
    rows = histories(9, 4, len(exported.ids)).numpy()
    twice = [program(rows, rows, exported.item_emb.numpy()) for _ in range(2)]
    assert (np.asarray(twice[0][0]) == np.asarray(twice[1][0])).all()


def test_the_folder_says_what_it_is(exported):
    manifest = read_manifest(exported.folder)
    assert (manifest["k"], manifest["num_items"], manifest["embedding_dim"]) == (
        20,
        500,
        16,
    )
    assert manifest["versions"]["torch"] == torch.__version__
    assert sorted(os.listdir(exported.folder)) == [
        *("encode.onnx", "encode.pt2", "item_ids.json", "items.npy"),
        *("recommend.onnx", "recommend.pt2", "serving.json"),
    ]
    assert json.loads((exported.folder / "item_ids.json").read_text()) == exported.ids
    assert sorted(os.listdir(exported.folder.parent)) == ["first"]


@pytest.mark.parametrize("kind", LOADERS)
def test_300_ordered_histories_list_what_eager_does(past, tmp_path, histories, kind):
    export(tmp_path / "out", PastEncode(past), item_ids=range(60), formats=[kind])
    manifest = read_manifest(tmp_path / "out")
    assert (manifest["ordered"], manifest["bias_columns"]) == (True, 1)
    rows = histories(300, 12, 60, seed=4)
    emb = past.generate([row[row < 60] for row in rows])
    scores = F.pad(emb.user @ emb.item.T, (0, 1)).scatter(1, rows, -torch.inf)[:, :-1]
    expected = scores.topk(40, dim=1)
    program = LOADERS[kind](tmp_path / "out" / f"recommend.{kind}")
    nothing = np.full((300, 1), 60)
    score, item = map(np.asarray, program(rows.numpy(), nothing, emb.item.numpy()))
    np.testing.assert_allclose(score[:, :40], expected.values, rtol=1e-5, atol=1e-5)
    assert (item[:, :40] == expected.indices.numpy()).all()


def test_torch_loads_what_it_was(exported):
    program = load_recommend(exported.folder)
    rows = np.full((2, 1), 500)
    score, item = program(rows, rows, exported.item_emb.numpy())
    assert np.asarray(score).shape == np.asarray(item).shape == (2, 20)


def test_other_lists_than_exported_are_refused(exported, tmp_path):
    other = shutil.copytree(exported.folder, tmp_path / "other")
    np.save(other / "items.npy", -exported.item_emb.numpy())
    with pytest.raises(ValueError, match="does not give the lists of its export"):
        load_recommend(other)


TABLE = torch.eye(4, 3)


def small(item_emb=TABLE, **changed):
    parts = {"encode": MeanEncode(None, item_emb, item_emb.new_zeros(3))}
    return {**parts, "item_ids": [*"abcd"], **changed}


def test_histories_alone_need_no_plug_in(tmp_path):
    export(tmp_path / "out", **small(), formats=["pt2"])
    manifest = read_manifest(tmp_path / "out")
    assert (manifest["formats"], manifest["k"]) == (["pt2"], 4)
    program = load_recommend(tmp_path / "out")
    score, item = program(
        np.array([[1]]), np.array([[4]]), np.eye(4, 3, dtype=np.float32)
    )
    assert score[0].tolist()[:3] == [0, 0, 0]
    assert item[0, 3] == 4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"k": 5}, "'k' must lie in 1 ... 4, the items"),
        ({"k": 0}, "'k' must lie in 1 ... 4"),
        ({"item_ids": [*"abca"]}, r"each of the 4 items once \(got 3 names\)"),
        ({"item_ids": ["1", 1, "2", "3"]}, r"\(got 3 names\)"),
        ({"item_ids": [*"abcde"]}, "each of the 4 items"),
        ({"item_emb": torch.eye(4, 3).double()}, "'item_emb' must be float32"),
        ({"item_emb": torch.zeros(0, 3)}, "'item_emb' must be float32"),
        ({"formats": []}, "'formats' must be of pt2, onnx"),
        ({"formats": ["tflite"]}, r"\(got \['tflite'\]\)"),
        ({"formats": ["pt2", "pt2"]}, "each once"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        export(tmp_path / "out", **small(**changed))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(ValueError, match="must be a new folder or an empty one"):
        export(tmp_path / "out", **small(), formats=["pt2"])
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(tmp_path / "out") == ["mine"]


def test_a_failure_on_the_way_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("ddrm_pyg.serving.export.write_json", None)
    with pytest.raises(TypeError):
        export(tmp_path / "out", **small(), formats=["pt2"])
    assert list(tmp_path.iterdir()) == []
