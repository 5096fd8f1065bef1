"""Nothing that changes a result keeps its name, defaults and times included."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest
import torch

from ddrm_pyg.experiments import identity as module
from ddrm_pyg.experiments import methods
from ddrm_pyg.experiments.cells import Cell, cell_from_record
from ddrm_pyg.experiments.identity import (
    complete,
    fingerprint,
    folder_name,
    identity,
)
from ddrm_pyg.experiments.methods import METHODS
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.stored import NAMES, cell_for
from ddrm_pyg.graph.interaction_graph import EDGE
from ddrm_pyg.nn import ddrm

FIT = {"epochs": 4, "eval_every": 2}
MF = Cell("mf", 3, {"embedding_dim": 4}, FIT)
LIGHTGCN = Cell("lightgcn", 3, {"embedding_dim": 4, "num_layers": 1}, FIT)
DDRM = Cell("ddrm", 3, {"hidden_dims": (4,), "num_train_timesteps": 2}, FIT, LIGHTGCN)

LONG = replace(DDRM, model={"num_train_timesteps": 50})


@pytest.fixture(autouse=True)
def fresh_answers():
    module._decided.cache_clear()
    yield
    module._decided.cache_clear()


@pytest.mark.parametrize(
    "other",
    [
        replace(DDRM, seed=4),
        replace(DDRM, model={**DDRM.model, "gamma": 1}),
        replace(DDRM, fit={**FIT, "epochs": 5}),
        replace(DDRM, base=MF),
        replace(DDRM, base=replace(LIGHTGCN, seed=4)),
        replace(DDRM, method="one_pass"),
    ],
)
def test_any_change_is_another_cell(other):
    assert folder_name(other, "") != folder_name(DDRM, "")


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        (DDRM, {"num_inference_steps": 1, "num_start_steps": 2}),
        (DDRM, {"gamma": 0, "dropout": 0.5, "train_start": "item", "history": None}),
        (MF, {"l2": 1e-4, "users": "interactions"}),
        (Cell("ease"), {"l2": 1000}),
        (Cell("best_depth", base=MF), {"deepest": 6, "metric": "ndcg@20"}),
        (Cell("multivae"), {"hidden_dims": (600, 200)}),
        (Cell("ldiffrec", base=MF), {"num_groups": 2}),
    ],
)
def test_a_default_told_is_the_same_cell(cell, told):
    assert identity(replace(cell, model={**cell.model, **told})) == identity(cell)


def test_a_setting_that_came_later_changes_a_cell_only_where_it_is_used():
    assert "sampling_noise" not in identity(DDRM)
    assert "num_negatives" not in identity(Cell("mf+deca"))
    for told, same in (
        ({"sampling_noise": False}, True),
        ({"sampling_noise": True}, False),
    ):
        other = replace(DDRM, model={**DDRM.model, **told})
        assert (identity(other) == identity(DDRM)) is same


def test_defaults_of_training_and_cleaning_told_are_the_same_cell():
    assert identity(replace(MF, fit={**FIT, "lr": 0.001})) == identity(MF)
    cleaned = Cell("mf+t-ce", clean={"drop_rate": 0.1})
    told = {"drop_rate": 0.1, "exponent": 1, "num_gradual": 0}
    assert identity(replace(cleaned, clean=told)) == identity(cleaned)


@pytest.mark.parametrize(
    ("cell", "change"),
    [
        (LONG, lambda patch: patch.setattr(ddrm, "_PASSES", 1)),
        (Cell("one_pass", base=LONG), lambda p: p.setattr(ddrm, "_PASSES", 1)),
        (
            Cell("best_depth", base=MF),
            lambda patch: patch.setitem(methods.AROUND["best_depth"], "deepest", 7),
        ),
        (
            Cell("ldiffrec", base=MF),
            lambda patch: patch.setitem(methods.AROUND["ldiffrec"], "num_groups", 3),
        ),
        (
            MF,
            lambda patch: patch.setitem(
                inspect.unwrap(methods.MF.__init__).__kwdefaults__, "l2", 0.5
            ),
        ),
    ],
)
def test_a_changed_default_never_meets_an_old_result(cell, change, monkeypatch):
    before, written_out = folder_name(cell, ""), complete(cell)
    change(monkeypatch)
    module._decided.cache_clear()
    assert folder_name(cell, "") != before
    assert folder_name(written_out, "") == before  # what was recorded is still itself


@pytest.mark.parametrize("name", NAMES)
def test_complete_cells_are_settled_and_read_back(name, data, tmp_path):
    cell = cell_for(name, seed=1)
    full = complete(cell)
    assert complete(full) == full
    assert identity(cell_from_record(module.asdict(full))) == identity(cell)
    assert full.method in METHODS


def test_a_complete_cell_runs_to_the_same_bits(data, tmp_path):
    found = [
        Runner(data, tmp_path / name, progress=False).run(cell).embeddings()
        for name, cell in (("a", DDRM), ("b", complete(DDRM)))
    ]
    assert torch.equal(found[0].user, found[1].user)


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


def test_what_the_runner_gives_is_no_setting():
    # nothing that watches a training is part of what is trained
    settings = {"epochs", "batch_size", "lr", "weight_decay", "metric"}
    settings |= {"eval_every", "patience", "precision"}
    assert complete(Cell("mf", 0)).fit.keys() == settings
