"""``ddrm-pyg compare`` on a small table without ratings."""

from __future__ import annotations

import csv
import json
import os
import re

import pytest

from ddrm_pyg.cli._report import COMMAND
from ddrm_pyg.cli.compare import FINISHED
from ddrm_pyg.experiments.methods import FIRST_LOOK, each_once, yardsticks
from ddrm_pyg.experiments.runner import Runner

QUICK = ["--user", "Customer", "--item", "Book", "--epochs", "2"]


@pytest.fixture(scope="module")
def words(clicks):
    return ["compare", "--data", str(clicks), *QUICK, "--methods", "mf,multidae"]


def test_table_verdict_and_what_cannot_be_said(call, words, tmp_path, what_next):
    answer = call(*words, "--out", tmp_path / "out")
    assert answer.code == 0
    head, *lines = answer.out.splitlines()
    assert head.split()[:5] == ["R@10", "R@20", "N@10", "N@20", "coverage"]
    names = [line.split()[0] for line in lines[:5]]
    assert names == ["popularity", "item_knn", "ease", "mf", "multidae"]
    assert "the best yardstick" in answer.out
    assert "labels, so test pairs may be noise themselves\n" in answer.out
    named = what_next(tmp_path / "out" / "report.html", answer.out)
    assert named | {"report.html"} == set(os.listdir(tmp_path / "out"))
    assert (tmp_path / "out" / "compare.png").read_bytes().startswith(b"\x89PNG")
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "the best yardstick: " in report
    assert report.count("data:image/png;base64,") == 2
    assert "cannot be said here: who predicts what people meant" in report


def test_a_first_look_says_what_it_leaves_out(call, clicks, tmp_path):
    words = ["compare", "--data", clicks, *QUICK[:-1], "1", "--out", tmp_path]
    answer = call(*words)
    assert answer.code == 0
    rows = json.loads((tmp_path / FINISHED).read_text())["rows"]
    assert [row["name"] for row in rows] == [*yardsticks(), *FIRST_LOOK]
    (line,) = (line for line in answer.out.splitlines() if "not here: " in line)
    assert line.endswith(f"; with them: {COMMAND.get()} --methods all")
    assert COMMAND.get().startswith("ddrm-pyg compare --data ")
    left_out = line.removeprefix("not here: ").partition(";")[0].split(", ")
    every = [*yardsticks(), *yardsticks(order_aware=True), *FIRST_LOOK, *left_out]
    assert sorted(every) == sorted(each_once())


def test_files_hold_what_json_says(call, words, tmp_path):
    answer = call(*words, "--seeds", 2, "--out", tmp_path, "--json")
    record = json.loads(answer.out)
    assert json.loads((tmp_path / FINISHED).read_text()) == record
    with (tmp_path / "compare.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [row["name"] for row in record["rows"]]
    mf = record["rows"][3]
    assert mf["seeds"] == [0, 1]
    assert float(rows[3]["ndcg@20"]) == mf["ndcg@20"]
    assert rows[3]["seeds"] == "0 1"
    assert mf["num_parameters"] == (20 + 24) * 64
    assert {"seconds", "peak_memory", "popularity@20", "coverage@20"} <= mf.keys()
    assert record["verdict"]["yardstick"] in ("popularity", "item_knn", "ease")


def test_order_has_its_own_table_and_yardsticks(call, walks, tmp_path):
    words = ["compare", "--data", walks, "--methods", "mf+ddrm,ease+recency"]
    words += ["--epochs", "1", "--out", tmp_path / "out"]
    answer = call(*words)
    free, aware = answer.out.split("order-aware: knows in which order, too")
    assert free.startswith("order-free: knows who took what\n")
    for name in ("popularity", "item_knn", "ease", "mf+ddrm, published"):
        assert f"\n{name} " in free
    for name in ("item_knn+recency", "ease+recency", "mf+ddrm"):
        assert f"\n{name} " in aware
    for head in ("order-free", "order-aware"):
        assert re.search(rf"\n{head}: above '.*', the best yardstick: ", answer.out)
    record = json.loads(call(*words, "--json").out)
    blocks = {row["name"]: row["order_aware"] for row in record["rows"]}
    assert list(blocks.values()) == [False] * 4 + [True] * 3
    best = record["verdict"]["order_aware"]["yardstick"]
    assert best in yardsticks(order_aware=True)
    (past,) = [row for row in record["rows"] if row["name"] == "mf+ddrm"]
    assert past["against"] == best


def test_methods_may_be_added_and_nothing_runs_twice(
    call, words, tmp_path, monkeypatch
):
    assert call(*words, "--out", tmp_path).code == 0
    trained = []
    train = Runner.train

    def noted(self, cell, model):
        trained.append(cell.method)
        return train(self, cell, model)

    monkeypatch.setattr(Runner, "train", noted)
    assert call(*words, "--out", tmp_path).code == 0
    assert trained == []
    more = [*words[:-1], "mf,multidae,cdae"]
    assert call(*more, "--out", tmp_path).code == 0
    assert trained == ["cdae"]


def test_yardsticks_may_be_named(call, words, tmp_path):
    answer = call(*words[:-1], "ease,popularity", "--out", tmp_path, "--json")
    names = [row["name"] for row in json.loads(answer.out)["rows"]]
    assert names == ["popularity", "item_knn", "ease"]


def test_other_data_are_refused(call, words, tmp_path, clicks):
    assert call(*words, "--out", tmp_path).code == 0
    fewer = clicks.read_text().splitlines()[:-20]
    other = tmp_path / "fewer.csv"
    other.write_text("\n".join(fewer) + "\n")
    message = call("compare", "--data", other, *QUICK, "--out", tmp_path).error
    assert "'--out' must be new or hold this very run" in message


@pytest.mark.parametrize("methods", ["mff", "mf,", "", "diffrec+ddrm"])
def test_unknown_methods_are_refused_before_anything_runs(call, tmp_path, methods):
    out = tmp_path / "out"
    message = call("compare", "--methods", methods, "--out", out).error
    assert "a method must be one of popularity, item_knn" in message
    assert not out.exists()
