"""``ddrm-pyg tune`` writes settings that the other commands take."""

from __future__ import annotations

import json

import pytest

from ddrm_pyg.experiments.settings import load_settings
from ddrm_pyg.files import held

pytest.importorskip("optuna", reason="needs the extra [tune]")


@pytest.fixture(scope="module")
def words(clicks):
    own = ["--data", str(clicks), "--user", "Customer", "--item", "Book"]
    return ["tune", *own, "--epochs", "1", "--trials", "2"]


def test_settings_are_written_and_taken(call, words, tmp_path):
    answer = call(*words, "--out", tmp_path, "--json")
    assert answer.code == 0, answer.err
    record = json.loads(answer.out)
    path = tmp_path / "ddrm_mf_clicks.json"
    assert record["settings"] == str(path)
    settings = load_settings(str(path), "ddrm")
    assert settings["model"] == record["trials"][0]["model"]
    assert settings["fit"]["epochs"] == 1
    assert "among 2 trials of the paper's grid on mf, seed 0" in settings["about"]
    shown = call(*words, "--out", tmp_path).out.splitlines()
    assert shown[0] == f"validation {record['metric']}, best first:"
    assert shown[1].startswith(f"{record['trials'][0]['value']:.5f}  T ")
    assert shown[-1] == f"written to {path}"
    data = words[1:7]
    run = ["run", *data, "--epochs", "1", "--ddrm-epochs", "1", "--settings", path]
    assert call(*run, "--out", tmp_path / "run").code == 0


def test_without_a_finished_trial_nothing_is_written(call, words, tmp_path):
    answer = call(*words, "--budget", 0, "--out", tmp_path)
    assert answer.out.splitlines()[-1] == "no trial has been finished"
    assert list(tmp_path.glob("*.json")) == []


def test_two_searches_in_one_folder_are_refused(call, words, tmp_path):
    (tmp_path / "trials").mkdir()
    with held(tmp_path / "trials"):
        message = call(*words, "--out", tmp_path).err.splitlines()[-1]
    assert "trials: another process is at work there" in message
    assert list((tmp_path / "trials").iterdir()) == []


def test_unknown_backends_are_refused(call, words, tmp_path):
    out = tmp_path / "out"
    assert "ease" in call(*words, "--backend", "ease", "--out", out).error
    assert not out.exists()
