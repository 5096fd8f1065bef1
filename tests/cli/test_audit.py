"""Scores for everyone's interactions, and claims only where labels allow them."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path

import pytest
import torch

from ddrm_pyg.experiments.audit import SIGNALS, WEIGHTS
from ddrm_pyg.ids import raw_ids

pytestmark = pytest.mark.usefixtures("short_audit")


def test_scores_without_labels_and_says_what_it_cannot(call, clicks, what_next):
    columns = ["--user", "Customer", "--item", "Book"]
    answer = call("audit", "--data", clicks, *columns, "--out", "out")
    assert answer.code == 0
    assert "cannot be said here: how well the score finds noise, or" in answer.out
    for title in ("the 20 noisiest", "users with most of", "items with most of"):
        assert title in answer.out
    assert answer.out.splitlines()[-1].endswith(
        f"ddrm-pyg clean --data {clicks} --user Customer --item Book --out clicks-clean"
    )
    files = ["audit.csv", "audit.json", "cells", "config.json", "report.html"]
    assert sorted(os.listdir("out")) == files
    page = Path("out/report.html")
    assert page.read_text(encoding="utf-8").lower().count("a score is a rank") == 1
    assert what_next(page, answer.out) | {"report.html"} == set(files)
    with open("out/audit.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["user", "item", "score", "rank", *SIGNALS]
    assert rows[0]["user"].startswith("ann, ")
    assert rows[0]["item"].startswith('book "')
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    for user in {row["user"] for row in rows}:
        places = [int(row["rank"]) for row in rows if row["user"] == user]
        assert places == list(range(1, len(places) + 1))
    record = json.loads(Path("out/audit.json").read_text())
    assert record["auroc"] == {}
    assert record["gain"] is None


def test_ids_are_safe_for_a_spreadsheet_where_asked(call, clicks, monkeypatch):
    name = "ddrm_pyg.ids.raw_ids"
    monkeypatch.setattr(name, lambda *which: [f"={i}" for i in raw_ids(*which)])
    words = ["audit", "--data", clicks, "--user", "Customer", "--item", "Book"]
    for start, more in (("=", []), ("'=", ["--safe-csv"])):
        answer = call(*words, "--out", "out", *more)
        assert answer.code == 0
        with open("out/audit.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert all(row["user"].startswith(f"{start}ann, ") for row in rows)
        assert all(row["item"].startswith(f"{start}book") for row in rows)
        assert "'=" not in answer.out  # for people: as they are


def test_labels_are_measured_beside_the_noisiest(call, world):
    answer = call("audit", "--data", "world", "--out", "out")
    assert answer.out.startswith("the score tells noise from the rest ")
    for title in ("AUROC ", "the 20 noisiest", "users with most", "items with most"):
        assert f"\n{title}" in answer.out
    assert "\nloss: high loss, averaged over a backend's training.\n" in answer.out
    assert "of lightgcn for 3 epochs, its losses noted" in answer.err
    assert "without validation" not in answer.err  # the line above says it
    quiet = call("audit", "--data", "world", "--out", "quiet", "-q")
    assert quiet.err == "world: 6 items are not in train\n"
    assert "\nthe 20 noisiest\n" in quiet.out
    assert "high loss" not in quiet.out
    assert "ddrm-pyg clean" not in quiet.out


def test_measures_with_labels(call, world):
    answer = call("audit", "--data", "world", "--out", "out", "--json")
    assert answer.code == 0
    record = json.loads(answer.out)
    assert list(record["auroc"]) == ["combined", *SIGNALS]
    assert record["cannot_say"] == []
    assert record["weights"] == pytest.approx(dict.fromkeys(SIGNALS, 0) | WEIGHTS)
    assert record["auroc"]["popularity"] > 0.5  # planted: good items become popular
    value, low, high = record["measures"]["combined"]["pooled"]["auroc"]
    assert low < value == record["auroc"]["combined"] < high
    assert record == json.loads(Path("out/audit.json").read_text())
    assert Path("out/audit.png").read_bytes()[:4] == b"\x89PNG"
    report = Path("out/report.html").read_text(encoding="utf-8")
    assert f"(AUROC {value:.3f}; .5 is a coin)" in report
    assert report.count("data:image/png;base64,") == 2
    assert "the 20 noisiest" in report
    assert "<li><code>audit.png</code>" in report


def test_scores_do_not_change_when_nothing_else_is_known(call, world):
    assert call("audit", "--data", "world", "--out", "known").code == 0
    os.remove("world/labels.npz")
    for name in ("valid", "test"):  # other held-out pairs: every user's own, mirrored
        os.replace(f"world/{name}_list.npy", f"world/{name}.old")
    os.rename("world/valid.old", "world/test_list.npy")
    os.rename("world/test.old", "world/valid_list.npy")
    assert call("audit", "--data", "world", "--out", "bare").code == 0
    numbers = []
    for folder in ("known", "bare"):
        with open(f"{folder}/audit.csv", newline="") as file:
            numbers.append([list(row.values())[2:] for row in csv.DictReader(file)])
    assert numbers[0] == numbers[1]


def test_weights_learnt_from_injected_pairs(call, world):
    words = ["audit", "--data", "world", "--weights", "injected", "--json"]
    answer = call(*words)
    record = json.loads(answer.out)
    twice = answer.err.split("two short trainings")[1:]
    again = re.findall(r"the same again, on a copy with (\d+) random", answer.err)
    assert len(twice) == 2
    assert again[0] in twice[0]
    assert int(again[0]) > 0
    assert sum(record["weights"].values()) == pytest.approx(1)
    assert min(record["weights"].values()) >= 0
    assert record["weights"] != pytest.approx(dict.fromkeys(SIGNALS, 0) | WEIGHTS)


def test_without_ease_where_items_are_too_many(call, world, monkeypatch):
    monkeypatch.setattr("ddrm_pyg.experiments.audit.MOST_ITEMS", 10)
    answer = call("audit", "--data", "world", "--json")
    assert "the signal 'ease' is left out above 10" in answer.err
    assert "ease" not in json.loads(answer.out)["auroc"]


def test_global_generator_is_left_alone(call, world):
    state = torch.get_rng_state()
    assert call("audit", "--data", "world").code == 0
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--data", "none.csv"], "none.csv: neither a file"),
        (["--backend", "ease"], "Invalid value for '--backend'"),
        (["--backend", "svd"], "Invalid value for '--backend'"),  # not of pairs
        (["--weights", "labels"], "Invalid value for '--weights'"),
        (["--out", "here"], "'--out' must be a new folder or a run's (got here)"),
    ],
)
def test_refusals_leave_nothing_behind(call, tmp_path, asked, message):
    os.mkdir("here")
    Path("here/notes.txt").touch()
    assert message in call("audit", *asked).error
    assert os.listdir() == ["here"]
    assert os.listdir("here") == ["notes.txt"]


def test_goes_on_where_it_stopped(call, world, monkeypatch):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    words = ["audit", "--data", "world", "--json"]
    with monkeypatch.context() as interrupted:
        interrupted.setattr("ddrm_pyg.experiments.audit.reconstruction_signal", stop)
        assert call(*words).code == 130
    (cell,) = Path("runs/audit-world/cells").glob("lightgcn+noted-*/result.json")
    stamp = cell.stat().st_mtime_ns
    first = call(*words)
    assert first.code == 0
    assert cell.stat().st_mtime_ns == stamp
    assert call(*words).out == first.out


def test_a_folder_holds_one_audit(call, world):
    assert call("audit", "--data", "world", "--out", "out").code == 0
    words = ["audit", "--data", "world", "--out", "out", "--seed", "1"]
    assert "another: seed was 0 and is 1; give --overwrite" in call(*words).error
    assert call(*words, "--overwrite").code == 0
    assert json.loads(Path("out/config.json").read_text())["seed"] == 1
