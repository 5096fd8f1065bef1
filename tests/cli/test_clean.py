"""A copy without the noisiest interactions; the input stays as it is."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import torch

from ddrm_pyg.cli.clean import _advice
from ddrm_pyg.datasets.readers import load_interactions
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.graph.interaction_graph import EDGE

QUICK = ["--epochs", "2"]


pytestmark = pytest.mark.usefixtures("short_audit")


def pairs(data, key="edge_index") -> set[tuple[int, int]]:
    return set(map(tuple, data[EDGE][key].T.tolist()))


def files(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_folder_loses_the_dropped_pairs_only(call, world):
    before = files("world")
    words = ["clean", "--data", "world", "--drop", "0.1", "--out", "kept", *QUICK]
    answer = call(*words, "--json")
    assert answer.code == 0
    assert files("world") == before
    whole, kept = load_interactions("world"), load_interactions("kept")
    size = whole[EDGE].edge_index.size(1)
    assert pairs(kept) < pairs(whole)
    assert len(pairs(whole)) - len(pairs(kept)) == round(0.1 * size)
    assert pairs(kept, "val_edge_label_index") == pairs(whole, "val_edge_label_index")
    assert pairs(kept, "test_edge_label_index") == pairs(whole, "test_edge_label_index")
    of_pair = dict(
        zip(
            map(tuple, whole[EDGE].edge_index.T.tolist()),
            whole[EDGE].edge_rating.tolist(),
            strict=True,
        )
    )
    stays = map(tuple, kept[EDGE].edge_index.T.tolist())
    assert [of_pair[pair] for pair in stays] == kept[EDGE].edge_rating.tolist()
    assert torch.equal(kept["user"].raw_id, whole["user"].raw_id)
    assert torch.bincount(kept[EDGE].edge_index[0]).min() >= 1
    record = json.loads(answer.out)
    names = [row["name"] for row in record["rows"]]
    assert names == ["plain", "cleaned", "random", "popularity"]
    assert [row["dropped"] for row in record["rows"][1:]] == [round(0.1 * size)] * 3
    for row in record["rows"]:
        others = set(names) - {row["name"]}
        assert set(row["against"]) == others
        for test in row["against"].values():
            assert 0 <= test["ndcg@20"]["p_value"] <= 1


def test_table_keeps_the_callers_ids(call, clicks, what_next):
    columns = ["--user", "Customer", "--item", "Book"]
    before = clicks.read_bytes()
    words = ["clean", "--data", clicks, *columns, "--out", "kept.csv", *QUICK]
    answer = call(*words)
    assert answer.code == 0
    assert answer.out.splitlines()[-3].startswith("Keep the data as they are: ")
    folder = Path("runs/clean-clicks")
    named = what_next(folder / "report.html", answer.out)
    there = {str(path) for path in folder.iterdir() if path.name != "report.html"}
    assert named == {"kept.csv"} | there
    assert f"ddrm-pyg run --data {clicks} --user Customer --item Book" in answer.out
    assert clicks.read_bytes() == before
    whole = load_interactions(clicks, user="Customer", item="Book", split=False)
    kept = load_interactions("kept.csv", split=False)
    train = load_interactions(clicks, user="Customer", item="Book")
    size = train[EDGE].edge_index.size(1)

    def named(data) -> set[tuple[str, str]]:
        users, items = data["user"].raw_id, data["item"].raw_id
        return {(users[u], items[i]) for u, i in data[EDGE].edge_index.T.tolist()}

    assert named(kept) < named(whole)
    assert named(whole) - named(kept) <= named(train)
    assert len(named(whole) - named(kept)) == round(0.05 * size)


def test_ids_are_safe_for_a_spreadsheet_where_asked(call, tmp_path):
    rows = [f"=u{u},@i{(u + i) % 12}\n" for u in range(12) for i in range(10)]
    (tmp_path / "odd.csv").write_text("user,item\n" + "".join(rows))
    words = ["clean", "--data", tmp_path / "odd.csv", *QUICK, "--safe-csv", "--out"]
    error = call(*words, "kept.parquet").error
    assert error == "'--safe-csv' must go with CSV (got kept.parquet)"
    assert call(*words, "kept.csv").code == 0
    header, *kept = Path("kept.csv").read_text().splitlines(keepends=True)
    assert header == "user,item\n"
    assert 0 < len(kept) < len(rows)
    assert {*kept} < {row.replace("=", "'=").replace("@", "'@") for row in rows}


@pytest.mark.parametrize(
    ("out", "options"), [("kept.csv", " --liked-from 4"), ("kept", "")]
)
def test_advice_names_what_the_copy_needs(monkeypatch, out, options):
    source = Source("mine.csv", item="sku", liked_from=4)
    as_it_is = "mine.csv --item sku --liked-from 4"
    for worth, data in ((True, f"{out}{options}"), (False, as_it_is)):
        monkeypatch.setattr("ddrm_pyg.experiments.clean.is_worth", lambda _, w=worth: w)
        _, (_, after) = _advice({}, source, Path(out))
        assert " ".join(after.words()) == f"--data {data}"


def test_goes_on_where_it_stopped(call, world, monkeypatch):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    words = ["clean", "--data", "world", "--runs", "runs", *QUICK, "--out"]
    with monkeypatch.context() as interrupted:
        interrupted.setattr("ddrm_pyg.experiments.clean.Runner", stop)
        assert call(*words, "kept").code == 130
    assert not Path("kept").exists()
    with monkeypatch.context() as interrupted:  # the copy is written last
        interrupted.setattr("ddrm_pyg.datasets.writers.save_interactions", stop)
        assert call(*words, "kept").code == 130
    assert Path("runs/report.html").exists()
    (signals,) = Path("runs").glob("cells/signals-*/signals.safetensors")
    stamp = signals.stat().st_mtime_ns
    assert call(*words, "kept").code == 0
    assert signals.stat().st_mtime_ns == stamp
    report = Path("runs/report.html").read_text(encoding="utf-8")
    assert "NDCG@20 after cleaning: " in report
    assert report.count("data:image/png;base64,") == 1
    assert '<tr class="marked"><th scope="row">cleaned</th>' in report
    command = "ddrm-pyg clean --data world --runs runs"
    assert command in re.sub("<[^<]*>", "", report)


def test_runs_of_other_data_are_refused_by_their_own_name(call, world, clicks):
    Path("runs").mkdir()
    Path("runs/config.json").write_text('{"fingerprint": "another"}')
    error = call("clean", "--data", "world", "--runs", "runs", "--out", "kept").error
    assert error == (
        "'--runs' must be new or hold this very run (got runs, which holds another: "
        "the interactions were others)"
    )
    assert not Path("kept").exists()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--drop", "0"], "'--drop' must lie in (0, 1) (got 0.0)"),
        (["--drop", "1"], "'--drop' must lie in (0, 1) (got 1.0)"),
        (["--out", "world"], "'--out' must be new (got world)"),
        (["--out", "kept.xls"], "no writer for '.xls'"),
        (["--data", "none.csv"], "none.csv: neither a file"),
        (["--backend-settings", "ddrm"], "'method' must be 'lightgcn'"),
    ],
)
def test_refusals_leave_nothing_behind(call, world, asked, message):
    before = files("world")
    words = ["clean", "--data", "world", "--out", "kept", *asked]
    assert message in call(*words).error
    assert os.listdir() == ["world"]
    assert files("world") == before
