"""DDRM on embeddings that any program has trained."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pandas as pd
import pytest
import torch

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.runs import load_run


@pytest.fixture
def emb() -> Embeddings:
    generator = torch.Generator().manual_seed(0)
    user, item = (torch.randn(n, 4, generator=generator) for n in (20, 24))
    return Embeddings(user, item)


@pytest.fixture
def ask(call, clicks, settings, tmp_path, monkeypatch):
    """Denoise a file in an empty folder."""
    monkeypatch.chdir(tmp_path)
    words = ["--data", clicks, "--user", "Customer", "--item", "Book", "--out", "out"]
    words += ["--settings", settings, "--epochs", "2"]

    def denoise(file, *more):
        both = ["--embeddings", file] if file else []
        return call("denoise", *both, *words, *more)

    return denoise


def test_files_of_all_kinds_give_the_same(ask, emb):
    records = []
    for suffix in ("npz", "safetensors", "pt"):
        emb.save(f"emb.{suffix}")
        answer = ask(f"emb.{suffix}", "--overwrite", "--json")
        assert answer.code == 0
        records.append(json.loads(answer.out))
    assert records[0] == records[1] == records[2]
    names = [row["name"] for row in records[0]["rows"]]
    assert names[3:6] == ["embeddings", "embeddings, best depth", "history mean"]
    denoised = load_run("out", row="ddrm").embeddings
    assert torch.equal(denoised.item, emb.item)
    assert denoised.user.shape == emb.user.shape
    assert not torch.equal(denoised.user, emb.user)


def test_rows_in_another_order_are_aligned_by_their_ids(ask, call, emb, clicks):
    words = ["--data", clicks, "--user", "Customer", "--item", "Book"]
    emb.save("emb.npz")
    assert ask("emb.npz").code == 0
    plain = json.loads(
        call("evaluate", *words, "--embeddings", "emb.npz", "--json").out
    )
    with open("out/ids.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    ids = {
        kind: [row["id"] for row in rows if row["kind"] == kind]
        for kind in ("user", "item")
    }
    other = Embeddings(emb.user.flip(0), torch.cat([emb.item, emb.item[:1]]))
    other.save("other.npz")
    with open("users.txt", "w", encoding="utf-8") as file:
        file.writelines(f"{name}\n" for name in ids["user"][::-1])
    with open("items.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["n", "id"], *enumerate(ids["item"]), [99, "of nobody"]])
    files = ["--user-ids", "users.txt", "--item-ids", "items.csv"]
    words += ["--embeddings", "other.npz", *files]
    answer = call("evaluate", *words, "--json")
    assert json.loads(answer.out) == plain
    assert "1 of 25 vectors are of ids that the data do not have" in answer.err
    before = Embeddings.load("out/embeddings.safetensors")
    answer = ask("other.npz", *files, "--out", "aligned")
    assert answer.code == 0
    assert answer.err.count("1 of 25 vectors are of ids") == 1  # though read twice
    after = Embeddings.load("aligned/embeddings.safetensors")
    assert torch.equal(before.user, after.user)
    assert torch.equal(before.item, after.item)
    with open("users.txt", "a", encoding="utf-8") as file:
        file.write("one more\n")
    assert "one vector per id (got 21 ids" in call("evaluate", *words).error
    with open("users.txt", "w", encoding="utf-8") as file:  # another assignment
        file.writelines(f"{name}\n" for name in ids["user"])
    again = ask("other.npz", *files, "--out", "aligned")
    assert "backend.model.ids.user.sha256 was" in again.error


def test_vectors_with_ids_are_those_of_a_file_in_order(ask, call, emb, clicks):
    emb.save("emb.npz")
    plain = json.loads(ask("emb.npz", "--json").out)
    with open("out/ids.csv", newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    for kind, table in emb._asdict().items():
        ids = [row["id"] for row in rows if row["kind"] == kind]
        frame = pd.DataFrame(table.numpy()).assign(id=ids)[::-1]
        frame.to_csv(f"{kind}.csv", index=False)
    words = ["--data", clicks, "--user", "Customer", "--item", "Book"]
    files = ["--user-emb", "user.csv", "--item-emb", "item.csv"]
    by_id = call("evaluate", *words, *files, "--json")
    in_order = call("evaluate", *words, "--embeddings", "emb.npz", "--json")
    assert json.loads(by_id.out) == json.loads(in_order.out)
    assert "--user-ids" not in by_id.err  # nothing is assumed
    again = ask(None, *files, "--json", "--overwrite")
    assert json.loads(again.out) == plain
    with open("item.csv", "a", encoding="utf-8") as file:
        file.write("0,0,0,0,of nobody\n")
    assert "backend.model.vectors.item.sha256 was" in ask(None, *files).error


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "give '--embeddings', or '--user-emb' and '--item-emb'"),
        (["--user-emb", "u.csv"], "give '--embeddings', or '--user-emb' and"),
        (
            ["--user-emb", "u.csv", "--item-emb", "u.csv", "--embeddings", "u.csv"],
            "give '--embeddings', or '--user-emb' and",
        ),
        (
            ["--user-emb", "u.csv", "--item-emb", "u.csv", "--item-ids", "u.csv"],
            "must come with '--embeddings'",
        ),
        (["--user-emb", "u.csv", "--item-emb", "none.csv"], "none.csv: no such file"),
        (["--user-emb", "u.csv", "--item-emb", "u.csv"], "20 of 20 ids are unknown"),
    ],
)
def test_vectors_come_in_one_of_two_ways(ask, files, message):
    Path("u.csv").write_text("id,x\n1,2\n")
    assert message in ask(None, *files).error
    assert os.listdir() == ["u.csv"]


def test_layers_are_propagated_first(ask, emb):
    emb.save("emb.npz")
    plain = json.loads(ask("emb.npz", "--json").out)["rows"]
    words = ["--overwrite", "--num-layers", "2", "--json"]
    smooth = json.loads(ask("emb.npz", *words).out)["rows"]
    assert plain[3] != smooth[3]
    assert plain[:3] == smooth[:3]
    assert plain[4] == smooth[4]  # the best depth of the same tables


def test_recommends_afterwards(ask, call, emb):
    emb.save("emb.npz")
    assert ask("emb.npz").code == 0
    answer = call("recommend", "out", "--user", "ann, 3", "-k", "2", "--json")
    (record,) = json.loads(answer.out)["recommendations"]
    assert record["user"] == "ann, 3"
    assert len(record["item"]) == 2


def test_changed_file_is_another_run(ask, emb):
    emb.save("emb.npz")
    assert ask("emb.npz").code == 0
    Embeddings(emb.user + 1, emb.item).save("emb.npz")
    assert "backend.model.sha256 was" in ask("emb.npz").error


def test_doubles_are_said(ask, emb):
    Embeddings(emb.user.double(), emb.item.double()).save("emb.npz")
    answer = ask("emb.npz")
    assert answer.code == 0
    assert answer.err.count("emb.npz: read as float32") == 1


@pytest.mark.parametrize(
    ("change", "asked", "message"),
    [
        (
            {"user": torch.zeros(21, 4)},
            [],
            "one row per user of the graph, 20 (got 21)",
        ),
        (
            {"item": torch.zeros(23, 4)},
            [],
            "one row per item of the graph, 24 (got 23)",
        ),
        ({"item": torch.full((24, 4), torch.nan)}, [], "must be finite (got nan"),
        ({}, ["--combine", "sum"], "is not one of 'mean', 'normalized-sum'"),
        ({}, ["--settings", "mf"], "'method' must be 'ddrm'"),
        ({}, ["--embeddings", "none.npz"], "none.npz: no such file"),
        ({}, ["--user", "user"], "no column 'user'"),
        ({}, ["--user-ids", "none.txt"], "none.txt: no such file"),
        ({}, ["--epochs", "0"], "Invalid value for '--epochs'"),
    ],
)
def test_refusals_leave_nothing_behind(ask, emb, change, asked, message):
    emb._replace(**change).save("emb.npz")
    assert message in ask("emb.npz", *asked).error
    assert os.listdir() == ["emb.npz"]
