"""A finished run gives what ranks for new users."""

from __future__ import annotations

import shutil

import pytest
import torch

from ddrm_pyg.cli._finished import fold_in, open_run
from ddrm_pyg.nn.ddrm import DDRM


def test_parts_are_those_of_the_run(finished):
    data, runner, config = open_run(finished)
    parts = fold_in(runner, config, "'export'")
    assert isinstance(parts.ddrm, DDRM)
    assert parts.item_emb.size(0) == data["item"].num_nodes == 24
    degree = runner.graph.degree("item").float()
    expected = (degree / degree.sum()) @ parts.item_emb
    torch.testing.assert_close(parts.mean_item, expected)


def test_what_is_missing_is_never_trained(finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    shutil.rmtree(copy / "cells")
    _, runner, config = open_run(copy)
    with pytest.raises(ValueError, match="needed for 'export', not there"):
        fold_in(runner, config, "'export'")


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not the folder of a run"):
        open_run(tmp_path)


def test_weighted_histories_are_refused(finished, monkeypatch):
    _, runner, config = open_run(finished)
    config["denoise"]["model"]["history"] = {"weight": "recency"}
    monkeypatch.setattr(runner, "has_run", lambda cell: True)
    with pytest.raises(ValueError, match="takes runs whose histories weigh alike"):
        fold_in(runner, config, "'export'")
