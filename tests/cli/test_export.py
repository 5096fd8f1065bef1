"""An export lists what ``recommend --history`` lists."""

from __future__ import annotations

import csv
import io
import json
import random

import pytest
import torch

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.ddrm import DDRM
from ddrm_pyg.nn.future import HistoryMeans
from ddrm_pyg.pipeline import Pipeline
from ddrm_pyg.serving.engine import Engine


@pytest.fixture(scope="module")
def engine(finished, tmp_path_factory):
    from ddrm_pyg.cli import main

    out = tmp_path_factory.mktemp("exports") / "out"
    assert main(["export", str(finished), "--out", str(out), "-k", "10"]) == 0
    return Engine(out)


def test_300_people_get_the_same_lists(call, finished, engine, tmp_path):
    draw = random.Random(0)
    books = [f'book "{n}"' for n in range(24)]
    people = {f"p{n}": draw.sample(books, draw.randint(1, 12)) for n in range(299)} | {
        "nobody": ["unheard of"]
    }
    with (tmp_path / "new.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item"])
        writer.writerows((who, item) for who, has in people.items() for item in has)
    answer = call("recommend", finished, "--history", tmp_path / "new.csv")
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert len({row["user"] for row in rows}) == 300
    lists = engine.recommend(list(people.values()), k=10, exclude=[[]] * 300)
    for who, listed in zip(people, lists, strict=True):
        expected = [row for row in rows if row["user"] == who]
        assert listed.item == [row["item"] for row in expected]
        scores = [float(row["score"]) for row in expected]
        assert listed.score == pytest.approx(scores, rel=1e-4, abs=1e-5)


@pytest.mark.usefixtures("no_training")
def test_json_says_what_was_written(call, finished, tmp_path):
    words = ["export", finished, "--out", tmp_path / "out", "--format", "pt2"]
    record = json.loads(call(*words, "--json").out)
    assert record == {
        "out": str(tmp_path / "out"),
        "num_items": 24,
        "formats": ["pt2"],
    }
    assert "must be a new folder or an empty one" in call(*words).error


def test_a_saved_pipeline_is_exported(call, tmp_path):
    emb = Embeddings(torch.eye(2), torch.tensor([[2.0, 0], [1, 0], [0, 1]]))
    seen = InteractionGraph(torch.tensor([[0, 1], [0, 2]]), 2, 3)
    pipeline = Pipeline(emb, ["ann", "bob"], ["tea", "milk", "jam"], seen)
    pipeline.save_pretrained(tmp_path / "saved")
    out = tmp_path / "out"
    call("export", tmp_path / "saved", "--out", out, "--format", "onnx")
    (listed,) = Engine(out).recommend([["tea"]], k=2, exclude=[[]])
    assert listed.item == pipeline.recommend_new({"kim": ["tea"]})["item"].tolist()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--format", "tflite"], "'formats' must be of pt2, onnx"),
        (["-k", "25"], "'k' must lie in 1 ... 24"),
        (["-k", "0"], "Invalid value for '-k'"),
    ],
)
def test_wrong_words_are_refused_and_leave_nothing(
    call, finished, tmp_path, asked, message
):
    assert message in call("export", finished, "--out", tmp_path / "out", *asked).error
    assert not (tmp_path / "out").exists()


def test_a_world_is_exported_with_what_was_trained_on_it(call, tmp_path):
    pytest.importorskip("duckdb")
    from ddrm_pyg.scale.ingest import shard
    from ddrm_pyg.scale.world import cut_embeddings

    rows = [f"ann {n % 5},book {n % 7},{n}" for n in range(20)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,time", *rows]))
    world = shard([tmp_path / "log.csv"], tmp_path / "world")
    emb = Embeddings(torch.randn(5, 4), torch.randn(7, 4))
    emb.save(tmp_path / "emb.safetensors")
    cut_embeddings(world, tmp_path / "emb.safetensors")
    ddrm = DDRM(4, (8,)).eval()
    ddrm.save_pretrained(tmp_path / "ddrm")
    words = ["export", world.folder, "--out", tmp_path / "out", "--format", "onnx"]
    assert "a world needs it" in call(*words).error
    assert call(*words, "--weights", tmp_path / "ddrm").code == 0
    (listed,) = Engine(tmp_path / "out").recommend([["book 3"]], k=6, exclude=[[]])
    history = emb.item[[3]]
    ideal = ddrm.generate(history, noise=torch.zeros_like(history))
    order = (emb.item @ ideal[0]).argsort(descending=True).tolist()
    assert listed.item == [f"book {row}" for row in order if row != 3]


@pytest.mark.usefixtures("no_training")
def test_a_row_without_vectors_is_refused_before_the_data(
    call, finished, tmp_path, monkeypatch
):
    monkeypatch.setattr("ddrm_pyg.experiments.sources.Source.load", None)  # not read
    words = ["export", finished, "--out", tmp_path / "out", "--row", "popularity"]
    error = call(*words).error
    assert error.startswith("'export' works with the rows 'lightgcn', ")
    assert error.endswith("(got 'popularity': it has no vectors)")


def test_a_folder_of_something_else_is_refused(call, tmp_path):
    message = call("export", tmp_path, "--out", tmp_path / "out").error
    assert "not the folder of a run" in message


def test_a_pipeline_that_reads_order_without_ddrm_is_refused(call, tmp_path):
    item = torch.eye(3)
    seen = InteractionGraph(torch.tensor([[0, 1], [0, 2]]), 2, 3)
    source = HistoryMeans(item, [2.0])
    pipeline = Pipeline((item[:2], item), ["a", "b"], [1, 2, 3], seen, source=source)
    pipeline.save_pretrained(tmp_path / "kept")
    refused = call("export", tmp_path / "kept", "--out", tmp_path / "out")
    assert refused.code == 2
    assert "which reads them in order" in refused.err
    assert not (tmp_path / "out").exists()
