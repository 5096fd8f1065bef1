"""What run and denoise share: what is written to the folder."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ddrm_pyg.cli._finished import open_run
from ddrm_pyg.cli._plug_in import contents_of, next_steps, what_else
from ddrm_pyg.datasets.readers import load_interactions
from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.plug_in import HINTS, Verdict
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.experiments.tables import Row
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.ids import raw_ids
from ddrm_pyg.significance import PairedTest


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_ids_name_every_row(finished, clicks):
    data = load_interactions(clicks, user="Customer", item="Book")
    rows = read_csv(finished / "ids.csv")
    for kind in ("user", "item"):
        of_kind = [row for row in rows if row["kind"] == kind]
        assert [int(row["row"]) for row in of_kind] == list(range(len(of_kind)))
        assert [row["id"] for row in of_kind] == data[kind].raw_id


@pytest.mark.usefixtures("no_training")
def test_ids_are_safe_for_a_spreadsheet_where_asked(
    call, finished, words, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    name = "ddrm_pyg.cli._plug_in.raw_ids"
    monkeypatch.setattr(name, lambda *which: [f"={i}" for i in raw_ids(*which)])
    for start, more in (("=", []), ("'=", ["--safe-csv"])):
        assert call(*words, "--out", out, *more).code == 0
        ids = read_csv(out / "ids.csv")
        assert [row["id"] for row in ids] == [
            start + row["id"] for row in read_csv(finished / "ids.csv")
        ]
        lists = read_csv(out / "recommendations.csv")
        assert {row["user"] for row in lists} < {row["id"] for row in ids}
        assert all(row["item"].startswith(f"{start}book") for row in lists)


def test_recommendations_are_unseen_and_ranked(finished, clicks):
    rows = read_csv(finished / "recommendations.csv")
    assert list(rows[0]) == ["user", "item", "score"]
    owned = {(row["Customer"], row["Book"]) for row in read_csv(clicks)}
    listed = [(row["user"], row["item"]) for row in rows]
    assert not owned & set(listed)
    assert len(set(listed)) == len(listed)
    users = {user for user, _ in owned}
    items = {item for _, item in owned}
    assert {user for user, _ in listed} == users
    assert {item for _, item in listed} <= items
    # 24 books, of which everyone has 10
    assert len(listed) == 14 * len(users)
    for user in users:
        scores = [float(row["score"]) for row in rows if row["user"] == user]
        assert scores == sorted(scores, reverse=True)


def test_files_hold_what_is_best_on_validation(finished):
    record = json.loads((finished / "metrics.json").read_text())
    values = {row["name"]: row["val"]["ndcg@20"] for row in record["rows"]}
    assert record["winner"] == max(values, key=values.__getitem__)
    for name in ("popularity", "item_knn", "ease"):
        del values[name]
    assert record["with_vectors"] == max(values, key=values.__getitem__)


def validated(make_result, **values):
    """Rows by their validation NDCG@20."""
    return [
        Row(name, [replace(make_result([0.1], name), val={"ndcg@20": value})])
        for name, value in values.items()
    ]


def test_what_the_files_hold_is_said(make_result):
    rows = validated(make_result, ease=0.2, ddrm=0.25)
    line = "the files hold 'ddrm': best on validation (NDCG@20 0.2500)"
    assert contents_of(rows) == [line]
    assert contents_of(validated(make_result, ease=0.3, mf=0.2, ddrm=0.25)) == [
        "the lists are those of 'ease': best on validation (NDCG@20 0.3000)",
        "embeddings.safetensors holds 'ddrm', the best that has vectors",
    ]
    unpicked = [Row("ddrm", [make_result([0.1], "ddrm")])]
    assert contents_of(unpicked) == [
        "the files hold 'ddrm': there is no validation to pick by"
    ]


DEPTHS, WIDTHS = {"val ndcg@20 by depth": [0.1]}, {"val recall@20 by width": [0.1]}


@pytest.mark.parametrize(
    ("notes", "words"),
    [
        ({"num_layers": 0, **DEPTHS}, "0 layers, picked by validation NDCG@20"),
        ({"num_layers": 1, **DEPTHS}, "1 layer, picked by validation NDCG@20"),
        (
            {"embedding_dim": 512, **WIDTHS},
            "512 numbers a vector, picked by validation Recall@20",
        ),
    ],
)
def test_what_validation_picked_is_said(make_result, notes, words):
    row = Row("mf, best depth", [replace(make_result([0.1]), notes=notes)])
    assert f"mf, best depth: {words}" in what_else([row])


def test_what_picked_the_epochs_is_said_where_it_is_not_what_picked_the_row(
    make_result,
):
    by_recall, by_ndcg = (
        replace(
            make_result([0.1], best_epoch=3), cell=Cell("mf", fit={"metric": metric})
        )
        for metric in ("recall@20", "ndcg@20")
    )
    assert what_else([Row("mf", [by_recall])])[1:] == [
        "epochs are picked by validation Recall@20, rows by NDCG@20"
    ]
    assert len(what_else([Row("mf", [by_ndcg])])) == 1


BESIDE = PairedTest(-0.1, -0.1, 0.001, 10)


@pytest.mark.parametrize(
    ("word", "yardstick", "held", "row"),
    [
        ("hurts", ("ease", BESIDE), "mf", "ease"),  # as the verdict says
        ("hurts", ("ease", BESIDE), "ease", "mf"),  # whose lists are there
        ("hurts", None, "mf", "ddrm"),
        ("helps", None, "ease", "ddrm"),
        ("no significant change", None, "mf", "ddrm"),
    ],
)
def test_next_come_the_lists_that_the_verdict_names(
    make_result, word, yardstick, held, row
):
    values = {"ease": 0.1, "mf": 0.1, "ddrm": 0.1, held: 0.2}
    rows = validated(make_result, **values)
    verdict = Verdict("ddrm", word, "mf", BESIDE, yardstick, held)
    after = next_steps(Source(), Path("runs/a b"), rows, verdict)
    line = f"lists by '{row}': ddrm-pyg recommend 'runs/a b' --row {row}"
    assert after.text().splitlines()[0] == line
    assert after.hints == HINTS[word]


def test_without_a_verdict_the_next_best_is_named(make_result):
    rows = validated(make_result, ease=0.3, mf=0.1, svd=0.2)
    after = next_steps(Source(), Path("runs"), rows, None)
    assert after.text().startswith("lists by 'svd': ddrm-pyg recommend runs --row svd")
    assert after.hints == ()


def test_recommendations_are_those_of_the_winner(finished, clicks):
    data = load_interactions(clicks, user="Customer", item="Book")
    run = open_run(finished)
    scores = run.scorer(run.winner).scores(torch.arange(1))[0]
    splits = ("train", "val", "test")
    seen = InteractionGraph.from_data(data, splits=splits).rows(torch.tensor([0]))[1]
    scores[seen] = -torch.inf
    best = data["item"].raw_id[int(scores.argmax())]
    first = read_csv(finished / "recommendations.csv")[0]
    assert (first["user"], first["item"]) == (data["user"].raw_id[0], best)
