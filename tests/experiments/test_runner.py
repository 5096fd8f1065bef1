"""Cells run once, and start again where they were."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch

from ddrm_pyg.experiments.cells import Cell, cell_from_record
from ddrm_pyg.experiments.methods import METHODS, register
from ddrm_pyg.experiments.runner import Runner, fingerprint
from ddrm_pyg.experiments.work import solve
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.nn.conv import light_propagate
from ddrm_pyg.ranking import evaluate

FIT = {"epochs": 4, "eval_every": 2}
MF = Cell("mf", 3, {"embedding_dim": 4}, FIT)
LIGHTGCN = Cell("lightgcn", 3, {"embedding_dim": 4, "num_layers": 1}, FIT)
DDRM = Cell("ddrm", 3, {"hidden_dims": (4,), "num_train_timesteps": 2}, FIT, LIGHTGCN)


@pytest.fixture
def runner(data, tmp_path):
    return Runner(data, tmp_path, progress=False)


def test_unknown_method_is_refused(runner):
    with pytest.raises(ValueError, match=r"one of .* \(got 'mff'; did you mean 'mf'"):
        Cell("mff")


@pytest.mark.parametrize(
    "cell",
    [
        Cell("popularity"),
        Cell("item_knn"),
        Cell("ease"),
        MF,
        LIGHTGCN,
        Cell("best_depth", base=LIGHTGCN),
        Cell("history_mean", base=LIGHTGCN),
        Cell("one_pass", base=DDRM),
        DDRM,
    ],
    ids=lambda cell: cell.method,
)
def test_every_method_runs_once_and_reads_back_the_same(runner, monkeypatch, cell):
    assert not runner.has_run(cell)
    first = runner.run(cell)
    assert runner.has_run(cell)
    assert not (first.folder / "checkpoint.pt").exists()
    monkeypatch.setattr(Runner, "work", None)  # now results can only be read
    again = runner.run(cell)
    assert dict(again.test) == dict(first.test)
    assert again.val == first.val
    assert torch.equal(again.test.user, first.test.user)
    assert again.test.per_user.keys() == first.test.per_user.keys()
    assert again.history == first.history
    assert again.best_epoch == first.best_epoch
    record = json.loads((first.folder / "result.json").read_text())
    assert cell_from_record(record["cell"]).method == cell.method


def test_the_global_generator_is_left_as_it_was(data, tmp_path):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    Runner(data, tmp_path, progress=False).run(Cell("mf", 0, {}, {"epochs": 1}))
    assert torch.equal(torch.get_rng_state(), before)


def test_equal_seeds_give_equal_bits(data, tmp_path):
    emb = [
        Runner(data, tmp_path / name, progress=False).run(DDRM).embeddings()
        for name in "ab"
    ]
    assert torch.equal(emb[0].user, emb[1].user)


def test_result_is_measured_with_what_is_stored(runner, data):
    result = runner.run(LIGHTGCN)
    assert dict(evaluate(result.embeddings(), data)) == pytest.approx(dict(result.test))
    assert dict(evaluate(result.embeddings(), data, split="val")) == result.val
    propagated = light_propagate(result.embeddings("tables"), runner.graph, 1)
    assert torch.allclose(propagated.user, result.embeddings().user)


def test_interrupted_training_ends_with_the_same_bits(data, tmp_path, caplog):
    caplog.set_level("INFO", "ddrm_pyg")
    straight = Runner(data, tmp_path / "a", progress=False).run(MF)
    assert "counting" not in caplog.text

    def stop(model, record):
        if "recall@20" in record:  # measured, and saved
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Runner(data, tmp_path / "b", callbacks=[stop], progress=False).run(MF)
    runner = Runner(data, tmp_path / "b", progress=False)
    assert (runner.cell_folder(MF) / "checkpoint.pt").exists()
    assert not runner.has_run(MF)
    (folder,) = (tmp_path / "b").iterdir()
    slow = torch.load(folder / "checkpoint.pt", weights_only=True)
    for record in slow["result"]["history"]:
        record["seconds"] = 1000.0  # as if epochs had been long
    torch.save(slow, folder / "checkpoint.pt")
    resumed = runner.run(MF)
    assert torch.equal(resumed.embeddings().user, straight.embeddings().user)
    assert dict(resumed.test) == dict(straight.test)
    assert len(slow["result"]["history"]) == FIT["eval_every"]
    assert 0 < resumed.seconds - 1000 * FIT["eval_every"] < 1000
    said = caplog.messages[-1]
    assert said == f"mf: {resumed.seconds:.1f} s, counting what was trained before"


def test_time_of_a_base_is_not_counted_twice(registry, runner):
    order = []

    def noted(work):
        order.append(work.cell.method)
        outcome = solve(work)
        order.append(f"{work.cell.method} done")
        return outcome

    for name in ("first", "second", "third"):
        register(replace(METHODS["popularity"], name=name, role="step", run=noted))
    runner.run(Cell("third", base=Cell("second", base=Cell("first"))))
    assert order == [
        *("first", "first done"),
        *("second", "second done"),
        *("third", "third done"),
    ]


def test_test_pairs_change_no_weights(data, tmp_path):
    other = data.clone()
    other[EDGE].test_edge_label_index = torch.tensor([[0], [0]])
    tables = [
        Runner(d, tmp_path, progress=False).run(LIGHTGCN).embeddings("tables")
        for d in (data, other)
    ]
    assert torch.equal(tables[0].user, tables[1].user)


def test_pairs_can_be_hidden_that_validation_no_longer_has(data, tmp_path):
    store = data[EDGE]
    store.edge_index = torch.tensor([[1, 0, 0, 2], [2, 1, 0, 0]])
    store.val_edge_label_index = torch.tensor([[1], [0]])
    store.test_edge_label_index = torch.tensor([[1], [1]])
    both = InteractionGraph.from_data(data, splits=("train", "val"))
    store.val_edge_label_index = torch.empty(2, 0, dtype=torch.int64)
    plain = Runner(data, tmp_path, progress=False)
    hiding = Runner(data, tmp_path, exclude=both, progress=False)
    cell = Cell("popularity")
    assert hiding.cell_folder(cell) != plain.cell_folder(cell)
    # item 0 is the most popular, ahead of the one user 1 is tested on
    assert plain.run(cell).test["ndcg@10"] == pytest.approx(1 / math.log2(3))
    assert hiding.run(cell).test["ndcg@10"] == 1


def test_no_validation(data, tmp_path):
    data[EDGE].val_edge_label_index = torch.empty(2, 0, dtype=torch.int64)
    runner = Runner(data, tmp_path, progress=False)
    assert not runner.has_validation
    result = runner.run(MF)
    assert result.val == {}
    assert result.best_epoch == FIT["epochs"]


def test_what_ranks_nothing_is_kept_and_not_measured(data, tmp_path):
    result = Runner(data, tmp_path, progress=False).run(
        Cell("mf+noted", 3, {"embedding_dim": 4}, FIT)
    )
    assert (dict(result.test), result.val, result.test.user.numel()) == ({}, {}, 0)
    assert result.best_epoch in (2, 4)
    assert result.embeddings().user.size(1) == 4


def test_the_per_user_file_of_another_cell_is_not_believed(runner):
    one, other = (runner.run(Cell(name)).folder for name in ("popularity", "item_knn"))
    shutil.copy(one / "per_user.safetensors", other / "per_user.safetensors")
    with pytest.raises(ValueError, match=r"per_user\.safetensors is not the .*delete"):
        runner.run(Cell("item_knn"))
    assert runner.run(Cell("popularity")).folder == one


@pytest.mark.parametrize("name", ["embeddings", "tables", "weights"])
def test_the_tables_of_another_cell_are_not_believed(data, tmp_path, name):
    cell = DDRM if name == "weights" else MF
    other = replace(cell, seed=9)
    runner = Runner(data, tmp_path, progress=False)
    result, copied = runner.run(cell), runner.run(other)
    path = result.folder / f"{name}.safetensors"

    def read(result):
        return result.tensors(name) if name == "weights" else result.embeddings(name)

    read(result)
    shutil.copy(copied.folder / path.name, path)
    for kept in (result, runner.run(cell)):
        with pytest.raises(
            ValueError, match=rf"{name}\.safetensors is not the .*; delete this folder"
        ):
            read(kept)
    path.unlink()
    with pytest.raises(ValueError, match=rf"damaged .*{name}.*; delete this folder"):
        read(result)
    read(runner.run(other))


def test_results_from_before_there_was_a_hash_are_read(runner):
    folder = runner.run(MF).folder
    record = json.loads((folder / "result.json").read_text())
    del record["per_user"], record["tables"]
    (folder / "result.json").write_text(json.dumps(record))
    result = runner.run(MF)
    assert result.test["ndcg@20"] == record["test"]["ndcg@20"]
    assert result.embeddings().num_users == 3
    (folder / "embeddings.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"not a readable .*; delete this folder"):
        result.embeddings()


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", "[" * 100_000, '{"test": null}', '{"test": {"a": null}}'],
)
def test_a_result_of_another_shape_is_damaged(runner, text):
    folder = runner.run(MF).folder
    (folder / "result.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"the result is damaged .*; delete this folder"
    ):
        runner.run(MF)
    shutil.rmtree(folder)
    runner.run(MF)


def test_the_checkpoint_that_a_killed_process_kept_goes(runner):
    folder = runner.run(MF).folder
    (folder / "checkpoint.pt").touch()  # killed between result and removal
    runner.run(MF)
    assert not (folder / "checkpoint.pt").exists()


@pytest.mark.parametrize("split", ["edge", "val_edge_label", "test_edge_label"])
def test_other_pairs_are_another_cell(data, tmp_path, split):
    other = data.clone()
    other[EDGE][f"{split}_index"] = other[EDGE][f"{split}_index"][:, :0]
    assert fingerprint(other) != fingerprint(data)
    folders = [Runner(d, tmp_path).cell_folder(MF) for d in (data, other)]
    assert folders[0] != folders[1]


def test_other_sizes_are_another_cell(data):
    other = data.clone()
    other["item"].num_nodes += 1
    assert fingerprint(other) != fingerprint(data)
    assert fingerprint(data.clone()) == fingerprint(data)


def test_pairs_that_change_sides_are_another_cell(data):
    other = data.clone()
    store = other[EDGE]
    store.val_edge_label_index, store.test_edge_label_index = (
        store.test_edge_label_index,
        store.val_edge_label_index,
    )
    assert fingerprint(other) != fingerprint(data)


def test_other_times_are_another_cell(data):
    timed, other = data.clone(), data.clone()
    edges = data[EDGE].edge_index.size(1)
    timed[EDGE].edge_time = torch.arange(edges)
    other[EDGE].edge_time = torch.arange(edges).flip(0)
    assert len({fingerprint(d) for d in (data, timed, other)}) == 3
