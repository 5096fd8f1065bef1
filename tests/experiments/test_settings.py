"""Stored settings are accepted by what they are for, and typos are not."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest
import torch

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.experiments.cells import Cell, chain
from ddrm_pyg.experiments.methods import (
    METHODS,
    cleaners,
    each_once,
    names_of,
    table_names,
)
from ddrm_pyg.experiments.settings import cell_for, denoised, load_settings, paper_name
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.conv import light_propagate

SHIPPED = {
    path.name.removesuffix(".json"): json.loads(path.read_text())
    for path in (files("ddrm_pyg.experiments") / "settings").iterdir()
    if path.name.endswith(".json")
}


def holds(settings, asked):
    """Whether settings, written out, are what was asked for."""
    return asked.items() <= settings.items()


WORLD = (
    Embeddings(torch.ones(1, 2), torch.ones(1, 2)),
    InteractionGraph(torch.tensor([[0], [0]]), 1, 1),
)


@pytest.mark.parametrize("name", SHIPPED)
def test_stored_settings_are_accepted(name):
    method = SHIPPED[name]["method"]
    assert method in METHODS
    assert load_settings(name, method) == SHIPPED[name]
    notes = {"about", "differs", "checked", "paper", "ours", "seeds", "propagated"}
    assert set(SHIPPED[name]) <= {"method", "model", "fit", *notes}
    assert SHIPPED[name]["about"]
    if "paper" in SHIPPED[name]:  # which side is taken where paper and code differ
        assert SHIPPED[name]["differs"]
    if "propagated" in SHIPPED[name]:
        light_propagate(*WORLD, **SHIPPED[name]["propagated"])


@pytest.mark.parametrize(
    "method", [m for m in METHODS.values() if m.trained and not m.cleaner]
)
def test_every_trained_method_has_settings_of_its_name(method):
    assert load_settings(method.name, method.name)["fit"]["epochs"] >= 1


def test_a_cleaner_may_replace_how_its_backend_is_trained():
    plain = cell_for("lightgcn", variant="ml-1m")
    cleaned = cell_for("lightgcn+t-ce", variant="ml-1m")
    assert cleaned.model == plain.model
    assert cleaned.fit == plain.fit | SHIPPED["t-ce_lightgcn_ml-1m"]["fit"]
    assert cleaned.fit["batch_size"] != plain.fit["batch_size"]


def test_epochs_that_are_asked_for_hold_over_those_of_a_cleaner(tmp_path):
    path = tmp_path / "mine.json"
    model = {"drop_rate": 0.1}
    path.write_text(json.dumps({"model": model, "fit": {"epochs": 50, "lr": 0.5}}))
    base = cell_for("mf", epochs=3)
    cell = denoised(base, "t-ce", settings=str(path), epochs=3)
    assert (cell.fit["epochs"], cell.fit["lr"]) == (3, 0.5)
    assert denoised(base, "t-ce", settings=str(path)).fit["epochs"] == 50


@pytest.mark.parametrize("method", cleaners())
def test_every_cleaner_has_settings_of_its_name(method):
    assert load_settings(method, method)["fit"] == {}


def test_a_cleaner_refuses_what_it_does_not_know(tmp_path):
    path = tmp_path / "t-ce.json"
    path.write_text(
        json.dumps({"model": {"drop_rate": 0.1, "num_gradual_epoch": 1}, "fit": {}})
    )
    with pytest.raises(ValueError, match=r"t-ce\.json: "):
        load_settings(str(path), "t-ce")


@pytest.mark.parametrize("setting", ["auxiliary", "pretrained"])
def test_deca_p_refuses_an_auxiliary_of_ones_own(tmp_path, setting):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"model": {setting: None}, "fit": {}}))
    with pytest.raises(ValueError, match=rf"mine\.json: .*'{setting}'"):
        load_settings(str(path), "deca-p")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"hidden_dim": [8]}}, "no setting 'hidden_dim'; did you mean 'hidd"),
        ({"model": {"embedding_dim": 8}}, "'model' has no setting 'embedding_dim'"),
        ({"fit": {"epoch": 8}}, "'fit' has no setting 'epoch'; did you mean 'epochs'"),
        ({"fit": {"seed": 8}}, "'fit' has no setting 'seed'"),
        ({"fit": {"checkpoint": "x"}}, "'fit' has no setting 'checkpoint'"),
        ({"fit": {"epochs": "8"}}, "'epochs' must be an integer (got '8')"),
        ({"fit": {"epochs": 2.5}}, "'epochs' must be an integer (got 2.5)"),
        ({"fit": {"epochs": True}}, "'epochs' must be an integer (got True)"),
        ({"fit": {"patience": 0}}, "'patience' must be positive (got 0)"),
        ({"fit": {"lr": None}}, "'lr' must be a number (got None)"),
        ({"fit": {"metric": 20}}, "'metric' must be recall@K or ndcg@K (got '20')"),
        ({"model": {"num_train_timesteps": 0}}, "must be >= 1 (got 0)"),
        ({"model": {"activation": "swish2"}}, "'activation'"),
        ({"model": {"hidden_dims": 8}}, "must be like (1000, 300, 1000) (got 8)"),
        ({"model": {"hidden_dims": ["8"]}}, "'hidden_dims' must be like (1000, 300"),
        ({"model": {"num_train_timesteps": "50"}}, "must be like 50 (got '50')"),
        ({"model": {"noise_scale": None}}, "must be like 0.01 (got None)"),
        ({"model": {"train_start": "user"}}, "'train_start' must be one of"),
        ({"model": {"history": {"kind": "fame"}}}, "'history' must be an object"),
        ({"model": []}, "must hold the objects 'model' and 'fit'"),
        ({"fit": None}, "must hold the objects 'model' and 'fit'"),
        ({"method": "mf"}, "'method' must be 'ddrm' (got 'mf')"),
        ({"chekced": "by hand"}, "'chekced' must be one of method, about, differs"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, change, message):
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps({"model": {}, "fit": {}} | change))
    with pytest.raises(ValueError, match=r"tiny\.json: ") as caught:
        load_settings(str(path), "ddrm")
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", "3", "{", "[" * 100_000])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"other.json: (not a JSON file|must hold)"):
        load_settings(str(path), "ddrm")


def test_unknown_name_is_told_what_fits_the_method():
    with pytest.raises(ValueError, match="did you mean 'lightgcn'"):
        load_settings("lightgc", "lightgcn")
    with pytest.raises(ValueError, match=r"\(got 'ddrn'\)"):  # 'ddrm' is not for it
        load_settings("ddrn", "lightgcn")
    with pytest.raises(ValueError, match=r"JSON file or a name .*\(got 'none.json'\)"):
        load_settings("none.json", "ddrm")


def test_settings_of_a_base_class_are_known():
    settings = load_settings("tdiffrec", "tdiffrec")["model"]
    assert {"w_min", "num_train_timesteps"} <= settings.keys()


def test_each_method_is_listed_once():
    alone = [n for n in each_once() if n in METHODS and METHODS[n].cleaner is None]
    added = {n.rpartition("+")[2] for n in each_once() if n not in alone}
    assert added == {*names_of("denoiser")}
    assert alone == [
        *names_of("yardstick"),
        *names_of("backend"),
        *names_of("rival"),
    ]
    assert set(each_once()) <= set(table_names())
    assert len(each_once()) == len(set(each_once())) == 24


@pytest.mark.parametrize("name", table_names())
def test_every_name_is_a_cell_of_a_known_method(name):
    cell = cell_for(name, seed=3, epochs=2)
    assert cell.method in METHODS
    for link in chain(cell):
        if METHODS[link.method].trained:
            auxiliary = link.method.endswith("+bce")
            assert (link.seed, link.fit["epochs"]) == (4 if auxiliary else 3, 2)
        else:
            bare = Cell(link.method)
            assert (link.seed, link.fit) == (bare.seed, bare.fit)


def test_names_say_what_is_added_to_what():
    plain = cell_for("mf")
    assert cell_for("mf+ddrm").base == plain
    cleaned = cell_for("mf+t-ce")
    assert (cleaned.method, cleaned.base) == ("mf+t-ce", None)
    assert (cleaned.model, cleaned.fit) == (plain.model, plain.fit)
    assert holds(cleaned.clean, SHIPPED["t-ce"]["model"])
    assert cell_for("ldiffrec").base == cell_for("lightgcn")
    agreed = cell_for("mf+deca-p", seed=1)
    other = cell_for("mf", seed=2)
    assert (agreed.method, agreed.seed) == ("mf+deca-p", 1)
    assert agreed.base == Cell("mf+bce", 2, other.model, other.fit)


def test_settings_stored_for_a_data_set_are_preferred():
    fit = cell_for("lightgcn", variant="ml-1m").fit
    assert holds(fit, SHIPPED["lightgcn_ml-1m"]["fit"])
    assert not holds(fit, SHIPPED["lightgcn"]["fit"])
    special = cell_for("lightgcn+ddrm", variant="ml-1m")
    assert holds(special.model, SHIPPED["ddrm_lightgcn_ml-1m"]["model"])
    assert special.base.fit == fit
    assert cell_for("cdae", variant="yelp") == cell_for("cdae")
    named = cell_for("lightgcn", settings="lightgcn_ml-1m")
    assert named.fit == fit


def test_a_data_set_without_settings_is_refused():
    with pytest.raises(ValueError, match=r"stored for .*'ml1m'; did you mean 'ml-1m'"):
        cell_for("mf", variant="ml1m")


def test_settings_may_replace_those_of_a_data_set_one_by_one(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"model": {"gamma": 0.2}, "fit": {"epochs": 3}}))
    base, shipped = cell_for("mf", variant="ml-1m"), SHIPPED["ddrm_mf_ml-1m"]
    cell = denoised(base, "ddrm", settings=str(path), variant="ml-1m")
    assert holds(cell.model, {**shipped["model"], "gamma": 0.2})
    assert holds(cell.fit, {**shipped["fit"], "epochs": 3})
    alone = denoised(base, "ddrm", settings=str(path))
    assert alone == Cell("ddrm", 0, {"gamma": 0.2}, {"epochs": 3}, base)
    path.write_text(json.dumps({"model": {"sampler": "skip"}, "fit": {}}))
    base = cell_for("lightgcn", variant="ml-1m")  # its 62 passes are too many to skip
    with pytest.raises(ValueError, match=r"mine.json over ddrm_lightgcn_ml-1m: 'num_"):
        denoised(base, "ddrm", settings=str(path), variant="ml-1m")


def test_ddrm_has_the_seed_it_is_given_or_the_backends():
    base = cell_for("mf", seed=4)
    assert denoised(base, "ddrm").seed == 4
    assert denoised(base, "ddrm", seed=5).seed == 5


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"must be one of .*did you mean 'diffrec'"):
        cell_for("difrec")
    with pytest.raises(ValueError, match="must be one of"):
        cell_for("diffrec+ddrm")


def test_settings_by_name_and_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"model": {"num_layers": 1}, "fit": {"lr": 0.1}}))
    mine = cell_for("lightgcn", settings=str(path), epochs=7)
    assert mine == Cell("lightgcn", 0, {"num_layers": 1}, {"lr": 0.1, "epochs": 7})
    with pytest.raises(ValueError, match="did you mean 'lightgcn_ml-1m'"):
        cell_for("lightgcn", settings="lightgcn_ml1m")


def test_ddrm_has_epochs_of_its_own():
    base = cell_for("mf", epochs=7)
    cell = denoised(base, "ddrm", epochs=3)
    assert (cell.fit["epochs"], cell.base) == (3, base)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("ml-1m", "ml-1m"),
        ("yelp-clean", "yelp"),
        ("somewhere/ml-1m/natural", "ml-1m"),
        ("somewhere/amazon-book", "amazon-book"),
        ("somewhere/yelpers", None),
        ("ml-1m-ours.csv", None),
        ("yelp-berlin.csv", None),
        ("clicks.csv", None),
        ("mine/yelp.csv", None),
        ("mine/ml-1m-natural.tsv", None),
        ("synthetic", None),
    ],
)
def test_data_sets_of_the_paper_are_recognised(data, name):
    assert paper_name(Source(data)) == name


def test_numbers_of_the_paper_are_of_natural_noise():
    names = [
        paper_name(Source(data), "natural")
        for data in ("ml-1m", "a/ml-1m/natural", "ml-1m-clean", "a/ml-1m/random")
    ]
    assert names == ["ml-1m", "ml-1m", None, None]
