"""Stored settings are accepted by what they are for, and typos are not."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from ddrm_pyg.experiments.runner import BACKENDS, CLEANERS, load_settings

STORED = {
    path.name.removesuffix(".json"): json.loads(path.read_text())
    for path in (files("ddrm_pyg.experiments") / "settings").iterdir()
    if path.name.endswith(".json")
}


@pytest.mark.parametrize("name", STORED)
def test_stored_settings_are_accepted(name):
    method = STORED[name]["method"]
    assert method in {*BACKENDS, *CLEANERS, "ddrm"}
    assert load_settings(name, method) == STORED[name]
    assert set(STORED[name]) <= {"method", "about", "model", "fit", "paper"}


@pytest.mark.parametrize("method", [*BACKENDS, "ddrm"])
def test_every_trained_method_has_settings_of_its_name(method):
    assert load_settings(method, method)["fit"]["epochs"] >= 1


@pytest.mark.parametrize("method", CLEANERS)
def test_every_cleaner_has_settings_of_its_name(method):
    assert load_settings(method, method)["fit"] == {}


def test_a_cleaner_refuses_what_it_does_not_know(tmp_path):
    path = tmp_path / "t-ce.json"
    path.write_text(
        json.dumps({"model": {"drop_rate": 0.1, "num_gradual_epoch": 1}, "fit": {}})
    )
    with pytest.raises(ValueError, match=r"t-ce\.json: "):
        load_settings(str(path), "t-ce")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": {"hidden_dim": [8]}}, "no setting 'hidden_dim'; did you mean 'hidd"),
        ({"model": {"embedding_dim": 8}}, "'model' has no setting 'embedding_dim'"),
        ({"fit": {"epoch": 8}}, "'fit' has no setting 'epoch'; did you mean 'epochs'"),
        ({"fit": {"seed": 8}}, "'fit' has no setting 'seed'"),
        ({"fit": {"checkpoint": "x"}}, "'fit' has no setting 'checkpoint'"),
        ({"fit": {"epochs": "8"}}, "'epochs' must be like 200 (got '8')"),
        ({"fit": {"epochs": 2.5}}, "'epochs' must be like 200 (got 2.5)"),
        ({"fit": {"lr": None}}, "'lr' must be like 0.001 (got None)"),
        ({"fit": {"metric": 20}}, "'metric' must be like 'recall@20' (got 20)"),
        ({"model": {"num_train_timesteps": 0}}, "must be >= 1 (got 0)"),
        ({"model": {"activation": "swish2"}}, "'activation'"),
        ({"model": {"hidden_dims": 8}}, "tiny.json: "),
        ({"model": []}, "must hold the objects 'model' and 'fit'"),
        ({"fit": None}, "must hold the objects 'model' and 'fit'"),
        ({"method": "mf"}, "'method' must be 'ddrm' (got 'mf')"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, change, told):
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps({"model": {}, "fit": {}} | change))
    with pytest.raises(ValueError, match=r"tiny\.json: ") as caught:
        load_settings(str(path), "ddrm")
    assert told in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", "3", "{"])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"other.json: (not readable|must hold)"):
        load_settings(str(path), "ddrm")


def test_unknown_name_is_told_what_fits_the_method():
    with pytest.raises(ValueError, match="did you mean 'lightgcn'") as caught:
        load_settings("lightgc", "lightgcn")
    assert "ddrm" not in str(caught.value)
    with pytest.raises(ValueError, match=r"must be a JSON file or one of .*none.json"):
        load_settings("none.json", "ddrm")
