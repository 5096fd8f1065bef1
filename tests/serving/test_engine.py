"""An export answers in the caller's ids, without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from ddrm_pyg.serving.engine import Engine, replay
from ddrm_pyg.serving.export import export
from ddrm_pyg.serving.program import MeanEncode, PastEncode, Recommend


@pytest.fixture(scope="module")
def engine(exported):
    return Engine(exported.folder)


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported.folder, tmp_path / "copy")


def test_lists_are_those_of_the_rows(exported, engine):
    rows = [[3, 5, 8], [], [499]]
    ids = [[exported.ids[row] for row in history] for history in rows]
    lists = engine.recommend(ids, k=7, exclude=[[exported.ids[1]], [], []])
    pad = 500
    history = torch.tensor([[3, 5, 8], [pad] * 3, [499, pad, pad]])
    exclude = torch.tensor([[1], [pad], [pad]])
    eager = Recommend(exported.encode, 7).eval()
    score, item = eager(history, exclude, exported.item_emb)
    for row, listed in enumerate(lists):
        assert listed.item == [exported.ids[place] for place in item[row].tolist()]
        assert listed.score == pytest.approx(score[row].tolist(), rel=1e-5)
        assert listed.num_unknown == 0


def test_unknown_ids_are_counted_and_repeats_change_nothing(exported, engine):
    own = exported.ids[3]
    (plain,) = engine.recommend([[own]], k=5, exclude=[[]])
    (odd,) = engine.recommend(
        [[own, "unheard of", own, "unheard of"]], k=5, exclude=[[7, "also"]]
    )
    assert odd.item == plain.item
    assert (plain.num_unknown, odd.num_unknown) == (0, 3)


def test_lists_end_with_the_catalogue(exported, engine):
    everything = exported.ids[3:]
    (listed,) = engine.recommend([everything], k=20, exclude=[exported.ids[:1]])
    assert sorted(listed.item) == exported.ids[1:3]
    assert len(listed.score) == 2


def test_similar_items_are_those_of_the_cosine(exported, engine):
    listed = engine.similar(exported.ids[9], k=4)
    unit = torch.nn.functional.normalize(exported.item_emb)
    cosine = unit @ unit[9]
    cosine[9] = -1
    score, item = cosine.topk(4)
    assert listed.item == [exported.ids[row] for row in item.tolist()]
    assert listed.score == pytest.approx(score.tolist(), rel=1e-5)
    assert engine.similar("unheard of", k=4) is None
    assert len(engine.similar(exported.ids[9], k=999).item) == 499


def test_histories_are_read_in_their_order(past, tmp_path):
    ids = [f"i{row}" for row in range(60)]
    export(tmp_path / "out", PastEncode(past), item_ids=ids, k=9, formats=["onnx"])
    engine = Engine(tmp_path / "out")
    assert engine.ordered
    rows = [[3, 5, 8], [8, 5, 3], [], [7]]
    emb = past.generate([torch.tensor(row, dtype=torch.int64) for row in rows])
    words = [["i3", "i5", "new", "i3", "i8"], ["i8", "i5", "i3"], ["new"], ["i7"]]
    for row, listed in enumerate(engine.recommend(words, k=9, exclude=[[]] * 4)):
        scores = emb.item @ emb.user[row]
        scores[rows[row]] = -torch.inf
        best = scores.topk(9)
        assert listed.item == [ids[place] for place in best.indices.tolist()]
        assert listed.score == pytest.approx(best.values.tolist(), rel=1e-5)
    # popularity has no part in what is similar
    unit = torch.nn.functional.normalize(emb.item[:, :-1])
    cosine = unit @ unit[9]
    cosine[9] = -1
    assert engine.similar("i9", k=1).item == [ids[int(cosine.argmax())]]


@pytest.mark.parametrize("ids", [[10, 20, 30, 40], ["10", "20", "x", "y"]])
def test_ids_come_back_as_they_were(tmp_path, ids):
    table = torch.eye(4, 3)
    encode = MeanEncode(None, table, table[0])
    export(tmp_path / "out", encode, item_ids=ids, formats=["onnx"])
    (listed,) = Engine(tmp_path / "out").recommend([[10, "20"]], k=4, exclude=[[]])
    assert sorted(listed.item) == ids[2:]
    assert listed.num_unknown == 0


def test_a_folder_that_is_no_export_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"not an export \(no serving.json\)"):
        Engine(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "not what 'export' writes"),
        ("[1]", "not what 'export' writes"),
        ("{}", "not what 'export' writes"),
        ("[" * 100_000, "not what 'export' writes"),
        ('{"format": 1}', r"the format must be 2 \(got 1\); export again"),
    ],
)
def test_another_version_is_refused(tmp_path, text, message):
    (tmp_path / "serving.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        Engine(tmp_path)


def test_an_export_without_onnx_is_told_how(copy):
    manifest = json.loads((copy / "serving.json").read_text())
    (copy / "serving.json").write_text(json.dumps({**manifest, "formats": ["pt2"]}))
    with pytest.raises(ValueError, match=r"with '--format onnx' \(got \['pt2'\]\)"):
        Engine(copy)


@pytest.mark.parametrize("name", ["recommend.onnx", "items.npy", "item_ids.json"])
def test_a_damaged_export_is_refused(copy, name):
    (copy / name).write_bytes((copy / name).read_bytes()[:40])
    with pytest.raises(ValueError, match=rf"{name}: not .*; export again"):
        Engine(copy)
    (copy / name).unlink()
    with pytest.raises(ValueError, match=rf"{name}: not .*; export again"):
        Engine(copy)


@pytest.mark.parametrize(
    "name", ["k", "num_items", "embedding_dim", "formats", "sample"]
)
@pytest.mark.parametrize("value", [None, {}, "3"])
def test_a_manifest_of_other_kinds_is_refused(copy, name, value):
    path = copy / "serving.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(ValueError, match=r"serving\.json: not what .*; export again"):
        Engine(copy)


def test_items_of_another_export_are_refused(copy, exported):
    np.save(copy / "items.npy", np.zeros((499, 16), np.float32))
    with pytest.raises(ValueError, match=r"must be \[500, 16\] \(got \[499, 16\]\)"):
        Engine(copy)
    np.save(copy / "items.npy", exported.item_emb.flip(0).numpy())
    with pytest.raises(ValueError, match="does not give the lists of its export"):
        Engine(copy)


SAMPLE = {
    "history": [[0]],
    "exclude": [[9]],
    "score": [[2.0, 1.0, 1.0, None]],
    "item": [[3, 1, 2, 9]],
}


@pytest.mark.parametrize(
    ("score", "item", "agrees"),
    [
        ([2, 1, 1, -np.inf], [3, 1, 2, 9], True),
        ([2, 1, 1, -np.inf], [3, 2, 1, 9], True),  # a tie may turn round
        ([2, 1, 1, -np.inf], [1, 3, 2, 9], False),
        ([2.00001, 1, 1, -np.inf], [3, 1, 2, 9], True),
        ([2.01, 1, 1, -np.inf], [3, 1, 2, 9], False),
        ([2, 1, 1, 0], [3, 1, 2, 9], False),
        ([2, 1, 1, -np.inf], [3, 1, 2, 4], False),
        ([2, 1, 1, np.nan], [3, 1, 2, 9], False),
    ],
)
def test_replaying_by_hand(score, item, agrees):
    def program(history, exclude, item_emb):
        return np.array([score]), np.array([item])

    if agrees:
        replay(SAMPLE, None, program, "it")
    else:
        with pytest.raises(ValueError, match="it: the program does not give"):
            replay(SAMPLE, None, program, "it")


def test_serving_imports_no_torch(exported):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from ddrm_pyg.serving.engine import Engine\n"
        "Engine(Path(sys.argv[1]))\n"
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules\n"
    )
    words = [sys.executable, "-c", code, str(exported.folder)]
    assert subprocess.run(words).returncode == 0
