"""Cells are complete from birth, and nothing that changes a result keeps its name."""

from __future__ import annotations

import dataclasses
import inspect
import json
from dataclasses import asdict, replace

import pytest

from ddrm_pyg.experiments.cells import (
    Cell,
    Sketch,
    cell_from_record,
    chain,
    folder_name,
    identity,
    is_order_aware,
    rows_for,
    starts_from_past,
    why_not_exported,
    why_not_new,
)
from ddrm_pyg.experiments.methods import FIT as FIT_ARGUMENTS
from ddrm_pyg.experiments.methods import METHODS, table_names
from ddrm_pyg.experiments.settings import cell_for
from ddrm_pyg.nn import ddrm, models
from ddrm_pyg.training import fit

BASE = Cell("mf", 3, {"embedding_dim": 4}, {"epochs": 2})
CELL = Cell("ddrm", 4, {"hidden_dims": [8]}, {}, Cell("one_pass", base=BASE))


@pytest.mark.parametrize("cell", [BASE, CELL, Cell("mf+t-ce", clean={"drop_rate": 1})])
def test_cell_survives_json(cell):
    assert cell_from_record(json.loads(json.dumps(dataclasses.asdict(cell)))) == cell


def test_a_chain_begins_with_the_cell_and_ends_with_what_starts_from_nothing():
    assert chain(CELL) == [CELL, CELL.base, BASE]
    assert chain(BASE) == [BASE]


PAST = Cell("ddrm", 4, {"train_start": "past"}, base=BASE)
RECENT = {"history": {"kind": "recency", "tau": 5}}


@pytest.mark.parametrize(
    ("cell", "aware"),
    [
        (BASE, False),
        (CELL, False),
        (Cell("ease"), False),
        (Cell("ease+recency"), True),  # its record says so
        (Cell("sasrec", 0), True),
        (Cell("ddrm", base=Cell("sasrec", 0)), True),  # what it starts from is
        (Cell("recent_mean", base=BASE), True),
        (PAST, True),
        (Cell("one_pass", base=PAST), True),
        (Cell("ease", model=RECENT), True),
        (Cell("ddrm", model=RECENT, base=BASE), True),
        (Cell("ddrm", model={"history": {"kind": "agreement"}}, base=BASE), False),
    ],
)
def test_what_reads_the_order_anywhere_on_the_way_is_order_aware(cell, aware):
    assert is_order_aware(cell) is aware


def test_a_past_is_a_ddrm_by_its_start():
    assert starts_from_past(PAST)
    assert not starts_from_past(CELL)
    assert not starts_from_past(Cell("one_pass", base=PAST))


FIT = {"epochs": 4, "eval_every": 2}
MF = Cell("mf", 3, {"embedding_dim": 4}, FIT)
LIGHTGCN = Cell("lightgcn", 3, {"embedding_dim": 4, "num_layers": 1}, FIT)
SMALL = {"hidden_dims": (4,), "num_train_timesteps": 2}
DDRM = Cell("ddrm", 3, SMALL, FIT, LIGHTGCN)
ON_MF = replace(DDRM, base=MF)


def test_rows_and_what_each_starts_from():
    cells = rows_for(MF, ON_MF)
    assert list(cells) == [
        "popularity",
        "item_knn",
        "ease",
        "mf",
        "mf, best depth",
        "history mean",
        "ddrm, one pass, no noise",
        "ddrm",
    ]
    assert cells["mf"] == MF == cells["history mean"].base
    assert cells["mf, best depth"].base == MF
    assert cells["ddrm"] == ON_MF == cells["ddrm, one pass, no noise"].base


def test_a_past_is_compared_with_starts_that_know_the_order():
    cells = rows_for(MF, replace(ON_MF, model={"train_start": "past"}))
    free = ["popularity", "item_knn", "ease", "mf", "mf, best depth", "history mean"]
    aware = ["item_knn+recency", "ease+recency", "history mean, recency", "ddrm"]
    assert list(cells) == [*free, *aware]
    assert cells["history mean, recency"] == Cell("recent_mean", base=MF)
    assert [name for name, cell in cells.items() if is_order_aware(cell)] == aware


def test_what_stands_on_an_encoder_of_order_is_order_aware():
    sasrec = Cell("sasrec", 0)
    cells = rows_for(sasrec, Cell("ddrm", 0, {"train_start": "past"}, base=sasrec))
    assert list(cells) == [
        *("popularity", "item_knn", "ease", "item_knn+recency", "ease+recency"),
        *("sasrec", "sasrec, best depth", "history mean", "history mean, recency"),
        "ddrm",
    ]


def test_history_mean_weighs_as_the_ddrm_it_is_compared_with():
    settings = {"history": {"kind": "recency", "tau": 5}, "train_start": "history"}
    cells = rows_for(MF, replace(ON_MF, model={**ON_MF.model, **settings}))
    assert cells["history mean"].model == {"history": settings["history"]}
    assert rows_for(MF, ON_MF)["history mean"].model == {"history": None}


def test_best_depth_combines_as_the_embeddings_do():
    vectors = Cell("embeddings", model={"combine": "normalized-sum"})
    cells = rows_for(vectors, Cell("ddrm", base=vectors))
    assert cells["embeddings, best depth"].model["combine"] == "normalized-sum"
    assert rows_for(MF, ON_MF)["mf, best depth"].model["combine"] == "mean"


@pytest.mark.parametrize("cleaner", ["t-ce", "r-ce", "deca", "wbpr"])
def test_a_cleaner_takes_the_place_of_ddrm(cleaner):
    last = Cell(f"mf+{cleaner}", 0, MF.model, MF.fit)
    assert list(rows_for(MF, last))[3:] == ["mf", "mf, best depth", last.method]


@pytest.mark.parametrize("last", [None, ON_MF, PAST])
def test_sketches_tell_of_the_same_rows(last):
    cells, sketches = rows_for(MF, last), rows_for(MF, last, Sketch)
    assert list(cells) == list(sketches)
    assert {type(sketches[name]) for name in ("ease", "mf, best depth")} == {Sketch}
    for name, sketch in sketches.items():
        assert sketch.method == cells[name].method
        assert why_not_new(sketch) == why_not_new(cells[name])


AGREEMENT = {"history": {"kind": "agreement"}}
NEEDS_ORDER = "it needs the order of histories"
SASREC = Cell("sasrec", 0)


@pytest.mark.parametrize(
    ("cell", "new", "exported"),
    [
        (Cell("popularity"), *["it has no vectors"] * 2),
        (Cell("ease+recency"), *["it has no vectors"] * 2),
        (BASE, "", ""),
        (Cell("best_depth", base=BASE), "", ""),
        (PAST, "", ""),
        (CELL, "", ""),
        # what reads order by itself does so for new users, but is no program
        (Cell("recent_mean", base=BASE), "", NEEDS_ORDER),
        (SASREC, "", NEEDS_ORDER),
        (Cell("best_depth", base=SASREC), NEEDS_ORDER, NEEDS_ORDER),
        (Cell("ddrm", model=AGREEMENT, base=BASE), *["it weighs histories"] * 2),
        (
            Cell("history_mean", model=AGREEMENT, base=BASE),
            *["it weighs histories"] * 2,
        ),
    ],
)
def test_rows_say_why_they_cannot_rank_for_new_users(cell, new, exported):
    assert why_not_new(cell) == new
    assert why_not_exported(cell) == exported


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
    ("cell", "model"),
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
def test_a_default_written_out_is_the_same_cell(cell, model):
    assert replace(cell, model={**cell.model, **model}) == cell


def test_a_setting_that_came_later_changes_a_cell_only_where_it_is_used():
    assert "sampling_noise" not in identity(DDRM)
    assert "num_negatives" not in identity(Cell("mf+deca"))
    off, on = (
        replace(DDRM, model={**DDRM.model, "sampling_noise": value})
        for value in (False, True)
    )
    assert off == DDRM
    assert folder_name(on, "") != folder_name(DDRM, "")


def test_defaults_of_training_and_cleaning_written_out_are_the_same_cell():
    assert replace(MF, fit={**FIT, "lr": 0.001}) == MF
    cleaned = Cell("mf+t-ce", clean={"drop_rate": 0.1})
    clean = {"drop_rate": 0.1, "exponent": 1, "num_gradual": 0}
    assert replace(cleaned, clean=clean) == cleaned


def test_a_cell_holds_every_setting_that_is_left_to_a_default():
    cell = Cell("mf+t-ce", clean={"drop_rate": 0.1})
    assert cell.clean == {"drop_rate": 0.1, "exponent": 1.0, "num_gradual": 0}
    assert cell.model["l2"] == 1e-4
    assert cell.fit["batch_size"] == 2048
    assert DDRM.model["num_start_steps"] == 2  # what None means, not None
    assert DDRM.model["hidden_dims"] == [4]  # as JSON has it


@pytest.mark.parametrize(
    ("words", "change"),
    [
        (("ddrm", 3, {}), lambda patch: patch.setattr(ddrm, "_PASSES", 1)),
        (
            ("best_depth",),
            lambda p: p.setitem(METHODS["best_depth"].model.around, "deepest", 7),
        ),
        (
            ("ldiffrec",),
            lambda p: p.setitem(METHODS["ldiffrec"].model.around, "num_groups", 3),
        ),
        (
            ("mf",),
            lambda patch: patch.setitem(
                inspect.unwrap(models.MF.__init__).__kwdefaults__, "l2", 0.5
            ),
        ),
        (
            ("mf",),
            lambda patch: patch.setitem(
                inspect.unwrap(fit).__kwdefaults__, "patience", 3
            ),
        ),
    ],
)
def test_a_changed_default_never_meets_an_old_result(words, change, monkeypatch):
    cell = Cell(*words)
    before = folder_name(cell, "")
    change(monkeypatch)
    assert folder_name(Cell(*words), "") != before
    # what was recorded is still itself
    assert folder_name(cell_from_record(asdict(cell)), "") == before


def test_a_cell_that_was_recorded_keeps_what_absent_settings_meant(monkeypatch):
    record = asdict(DDRM)
    defaults = inspect.unwrap(ddrm.DDRM.__init__).__kwdefaults__
    monkeypatch.setitem(defaults, "sampling_noise", True)  # a new default
    assert Cell("ddrm").model["sampling_noise"] is True
    recorded = cell_from_record(record)
    assert recorded.model == DDRM.model
    filled = METHODS["ddrm"].model.fill(recorded.model)
    assert filled["sampling_noise"] is False


@pytest.mark.parametrize("name", table_names())
def test_cells_are_settled_and_read_back(name):
    cell = cell_for(name, seed=1)
    assert replace(cell) == cell
    assert cell_from_record(json.loads(json.dumps(asdict(cell)))) == cell
    assert cell.method in METHODS


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match=r"one of .* \(got 'mff'; did you mean 'mf'"):
        Cell("mff")


def test_what_the_runner_gives_is_no_setting():
    # nothing that watches a training is part of what is trained
    settings = {"epochs", "batch_size", "lr", "weight_decay", "metric"}
    settings |= {"eval_every", "patience", "precision"}
    assert Cell("mf", 0).fit.keys() == settings
    assert FIT_ARGUMENTS.defaults().keys() == settings | {"ema_decay"}
