from __future__ import annotations

import csv
import json
import shutil

import pytest

from ddrm_pyg import Pipeline, load_run
from ddrm_pyg.cli import main
from ddrm_pyg.cli._folder import EMBEDDINGS
from ddrm_pyg.files import hash_file


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
    run, file = finished / "run", finished / "lists.csv"
    record = json.loads((run / "metrics.json").read_text())
    for row in (None, "ddrm"):
        frame = load_run(run, row=row).recommend(k=20)
        words = ["--row", row or record["with_vectors"], "-k", "20", "--out", str(file)]
        assert main(["recommend", str(run), *words]) == 0
        with file.open() as lines:
            written = [(line["user"], line["item"]) for line in csv.DictReader(lines)]
        assert list(zip(frame["user"], frame["item"], strict=True)) == written


def test_a_winner_without_vectors_is_said(finished, tmp_path, caplog):
    copy = shutil.copytree(finished / "run", tmp_path / "copy")
    record = json.loads((copy / "metrics.json").read_text()) | {"winner": "ease"}
    (copy / "metrics.json").write_text(json.dumps(record))
    best = record["with_vectors"]
    load_run(copy)
    assert f"'ease' won, but has no vectors; '{best}' ranks" in caplog.text
    with pytest.raises(ValueError, match=r"'load_run' works with .*got 'ease'"):
        load_run(copy, row="ease")


def test_new_users_pass_the_run_s_ddrm(finished):
    pipeline = load_run(finished / "run", row="ddrm")
    assert pipeline.ddrm is not None
    assert len(pipeline.recommend_new({"zoe": ["i1", "i3"]}, k=3)) == 3


def test_new_users_of_a_run_that_learned_from_order_are_read_in_order(tmp_path):
    rows = [(f"u{u}", f"i{(3 * u + t) % 9}", t) for u in range(30) for t in range(6)]
    with (tmp_path / "clicks.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("user", "item", "time"), *rows])
    words = ["--data", str(tmp_path / "clicks.csv"), "--backend", "svd"]
    run = tmp_path / "run"
    assert main(["run", *words, "--ddrm-epochs", "1", "--out", str(run)]) == 0
    taken = [("zoe", "i4", 1), ("zoe", "i2", 2), ("zoe", "i7", 3)]
    with (tmp_path / "new.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("user", "item", "time"), *taken])
    ask = ["recommend", str(run), "--row", "ddrm", "-k", "4"]
    lists = tmp_path / "lists.csv"
    history = ["--history", str(tmp_path / "new.csv"), "--out", str(lists)]
    assert main([*ask, *history]) == 0
    with lists.open() as file:
        expected = [row["item"] for row in csv.DictReader(file)]
    pipeline = load_run(run, row="ddrm")
    pipeline.save_pretrained(tmp_path / "kept")
    for opened in (pipeline, Pipeline.from_pretrained(tmp_path / "kept")):
        frame = opened.recommend_new({"zoe": ["i4", "i2", "i7"]}, k=4)
        assert frame["item"].tolist() == expected
    program = ["--out", str(tmp_path / "program"), "--format", "pt2", "-k", "4"]
    assert main(["export", str(tmp_path / "kept"), *program]) == 0
    assert json.loads((tmp_path / "program" / "serving.json").read_text())["ordered"]
    assert main(["export", str(tmp_path / "kept"), *program, "--row", "ddrm"]) == 2


def test_a_run_without_its_cells_says_what_it_compares(finished, tmp_path, caplog):
    copy = shutil.copytree(finished / "run", tmp_path / "copy")
    emb = load_run(copy, row="ddrm").embeddings
    emb.save(copy / EMBEDDINGS)
    record = json.loads((copy / "metrics.json").read_text())
    record |= {
        "with_vectors": "ddrm",
        "hashes": {
            "embeddings.safetensors": hash_file(copy / "embeddings.safetensors")
        },
    }
    (copy / "metrics.json").write_text(json.dumps(record))
    shutil.rmtree(copy / "cells")
    pipeline = load_run(copy)
    assert pipeline.ddrm is None
    assert "the mean of a new user's history is compared" in caplog.text


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not the folder of a run"):
        load_run(tmp_path)
