"""Cells run once, and start again where they were."""

from __future__ import annotations

import dataclasses
import json
import logging

import pytest
import torch

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.experiments.cells import Cell, cell_from_record
from ddrm_pyg.experiments.methods import (
    DEEPEST,
    METHODS,
    load_ddrm,
    load_embeddings,
)
from ddrm_pyg.experiments.runner import Runner, fingerprint
from ddrm_pyg.experiments.stored import load_settings
from ddrm_pyg.graph.interaction_graph import EDGE
from ddrm_pyg.nn.conv import light_propagate
from ddrm_pyg.ranking import evaluate
from ddrm_pyg.training import _Run

FIT = {"epochs": 4, "eval_every": 2}
MF = Cell("mf", 3, {"embedding_dim": 4}, FIT)
LIGHTGCN = Cell("lightgcn", 3, {"embedding_dim": 4, "num_layers": 1}, FIT)
DDRM = Cell("ddrm", 3, {"hidden_dims": (4,), "num_train_timesteps": 2}, FIT, LIGHTGCN)


@pytest.fixture
def runner(data, tmp_path):
    return Runner(data, tmp_path, progress=False)


@pytest.fixture
def no_methods(monkeypatch):
    """From here on, results can only be read."""

    def switch_off():
        for method in METHODS:
            monkeypatch.setitem(METHODS, method, None)

    return switch_off


def test_unknown_method_is_refused(runner):
    with pytest.raises(ValueError, match=r"'method' must be one of .* \(got 'mff'\)"):
        runner.run(Cell("mff"))


def test_cell_survives_json(runner):
    again = cell_from_record(json.loads(json.dumps(dataclasses.asdict(DDRM))))
    assert again.base == LIGHTGCN
    assert runner.cell_folder(again) == runner.cell_folder(DDRM)


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(DDRM, seed=4),
        dataclasses.replace(DDRM, model={**DDRM.model, "gamma": 1}),
        dataclasses.replace(DDRM, fit={**FIT, "epochs": 5}),
        dataclasses.replace(DDRM, base=MF),
        dataclasses.replace(DDRM, base=dataclasses.replace(LIGHTGCN, seed=4)),
        dataclasses.replace(DDRM, method="one_pass"),
    ],
)
def test_any_change_is_another_cell(runner, other):
    assert runner.cell_folder(other) != runner.cell_folder(DDRM)


@pytest.mark.parametrize("split", ["edge", "val_edge_label", "test_edge_label"])
def test_other_pairs_are_another_cell(runner, data, tmp_path, split):
    before = fingerprint(data)
    other = data.clone()
    other[EDGE][f"{split}_index"] = other[EDGE][f"{split}_index"][:, :0]
    assert fingerprint(other) != before
    assert Runner(other, tmp_path).cell_folder(MF) != runner.cell_folder(MF)


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
def test_every_method_runs_once_and_reads_back_the_same(runner, no_methods, cell):
    assert not runner.has_run(cell)
    first = runner.run(cell)
    assert runner.has_run(cell)
    assert not (first.folder / "checkpoint.pt").exists()
    no_methods()
    again = runner.run(cell)
    assert dict(again.test) == dict(first.test)
    assert again.val == first.val
    assert torch.equal(again.test.user, first.test.user)
    assert again.test.per_user.keys() == first.test.per_user.keys()
    assert again.history == first.history
    assert again.best_epoch == first.best_epoch
    record = json.loads((first.folder / "result.json").read_text())
    assert cell_from_record(record["cell"]).method == cell.method


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


def test_interrupted_training_ends_with_the_same_bits(data, tmp_path, monkeypatch):
    straight = Runner(data, tmp_path / "a", progress=False).run(MF)

    save = _Run.save

    def save_and_stop(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    runner = Runner(data, tmp_path / "b", progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(_Run, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            runner.run(MF)
    assert (runner.cell_folder(MF) / "checkpoint.pt").exists()
    assert not runner.has_run(MF)
    resumed = runner.run(MF)
    assert torch.equal(resumed.embeddings().user, straight.embeddings().user)
    assert dict(resumed.test) == dict(straight.test)


def test_time_of_a_base_is_not_counted_twice(runner, monkeypatch):
    order = []
    for method in ("lightgcn", "ddrm", "one_pass"):

        def noted(runner, cell, run=METHODS[method]):
            order.append(cell.method)
            outcome = run(runner, cell)
            order.append(f"{cell.method} done")
            return outcome

        monkeypatch.setitem(METHODS, method, noted)
    runner.run(Cell("one_pass", base=DDRM))
    assert order == [
        *("lightgcn", "lightgcn done"),
        *("ddrm", "ddrm done"),
        *("one_pass", "one_pass done"),
    ]


def test_depth_is_picked_by_validation(runner, data):
    result = runner.run(Cell("best_depth", base=LIGHTGCN))
    found = result.notes["val ndcg@20 by depth"]
    assert len(found) == DEEPEST + 1
    assert found[result.notes["num_layers"]] == max(found)
    tables = runner.run(LIGHTGCN).embeddings("tables")
    emb = light_propagate(tables, runner.graph, result.notes["num_layers"])
    assert dict(evaluate(emb, data)) == pytest.approx(dict(result.test))


def test_history_mean_is_where_ddrm_starts(runner, data):
    item = runner.run(LIGHTGCN).embeddings().item
    emb = Embeddings(runner.graph.history_mean(item), item)
    result = runner.run(Cell("history_mean", base=LIGHTGCN))
    assert dict(evaluate(emb, data)) == pytest.approx(dict(result.test))


def test_trained_ddrm_is_rebuilt(runner):
    trained = runner.run(DDRM)
    ddrm = load_ddrm(trained)
    assert ddrm.embedding_dim == 4
    base = runner.run(LIGHTGCN).embeddings()
    generator = torch.Generator().manual_seed(0)
    denoised = ddrm(*base, runner.graph, generator=generator)
    assert torch.allclose(denoised.user, trained.embeddings().user)
    once = load_ddrm(trained, num_inference_steps=1, num_start_steps=0)
    assert (once.num_inference_steps, once.num_start_steps) == (1, 0)


def test_test_pairs_change_no_weights(data, tmp_path):
    other = data.clone()
    other[EDGE].test_edge_label_index = torch.tensor([[0], [0]])
    tables = [
        Runner(d, tmp_path, progress=False).run(LIGHTGCN).embeddings("tables")
        for d in (data, other)
    ]
    assert torch.equal(tables[0].user, tables[1].user)


def test_no_validation(data, tmp_path):
    data[EDGE].val_edge_label_index = torch.empty(2, 0, dtype=torch.int64)
    runner = Runner(data, tmp_path, progress=False)
    assert not runner.has_validation
    result = runner.run(MF)
    assert result.val == {}
    assert result.best_epoch == FIT["epochs"]


def test_missing_base_is_refused(runner):
    with pytest.raises(ValueError, match="'base' must be a cell for method 'ddrm'"):
        runner.run(Cell("ddrm"))


@pytest.fixture
def given(tmp_path):
    generator = torch.Generator().manual_seed(0)
    user, item = (torch.randn(n, 2, generator=generator) for n in (3, 4))
    return Embeddings(user, item)


def test_given_embeddings_are_propagated(runner, given, tmp_path):
    given.save(tmp_path / "emb.npz")
    model = {"path": str(tmp_path / "emb.npz"), "num_layers": 2, "combine": "mean"}
    result = runner.run(Cell("embeddings", model=model))
    expected = light_propagate(given, runner.graph, 2)
    assert torch.equal(result.embeddings().user, expected.user)
    assert torch.equal(result.embeddings("tables").item, given.item)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_tables_are_read_as_float32_and_it_is_said(
    given, path_graph, tmp_path, caplog, dtype
):
    path = tmp_path / "emb.safetensors"
    Embeddings(given.user[:2].to(dtype), given.item[:2].to(dtype)).save(path)
    with caplog.at_level(logging.WARNING, "ddrm_pyg"):
        tables = load_embeddings(path, path_graph)
    assert tables.user.dtype == tables.item.dtype == torch.float32
    assert "read as float32" in caplog.text
    tables.save(path)
    caplog.clear()
    assert torch.equal(load_embeddings(path, path_graph).user, tables.user)
    assert caplog.text == ""


def test_tables_of_another_graph_are_refused(given, path_graph, tmp_path):
    given.save(tmp_path / "emb.npz")
    with pytest.raises(ValueError, match=r"emb.npz: .* graph, 2 \(got 3\)"):
        load_embeddings(tmp_path / "emb.npz", path_graph)


@pytest.mark.parametrize("cleaner", ["t-ce", "r-ce", "deca", "wbpr"])
@pytest.mark.parametrize("backend", ["mf", "lightgcn", "sgl"])
def test_every_cleaner_trains_every_backend(data, tmp_path, backend, cleaner):
    clean = load_settings(cleaner, cleaner)["model"]
    if cleaner == "t-ce":
        clean |= {"drop_rate": 0.5, "num_gradual_epochs": 0}
    fit = {"epochs": 4, "batch_size": 4}
    cell = Cell(f"{backend}+{cleaner}", 0, {"embedding_dim": 4}, fit, clean=clean)
    result = Runner(data, tmp_path, progress=False).run(cell)
    assert result.embeddings().item.shape == (data["item"].num_nodes, 4)
    plain = dataclasses.replace(cell, method=backend, clean={})
    other = Runner(data, tmp_path, progress=False).run(plain).embeddings()
    assert not torch.allclose(result.embeddings().item, other.item)
