"""A search looks at validation alone, and goes on where it was killed."""

from __future__ import annotations

import itertools
import sys

import pytest
import torch

from ddrm_pyg.datasets.synthetic import SyntheticInteractions
from ddrm_pyg.experiments import tune as module
from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.tune import GRID, arguments_of, tune
from ddrm_pyg.graph.interaction_graph import EDGE
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender

optuna = pytest.importorskip("optuna", reason="needs the extra [tune]")

FIT = {"epochs": 4, "eval_every": 2, "batch_size": 512, "metric": "ndcg@20"}
MF = Cell("mf", 0, {"embedding_dim": 4}, FIT)
SMALL = {"hidden_dims": [4], "activation": "tanh"}


def on_mf(changes):
    return Cell("ddrm", 0, {**SMALL, **changes}, FIT, MF)


@pytest.fixture(scope="module")
def data():
    return SyntheticInteractions(50, 80, 1000)[0]


@pytest.fixture
def search(data, tmp_path):
    def run(name="a", trials=3, data=data, callbacks=(), **limits):
        runner = Runner(
            data, tmp_path / name / "cells", callbacks=callbacks, progress=False
        )
        return tune(runner, on_mf, tmp_path / name, trials=trials, **limits)

    return run


def never(model, record):
    """A callback where nothing should be trained."""
    raise AssertionError(f"{type(model).__name__} is trained")


@pytest.mark.parametrize(("steps", "passes"), [(20, 25), (30, 37), (50, 62)])
def test_a_point_of_the_grid_by_hand(steps, passes):
    # 30 and 37, 50 and 62 are published pairs
    assert arguments_of(
        {
            **{"num_train_timesteps": steps, "inference_ratio": 1.25, "gamma": 0.3},
            "noise_bounds": "1e-4 1e-2",
        }
    ) == {
        **{"num_train_timesteps": steps, "num_inference_steps": passes, "gamma": 0.3},
        **{"noise_min": 1e-4, "noise_max": 1e-2, "sampler": "posterior"},
    }


def test_ddrm_accepts_the_whole_grid():
    ends = {name: (values[0], values[-1]) for name, values in GRID.items()}
    ends["noise_bounds"] = GRID["noise_bounds"]
    for point in itertools.product(*ends.values()):
        DDRM(2, (2,), **arguments_of(dict(zip(ends, point, strict=True))))


def test_best_comes_first_and_the_rest_stays_as_it_was(search):
    tried = search()
    assert len(tried) == 3
    assert [t.value for t in tried] == sorted((t.value for t in tried), reverse=True)
    for trial in tried:
        assert trial.model["hidden_dims"] == [4]
        assert trial.model["activation"] == "tanh"
        assert trial.model["gamma"] in GRID["gamma"]
        assert trial.epoch in (2, 4)


def test_a_value_is_what_training_reaches_on_validation(search, data, tmp_path):
    best = search()[0]
    cell = Cell("ddrm", 0, best.model, FIT, MF)
    result = Runner(data, tmp_path / "a" / "cells", progress=False).run(cell)
    assert result.val["ndcg@20"] == pytest.approx(best.value)
    assert result.best_epoch == best.epoch


def test_more_trials_go_on_with_the_earlier_ones(search):
    two = search(trials=2)
    assert search(trials=2, callbacks=[never]) == two
    three = search(trials=3)
    assert [t for t in three if t in two] == two
    assert three == search("b", trials=3)


@pytest.mark.parametrize("content", [b"null\n", b"{}\n", b"\xff\n", b"[" * 100_000])
def test_a_damaged_journal_is_named(search, tmp_path, content):
    search(trials=1)
    (journal,) = (tmp_path / "a").glob("*/trials.log")
    journal.write_bytes(content + journal.read_bytes())
    with pytest.raises(ValueError, match=r"trials\.log: not a search's .*; delete it"):
        search(trials=2)
    journal.unlink()
    assert len(search(trials=2)) == 2


@pytest.mark.parametrize("killed_at", [1, 4, 5])
def test_killed_and_resumed_is_the_same_as_straight(search, tmp_path, killed_at):
    straight = search("straight")
    count = itertools.count(1)

    def stop(model, record):
        saved = isinstance(model, DDRMRecommender) and "ndcg@20" in record
        if saved and next(count) == killed_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search("killed", callbacks=[stop])
    assert search("killed") == straight
    assert list(tmp_path.rglob("trials.log"))
    assert not list(tmp_path.rglob("*.pt"))


def test_settings_that_are_proposed_again_are_not_trained_again(search, monkeypatch):
    point = {name: values[:1] for name, values in GRID.items()}
    monkeypatch.setattr(module, "GRID", point)
    (first,) = search(trials=1)
    assert search(trials=3, callbacks=[never]) == [first] * 3


def test_test_pairs_change_nothing(search, data):
    other = data.clone()
    pairs = other[EDGE].test_edge_label_index
    other[EDGE].test_edge_label_index = torch.stack([pairs[0], (pairs[1] + 7) % 80])
    assert search("b", data=other) == search("a")


def test_trials_beyond_those_that_are_never_stopped(search):
    """By Optuna's own pruner, which answers in numpy's booleans."""
    tried = search(trials=9)
    assert len(tried) == 9
    assert {type(trial.stopped) for trial in tried} == {bool}
    assert search(trials=9, callbacks=[never]) == tried


def test_what_was_stopped_is_no_candidate(search, monkeypatch):
    def prune(self, study, trial):
        return trial.number > 0

    monkeypatch.setattr(optuna.pruners.MedianPruner, "prune", prune)
    tried = search()
    assert [trial.stopped for trial in tried] == [False, True, True]
    assert [trial.epoch for trial in tried[1:]] == [2, 2]


def test_a_trial_that_diverges_is_given_up(search, caplog):
    straight = search("straight")
    count = itertools.count()

    def diverge(model, record):
        if isinstance(model, DDRMRecommender) and next(count) == 0:
            raise FloatingPointError("the loss is nan")

    tried = search("diverging", callbacks=[diverge])
    assert "given up: the loss is nan" in caplog.text
    assert len(tried) == 3
    assert (tried[-1].stopped, tried[-1].value, tried[-1].epoch) == (True, 0.0, 0)
    assert {str(t.model) for t in tried} == {str(t.model) for t in straight}
    assert search("diverging", callbacks=[never]) == tried  # and is not tried again


def test_no_trial_is_started_after_the_budget(search):
    assert search(minutes=0) == []


def test_refusals(search, data, tmp_path, monkeypatch):
    other = data.clone()
    other[EDGE].val_edge_label_index = torch.empty(2, 0, dtype=torch.int64)
    with pytest.raises(ValueError, match="must have a validation split"):
        search(data=other)
    with pytest.raises(ValueError, match="'make' must start from a backend"):
        tune(Runner(data, tmp_path), lambda changes: MF, tmp_path, trials=1)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install 'ddrm_pyg\[tune\]'"):
        search()
