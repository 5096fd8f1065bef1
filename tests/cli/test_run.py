"""The main job, from a table to recommendations."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ddrm_pyg.cli._plug_in import FILES
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.runs import load_run

ROWS = [
    "popularity",
    "item_knn",
    "ease",
    "lightgcn",
    "lightgcn, best depth",
    "history mean",
    "ddrm, one pass, no noise",
    "ddrm",
]
KILLED = """
import functools, os, signal, sys
from ddrm_pyg.cli import main
from ddrm_pyg.experiments.runner import Runner
def die(model, record):
    if "ndcg@20" in record:  # measured, and saved
        os.kill(os.getpid(), signal.SIGKILL)
Runner.__init__ = functools.partialmethod(Runner.__init__, callbacks=[die])
main(sys.argv[1:])
"""


def metrics(folder: Path) -> dict:
    """What a run measured, without the time it took."""
    record = json.loads((folder / "metrics.json").read_text())
    for row in record["rows"]:
        del row["seconds"]
        for epoch in row["history"]:
            del epoch["seconds"]
    return record


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_prints_a_table_and_a_verdict(call, words, tmp_path, what_next):
    answer = call(*words, "--out", tmp_path / "run")
    assert answer.code == 0
    head, *table = answer.out.splitlines()
    assert head.split() == ["R@10", "R@20", "N@10", "N@20", "coverage"]
    assert [line[:24].strip() for line in table[: len(ROWS)]] == ROWS
    for line in table[: len(ROWS)]:
        values = [float(value.rstrip("*")) for value in line[24:].split()]
        assert len(values) == 5
        assert all(0 <= value <= 1 for value in values)
    assert "\nverdict on ddrm: " in answer.out
    assert "picked by validation NDCG@20" in answer.out
    assert str(tmp_path / "run") in answer.out
    named = what_next(tmp_path / "run" / "report.html", answer.out)
    assert named == set(FILES)
    said = answer.err.splitlines()
    assert said[1].startswith(
        "clicks.csv: assumed each user split 70/10/20 % at random"
    )
    assert said[2] == (
        "clicks: 20 users, 24 items, 140 / 20 / 40 train, validation and test "
        "interactions"
    )
    assert len(set(said)) == len(said)
    assert "\nA star is the best of its column.\n" in answer.out
    quiet = call(*words, "--out", tmp_path / "run", "-q")
    assert quiet.err == ""
    first, second = quiet.out.split("\n\n")  # the table, the verdict, and no more
    assert [line[:24].strip() for line in first.splitlines()[1:]] == ROWS
    assert second.startswith("verdict on ddrm: ")
    assert len(second.splitlines()) == 4
    assert answer.out.startswith(f"{first}\n")
    assert second in answer.out


def test_order_has_its_own_table_and_yardsticks(call, walks, tmp_path):
    words = ["--data", walks, "--backend", "mf", "--epochs", "1", "--ddrm-epochs", "1"]
    answer = call("run", *words, "--out", tmp_path / "run")
    free, aware = answer.out.split("order-aware: knows in which order, too")
    assert free.startswith("order-free: knows who took what\n")
    assert "\nA star is the best of its column in its half of the table.\n" in aware
    assert "\nhistory mean " in free
    for name in ("item_knn+recency", "ease+recency", "history mean, recency", "ddrm"):
        assert f"\n{name} " in aware
    assert re.search(r"against '.*', the best yardstick that knows no more \(p ", aware)
    record = json.loads(call("run", *words, "--out", tmp_path / "run", "--json").out)
    assert [row["order_aware"] for row in record["rows"]] == [False] * 6 + [True] * 4
    names = ("popularity", "item_knn", "ease", "item_knn+recency", "ease+recency")
    beside = {row["name"]: row["ndcg@20"] for row in record["rows"]}
    assert record["yardstick"]["name"] == max(names, key=beside.__getitem__)


def test_leaves_its_results(finished):
    assert set(os.listdir(finished)) == {*FILES, "report.html"}
    report = (finished / "report.html").read_text(encoding="utf-8")
    assert report.index("verdict on ddrm: ") < report.index("<table>")
    assert report.count("data:image/png;base64,") == 2
    command = "ddrm-pyg run --backend lightgcn --data "
    assert command in re.sub("<[^<]*>", "", report)
    record = metrics(finished)
    assert [row["name"] for row in record["rows"]] == ROWS
    lightgcn, ddrm = record["rows"][3], record["rows"][-1]
    assert lightgcn["best_epoch"] in (5, 10)
    assert [epoch["epoch"] for epoch in lightgcn["history"]] == list(range(1, 11))
    validated = [e["epoch"] for e in ddrm["history"] if "ndcg@20" in e]
    assert validated == [2, 4]
    assert ddrm["best_epoch"] in validated
    best = ddrm["history"][ddrm["best_epoch"] - 1]
    assert best["ndcg@20"] == max(e.get("ndcg@20", 0) for e in ddrm["history"])
    assert best["ndcg@20"] == pytest.approx(ddrm["val"]["ndcg@20"], abs=1e-6)
    emb = Embeddings.load(finished / "embeddings.safetensors")
    assert (emb.num_users, emb.num_items) == (20, 24)


def test_json_is_one_object_and_the_rest_goes_to_stderr(call, words, tmp_path):
    answer = call(*words, "--out", tmp_path / "run", "--json")
    assert answer.code == 0
    assert answer.out.count("\n") == 1
    record = json.loads(answer.out)
    assert [row["name"] for row in record["rows"]] == ROWS
    for row in record["rows"]:
        assert {"recall@10", "recall@20", "ndcg@10", "ndcg@20"} < row.keys()
    assert record["verdict"] in ("helps", "no significant change", "hurts")
    assert record["rival"] in ("lightgcn", "lightgcn, best depth", "history mean")
    assert "interactions" in answer.err


def test_twice_is_identical(call, words, finished, tmp_path):
    assert call(*words, "--out", tmp_path).code == 0
    assert metrics(tmp_path) == metrics(finished)
    for name in ("embeddings.safetensors", "recommendations.csv", "ids.csv"):
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.usefixtures("no_training")
def test_same_run_again_only_reads(call, words, finished):
    before = metrics(finished)
    answer = call(*words, "--out", finished)
    assert answer.code == 0
    assert f"continuing in {finished}" in answer.err
    assert "..." not in answer.err
    assert metrics(finished) == before


@pytest.mark.usefixtures("no_training")
def test_same_run_from_another_folder(call, words, clicks, finished, monkeypatch):
    monkeypatch.chdir(clicks.parent)
    relative = [clicks.name if word == str(clicks) else word for word in words]
    assert call(*relative, "--out", finished).code == 0


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--seed", "1"], "backend.seed was 0 and is 1"),
        (["--epochs", "11"], "backend.fit.epochs was 10 and is 11"),
        (["--backend", "mf"], "backend.method was lightgcn and is mf"),
        (["--ratios", "0.6,0.2,0.2"], "source.ratios was"),
    ],
)
def test_another_run_is_refused_and_nothing_changes(
    call, words, finished, change, message
):
    before = contents(finished)
    answer = call(*words, *change, "--out", finished)
    assert "'--out' must be new or hold this very run" in answer.error
    assert message in answer.error
    assert "--overwrite" in answer.error
    assert contents(finished) == before


def test_changed_file_is_another_run(call, words, clicks, tmp_path, monkeypatch):
    copy = tmp_path / "copy.csv"
    copy.write_bytes(clicks.read_bytes())
    words = [str(copy) if word == str(clicks) else word for word in words]
    out = tmp_path / "run"
    assert call(*words, "--out", out).code == 0
    cells = set(os.listdir(out / "cells"))
    copy.write_text(copy.read_text() + "new,newer\n")
    assert "the interactions were others" in call(*words, "--out", out).error
    assert call(*words, "--out", out, "--overwrite").code == 0
    assert len(os.listdir(out / "cells")) == len(cells)
    assert not cells & set(os.listdir(out / "cells"))
    assert "newer" in (out / "ids.csv").read_text()


def test_interrupted_overwrite_is_not_finished(
    call, words, clicks, finished, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    assert call(*words, "--out", out).code == 0

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ddrm_pyg.cli._plug_in.plug_in", stop)
    answer = call(*words, "--seed", "1", "--out", out, "--overwrite")
    assert answer.code == 130
    assert "must be finished" in call("recommend", out).error


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize("name", ["thesis.txt", "config.json", "cells"])
def test_foreign_folder_is_left_alone(call, words, tmp_path, name, overwrite):
    (tmp_path / name).write_text('{"mine": true}')
    answer = call(*words, "--out", tmp_path, *overwrite)
    assert "'--out' must be a new folder or a run's" in answer.error
    assert contents(tmp_path) == {name: b'{"mine": true}'}


def test_file_is_no_folder(call, words, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    answer = call(*words, "--out", file, "--overwrite")
    assert "Invalid value for '--out'" in answer.error
    assert "is a file" in answer.error
    assert file.read_text() == "mine"


@pytest.mark.slow
def test_killed_run_goes_on(call, words, finished, tmp_path):
    out = tmp_path / "run"
    process = subprocess.run(
        [sys.executable, "-c", KILLED, *words, "--out", str(out)], capture_output=True
    )
    assert process.returncode == -signal.SIGKILL
    assert len(list(out.glob("cells/lightgcn-*/checkpoint.pt"))) == 1
    assert not (out / "metrics.json").exists()
    assert call(*words, "--out", out).code == 0
    assert metrics(out) == metrics(finished)
    for name in ("embeddings.safetensors", "recommendations.csv"):
        assert (out / name).read_bytes() == (finished / name).read_bytes()


def test_folder_is_named_by_data_backend_and_seed(call, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(*words, "--backend", "mf", "--seed", "3").code == 0
    assert os.listdir("runs") == ["clicks-mf-ddrm-seed3"]
    rows = metrics(Path("runs/clicks-mf-ddrm-seed3"))["rows"]
    assert [row["name"] for row in rows[3:5]] == ["mf", "mf, best depth"]


def test_no_validation_is_said_and_leaves_depth_out(call, words, tmp_path):
    answer = call(*words, "--ratios", "0.8,0,0.2", "--out", tmp_path / "run")
    assert answer.code == 0
    assert "'lightgcn, best depth' left out" in answer.err
    names = [row["name"] for row in metrics(tmp_path / "run")["rows"]]
    assert names == [name for name in ROWS if name != "lightgcn, best depth"]


def test_odd_but_usable_is_said_once(call, words, clicks, tmp_path):
    lines = clicks.read_text().splitlines()
    file = tmp_path / "odd.csv"
    lonely = [f"lonely,rare{i}" for i in range(2)]
    file.write_text("\n".join([*lines, lines[1], lines[1], *lonely]))
    words = [str(file) if word == str(clicks) else word for word in words]
    said = call(*words, "--out", tmp_path / "run").err
    assert said.count("odd.csv: 2 duplicate pairs (each kept once, the first)\n") == 1
    assert said.count("odd.csv: assumed ") == 1


REFUSED = {
    "missing column": ("a,b\n1,2\n", [], "t.csv:1: no column 'user'"),
    "misnamed column": ("user,item\n1,2\n", ["--user", "uzer"], "did you mean 'user'?"),
    "no rating": ("user,item,rating\n1,2,x\n", [], "t.csv:2: column 'rating' is 'x'"),
    "NaN": ("user,item,rating\n1,2,3\n1,3,nan\n", [], "t.csv:3: column 'rating' is"),
    "no rows": ("user,item\n", [], "t.csv: no rows"),
    "no ratings": ("user,item\n1,2\n", ["--liked-from", "4"], "needs a rating column"),
    "no test pairs": ("user,item\n1,2\n", [], "no test pairs"),
    "nothing liked": (
        "user,item,rating\n1,2,1\n1,3,1\n1,4,2\n",
        ["--liked-from", "4"],
        "no test pairs",
    ),
    "no test share": ("user,item\n1,2\n", ["--ratios", "0.9,0.1,0"], "'ratios'"),
    "two ratios": ("user,item\n1,2\n", ["--ratios", "0.9,0.1"], "'--ratios'"),
    "short row": ("user,item\n1\n", [], "t.csv:2: 1 fields, expected 2"),
    "binary": ("user,item\n1,\0\n", [], "not a text file"),
    "backend": (
        "user,item\n1,2\n",
        ["--backend", "mff"],
        "'mff'; did you mean 'mf'? It must be one of 'mf'",
    ),
    "settings": ("user,item\n1,2\n", ["--settings", "ddrn"], "did you mean 'ddrm'?"),
    "other settings": ("user,item\n1,2\n", ["--settings", "mf"], "must be 'ddrm'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_data_are_refused_and_nothing_is_written(call, tmp_path, name):
    text, options, message = REFUSED[name]
    (tmp_path / "t.csv").write_text(text)
    out = tmp_path / "out"
    answer = call("run", "--data", tmp_path / "t.csv", *options, "--out", out)
    assert message in answer.error
    assert os.listdir(tmp_path) == ["t.csv"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("syntetic", "did you mean 'synthetic'?"),
        ("nowhere/ratings.csv", "neither a file, a folder nor a known data set"),
        (".", "looked for train_list.npy"),
    ],
)
def test_missing_data_are_refused(call, tmp_path, monkeypatch, data, message):
    monkeypatch.chdir(tmp_path)
    assert message in call("run", "--data", data).error
    assert os.listdir(tmp_path) == []


def test_column_options_need_a_file(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = call("run", "--data", "synthetic", "--user", "uid")
    assert "column options go with a file" in answer.error


@pytest.mark.parametrize("denoise", ["t-ce", "r-ce", "deca", "wbpr"])
def test_a_cleaner_is_judged_and_served(call, words, tmp_path, denoise):
    words = words[: words.index("--ddrm-epochs")]
    answer = call(*words, "--denoise", denoise, "--out", tmp_path / "run")
    assert answer.code == 0
    assert f"\nverdict on lightgcn+{denoise}: " in answer.out
    assert "\nddrm " not in answer.out
    assert (tmp_path / "run" / "recommendations.csv").exists()
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["denoise"]["method"] == f"lightgcn+{denoise}"


def test_without_denoising_the_best_use_of_the_backend_is_served(call, words, tmp_path):
    words = words[: words.index("--ddrm-epochs")]
    answer = call(*words, "--denoise", "none", "--out", tmp_path / "run", "--json")
    record = json.loads(answer.out)
    assert record["verdict"] is None
    assert [row["name"] for row in record["rows"]] == ROWS[:5]
    assert record["with_vectors"] in ROWS[3:5]
    served = load_run(tmp_path / "run", row="lightgcn").embeddings
    (cell,) = (tmp_path / "run" / "cells").glob("lightgcn-*")
    backend = Embeddings.load(cell / "embeddings.safetensors")
    assert served.user.equal(backend.user)


@pytest.mark.parametrize(
    "words", [["--settings", "ddrm_future"], ["--backend", "sasrec"]]
)
def test_an_order_that_nothing_tells_is_refused_before_anything_runs(
    call, clicks, tmp_path, words
):
    source = ["--data", clicks, "--user", "Customer", "--item", "Book"]
    error = call("run", *source, *words, "--out", tmp_path / "run").error
    assert "load them with a column of times" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none", "--settings", "ddrm_quick"], "'--settings' are of '--denoise'"),
        (["none", "--ddrm-epochs", 3], r"'--ddrm-epochs' must come .* \(got 'none'\)"),
        (["t-ce", "--ddrm-epochs", 3], r"'--ddrm-epochs' must come .* \(got 't-ce'\)"),
    ],
)
def test_options_without_a_use_are_refused(call, tmp_path, words, message):
    answer = call("run", "--denoise", *words, "--out", tmp_path / "run")
    assert re.search(message, answer.error)
    assert not (tmp_path / "run").exists()


def test_unknown_denoising_is_refused_with_the_choices(call, tmp_path):
    answer = call("run", "--denoise", "tce", "--out", tmp_path / "run")
    assert answer.code == 2
    assert "'--denoise': 'tce'; did you mean 't-ce'? It must be one of" in answer.err
    assert not (tmp_path / "run").exists()
