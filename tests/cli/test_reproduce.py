"""``ddrm-pyg reproduce`` on a tiny world: miniatures of every table and figure."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest

from ddrm_pyg.datasets.synthetic import SyntheticInteractions
from ddrm_pyg.experiments import sources
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.settings import cell_for
from ddrm_pyg.paper import outline
from ddrm_pyg.paper.outline import SWEEPS, TARGETS
from ddrm_pyg.ranking import METRICS

QUICK = ["--data", "synthetic", "--seeds", 1, "--epochs", 1]
FEW = ["reproduce", "table2", *QUICK, "--rows", "ease,mf,mf+ddrm"]


@pytest.fixture(autouse=True)
def world(monkeypatch):
    """The data set ``synthetic``, small, and two points per curve."""
    data = SyntheticInteractions(50, 80, 1000)[0]
    monkeypatch.setitem(sources.NAMED, "synthetic", data.clone)
    monkeypatch.setattr(outline, "NOISE_RATIOS", (0.0, 0.6))
    short = {name: values[:2] for name, values in SWEEPS.items()}
    monkeypatch.setattr(outline, "SWEEPS", short)


def lines(record):
    return [line for block in record["blocks"] for line in block["lines"]]


@pytest.mark.parametrize("what", TARGETS)
def test_miniature(call, tmp_path, what):
    answer = call(
        *("reproduce", what, *QUICK, "--backends", "mf", "--out", tmp_path),
        *("--latex", "--json"),
    )
    assert answer.code == 0, answer.err
    record = json.loads(answer.out)
    assert json.loads((tmp_path / f"{what}.json").read_text()) == record
    for line in lines(record):
        assert (line["run"], line["failed"]) == (line["asked"], [])
        assert set(line["mean"]) == set(METRICS)
        assert line["paper"] == {}
    conditions = {line["condition"] for line in lines(record)}
    assert record["fingerprints"].keys() == (conditions or {"noisy validation"})
    page = (tmp_path / f"{what}.html").read_text()
    tables = len(record["blocks"]) or 1
    tables *= 2 if what == "table2" else 1  # what needs no diffusion stands below
    assert page.count("<table>") == page.count("</table>") == tables
    assert ("data:image/png;base64" in page) == bool(record["blocks"])
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert (tmp_path / f"{what}.tex").read_text().count(r"\end{tabular}") == tables


def test_the_way_of_the_authors_code_is_run_on_the_backends_raw_tables(call, tmp_path):
    rows = "mf 4 layers,mf 4 layers+ddrm"
    words = ["reproduce", "table2", *QUICK, "--settings-of", "ml-1m", "--rows", rows]
    answer = call(*words, "--validation", "noisy", "--out", tmp_path, "--json")
    layers, ddrm = lines(json.loads(answer.out))
    assert (layers["run"], ddrm["run"]) == (1, 1)
    assert layers["cell"] == ddrm["cell"]["base"]
    assert layers["cell"]["model"] == {"num_layers": 4, "combine": "mean"}
    assert layers["mean"] != ddrm["mean"]


def test_what_is_there_is_not_trained_again(call, tmp_path, monkeypatch):
    first = call(*FEW, "--out", tmp_path, "--json")
    monkeypatch.setattr(Runner, "train", None)
    again = call(*FEW, "--out", tmp_path, "--json")
    assert (first.code, again.code) == (0, 0)
    assert json.loads(again.out) == json.loads(first.out)


def test_a_failed_cell_is_told_and_the_others_are_there(call, tmp_path, monkeypatch):
    def fail(self, cell, model):
        raise RuntimeError("out of <luck>")

    monkeypatch.setattr(Runner, "train", fail)
    answer = call(*FEW, "--out", tmp_path)
    assert answer.code == 0
    assert "mf failed: RuntimeError: out of <luck>." in answer.out
    assert "mf+ddrm failed: mf, from which it starts, failed." in answer.out
    record = json.loads((tmp_path / "table2.json").read_text())
    assert [line["run"] for line in lines(record)] == [1, 0, 0, 0, 0]
    assert "out of &lt;luck&gt;" in (tmp_path / "table2.html").read_text()


def test_what_the_budget_does_not_reach_is_empty(call, tmp_path):
    answer = call(*FEW, "--budget", 0, "--out", tmp_path, "--json")
    record = json.loads(answer.out)
    assert [line["mean"] for line in lines(record)] == [{}] * 5
    assert "0 minutes are over; run again to go on" in answer.err
    assert not (tmp_path / "table2.png").exists()
    assert call(*FEW, "--out", tmp_path, "--json").code == 0
    record = json.loads((tmp_path / "table2.json").read_text())
    assert [line["run"] for line in lines(record)] == [1] * 5


@pytest.mark.parametrize("data", ["ml-1m", "yelp", "amazon-book"])
@pytest.mark.parametrize("what", TARGETS)
def test_a_dry_run_needs_no_data(call, tmp_path, monkeypatch, what, data):
    monkeypatch.setitem(sources.NAMED, data, None)
    out = tmp_path / "out"
    answer = call("reproduce", what, "--data", data, "--dry-run", "--out", out)
    assert answer.code == 0
    *cells, last = answer.out.splitlines()
    none = "nothing to train"  # Table 1 counts
    assert last == (f"0 of {len(cells)} cells are done" if cells else none)
    assert bool(cells) == (what != "table1")
    assert all(cell.startswith("to do  ") for cell in cells)
    if what == "table2":
        mean = "sgl history mean: history_mean on sgl, seed 2, liked validation"
        assert f"to do  {mean}" in cells
    assert not out.exists()


def test_a_dry_run_of_what_is_not_there_yet(call, tmp_path):
    words = ["reproduce", "table3", "--data", tmp_path / "yelp", "--dry-run"]
    answer = call(*words, "--out", tmp_path / "out")
    assert answer.code == 0
    assert "yelp is not there; this is what would be run" in answer.err
    meant = call("reproduce", "table2", "--data", "yelpp", "--dry-run")
    assert "yelpp is not there; did you mean 'yelp'?; this is" in meant.err
    named = call("reproduce", "table3", "--data", "yelp", "--dry-run")
    assert answer.out == named.out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_refuses_what_the_run_would(call, tmp_path):
    words = ["reproduce", "table3", "--data", "yelp", "--dry-run", "--rating", "stars"]
    assert "column options go with a file" in call(*words).error


def test_a_dry_run_tells_what_is_done(call, tmp_path):
    assert call(*FEW[:-1], "ease,mf", "--budget", 99, "--out", tmp_path).code == 0
    answer = call(*FEW, "--dry-run", "--out", tmp_path, "--json")
    cells = json.loads(answer.out)["cells"]
    assert [(c["cell"], c["seed"], c["done"]) for c in cells] == [
        *(("ease", None, True), ("mf", 0, True), ("ddrm on mf", 0, False)),
        *(("mf", 0, True), ("ddrm on mf", 0, False)),
    ]
    # the data are at hand: nothing but the cells has to be there
    (tmp_path / "data.json").unlink()
    assert call(*FEW, "--dry-run", "--out", tmp_path, "--json").out == answer.out


@pytest.mark.parametrize(("asked", "count"), [("noisy", 3), ("liked", 2)])
def test_one_validation_set_may_be_enough(call, tmp_path, asked, count):
    words = [*FEW, "--validation", asked, "--budget", 0, "--out", tmp_path, "--json"]
    record = json.loads(call(*words).out)
    conditions = [line["condition"] for line in lines(record)]
    assert conditions == [f"{asked} validation"] * count
    assert record["command"].endswith(f"--validation {asked}")


def test_own_data_without_labels(call, tmp_path, clicks):
    answer = call(
        *("reproduce", "table2", "--data", clicks, "--user", "Customer"),
        *("--item", "Book", "--seeds", 2, "--epochs", 1, "--rows", "ease,mf"),
        *("--out", tmp_path, "--json"),
    )
    record = json.loads(answer.out)
    (block,) = record["blocks"]
    assert [(x["name"], x["seeds"]) for x in block["lines"]] == [
        ("ease", []),
        ("mf", [0, 1]),
    ]
    assert record["command"] == (
        f"ddrm-pyg reproduce table2 --data {clicks} --user Customer --item Book "
        "--rows ease,mf --epochs 1 --seeds 2"
    )
    page = (tmp_path / "table2.html").read_text()
    assert "paper" not in re.search(r"<thead>.*</thead>", page)[0]


@pytest.mark.parametrize(
    ("name", "options", "paper"),
    [
        ("ml-1m/natural", [], 0.0618),
        ("mine/natural", ["--settings-of", "ml-1m"], None),
    ],
)
def test_settings_come_by_name_or_option(call, tmp_path, name, options, paper):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    for i, split in enumerate(("train", "valid", "test")):
        np.save(folder / f"{split}_list.npy", np.array([[0, i], [1, i]]))
    words = ["reproduce", "table2", "--rows", "lightgcn", "--budget", 0, "--json"]
    answer = call(*words, "--data", folder, *options, "--out", tmp_path / "out")
    (line,) = lines(json.loads(answer.out))
    expected = cell_for("lightgcn", variant="ml-1m")
    assert line["cell"] == dataclasses.asdict(expected)
    assert line["paper"].get("recall@10") == paper


def test_small_results_are_kept_for_the_repository(call, tmp_path):
    docs = tmp_path / "docs"
    quick = tmp_path / "quick.json"
    model = {"num_train_timesteps": 5, "num_inference_steps": 5}
    quick.write_text(
        json.dumps({"method": "ddrm", "model": model, "fit": {"epochs": 1}})
    )
    answer = call(
        *("reproduce", "table2", "--data", "synthetic", "--seeds", 1),
        *("--rows", "ease,mf,mf+ddrm", "--ddrm-settings", quick),
        *("--out", tmp_path / "out", "--docs", docs, "--json"),
    )
    record = json.loads(answer.out)
    kept = {p.name: json.loads(p.read_text()) for p in docs.glob("results/*/*.json")}
    assert sorted(kept) == [
        "ease.json",
        "mf+ddrm-quick-seed0-liked-validation.json",
        "mf+ddrm-quick-seed0-noisy-validation.json",
        *("mf-seed0-liked-validation.json", "mf-seed0-noisy-validation.json"),
    ]
    mean = next(line["mean"] for line in lines(record) if line["name"] == "mf")
    assert kept["mf-seed0-noisy-validation.json"] == {
        **{"method": "mf", "data": "synthetic", "seed": 0},
        **{"selected_on": "noisy validation", "metrics": mean},
    }
    text = (docs / "results.md").read_text()
    assert record["command"] in text
    assert "| mf+ddrm |" in text


def test_figure3_is_named_after_what_takes_the_noise(call, tmp_path, monkeypatch):
    source = sources.NAMED["synthetic"]
    monkeypatch.setitem(sources.NAMED, "synthetic-clean", source)
    words = ["reproduce", "figure3", *QUICK, "--rows", "mf", "--budget", 0, "--json"]
    record = json.loads(call(*words, "--out", tmp_path).out)
    assert record["data"] == "synthetic-clean"
    assert (
        "random noise, synthetic-clean</h1>" in (tmp_path / "figure3.html").read_text()
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table2", "--settings-of", "ml1m"], "stored for .*did you mean 'ml-1m'"),
        (["tabel2"], "one of table1, table2, .*did you mean 'table2'"),
        (["table2", "--rows", "mff"], "'--rows' must name rows such as popularity"),
        (["table1", "--rows", "mf"], "'--rows' must be left out, as there are none"),
        (["table2", "--docs", "docs"], "'--docs' keeps full .* without '--epochs'"),
        (["table3", "--backends", "ease"], r"'--backends' must be of mf, .*'ease'"),
    ],
)
def test_what_is_unknown_is_refused_before_anything_runs(
    call, tmp_path, words, message
):
    out = tmp_path / "out"
    error = call("reproduce", *words, *QUICK, "--out", out).error
    assert re.search(message, error)
    assert not out.exists()


def test_the_help_names_all_that_can_be_reproduced(call):
    shown = " ".join(call("reproduce", "--help").out.split())
    assert f"One of {', '.join(TARGETS)}." in shown
