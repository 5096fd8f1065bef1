"""What run and denoise share: the folder, and what is written to it."""

from __future__ import annotations

import csv

import pytest
import torch

from ddrm_pyg.cli._plug_in import _claim, _difference, read_config
from ddrm_pyg.datasets.readers import load_interactions
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph

CONFIG = {
    "source": {"data": "a", "ratios": (0.7, 0.1, 0.2)},
    "fingerprint": "f",
    "backend": {"fit": {"epochs": 1}},
    "denoise": {},
}


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


def test_recommendations_are_those_of_the_embeddings(finished, clicks):
    data = load_interactions(clicks, user="Customer", item="Book")
    emb = Embeddings.load(finished / "embeddings.safetensors")
    scores = emb.scores(torch.arange(1))[0]
    splits = ("train", "val", "test")
    known = InteractionGraph.from_data(data, splits=splits).rows(torch.tensor([0]))[1]
    scores[known] = -torch.inf
    best = data["item"].raw_id[int(scores.argmax())]
    first = read_csv(finished / "recommendations.csv")[0]
    assert (first["user"], first["item"]) == (data["user"].raw_id[0], best)


def test_new_folder_is_claimed(tmp_path):
    _claim(tmp_path / "new", CONFIG, overwrite=False)
    assert read_config(tmp_path / "new") == CONFIG | {
        "source": {"data": "a", "ratios": [0.7, 0.1, 0.2]}
    }
    _claim(tmp_path / "new", CONFIG, overwrite=False)  # and continued


def test_overwriting_forgets_cells_and_results(tmp_path):
    _claim(tmp_path, CONFIG, overwrite=False)
    (tmp_path / "cells").mkdir()
    (tmp_path / "metrics.json").touch()
    (tmp_path / "notes.txt").touch()
    _claim(tmp_path, CONFIG | {"fingerprint": "g"}, overwrite=True)
    assert read_config(tmp_path)["fingerprint"] == "g"
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "notes.txt"}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"source": 1}', "\0"])
def test_config_of_anything_else_is_none(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    assert read_config(tmp_path) is None


def test_no_config_is_none(tmp_path):
    assert read_config(tmp_path) is None
    assert read_config(tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fingerprint": "g"}, "the interactions were others"),
        ({"backend": {"fit": {"epochs": 2}}}, "backend.fit.epochs was 1 and is 2"),
        ({"backend": {"fit": {}}}, "backend.fit.epochs was 1 and is None"),
        ({"denoise": {"seed": 3}}, "denoise.seed was None and is 3"),
    ],
)
def test_difference_is_named(change, told):
    assert _difference(CONFIG, CONFIG | change) == told
