from __future__ import annotations

import csv
import shutil

import pytest

from ddrm_pyg import load_run
from ddrm_pyg.cli import main


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on a table of 24 users, each of whom knows half of the 12 items."""
    folder = tmp_path_factory.mktemp("run")
    rows = [(f"u{u}", f"i{i}") for u in range(24) for i in range(12) if (u + i) % 2]
    with (folder / "clicks.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("user", "item"), *rows])
    words = ["--data", str(folder / "clicks.csv"), "--backend", "mf", "--epochs", "2"]
    words += ["--ddrm-epochs", "1", "--out", str(folder / "run")]
    assert main(["run", *words]) == 0
    return folder


def test_a_run_answers_as_its_file_of_lists_does(finished):
    pipeline = load_run(finished / "run")
    frame = pipeline.recommend(k=20)
    with (finished / "run" / "recommendations.csv").open() as file:
        written = [(row["user"], row["item"]) for row in csv.DictReader(file)]
    assert list(zip(frame["user"], frame["item"], strict=True)) == written


def test_new_users_pass_the_run_s_ddrm(finished):
    pipeline = load_run(finished / "run")
    assert pipeline.ddrm is not None
    assert len(pipeline.recommend_new({"zoe": ["i1", "i3"]}, k=3)) == 3


def test_a_run_without_its_cells_says_what_it_compares(finished, tmp_path, caplog):
    copy = shutil.copytree(finished / "run", tmp_path / "copy")
    shutil.rmtree(copy / "cells")
    pipeline = load_run(copy)
    assert pipeline.ddrm is None
    assert "the mean of a new user's history is compared" in caplog.text


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not the folder of a run"):
        load_run(tmp_path)
