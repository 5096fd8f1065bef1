"""A finished run gives what ranks for new users."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from ddrm_pyg.cli import main
from ddrm_pyg.cli._finished import fold_in, open_run, reader_of
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.graph.sequences import UserSequences
from ddrm_pyg.ids import raw_ids
from ddrm_pyg.nn.ddrm import DDRM
from ddrm_pyg.pipeline import Pipeline
from ddrm_pyg.ranking import evaluate, recommend
from ddrm_pyg.runs import load_run


def test_parts_are_those_of_the_run(finished):
    run = open_run(finished)
    parts = fold_in(run, "ddrm", "'export'")
    assert isinstance(parts.ddrm, DDRM)
    assert parts.item_emb.size(0) == run.data["item"].num_nodes == 24
    degree = run.runner.graph.degree("item").float()
    expected = (degree / degree.sum()) @ parts.item_emb
    torch.testing.assert_close(parts.mean_item, expected)


def test_what_is_missing_is_never_trained(finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    shutil.rmtree(copy / "cells")
    run = open_run(copy)
    with pytest.raises(ValueError, match="needed for '--row ease', not there"):
        run.scorer("ease")
    with pytest.raises(ValueError, match=r"needed for (a reason|'--row ddrm'), not"):
        fold_in(run, "ddrm", "a reason")
    assert not (copy / "cells").exists()


def test_an_older_folder_asks_for_its_command_again(finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    record = json.loads((copy / "metrics.json").read_text())
    del record["winner"]
    (copy / "metrics.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="the same command goes on with it"):
        open_run(copy)


@pytest.mark.parametrize("name", ["config.json", "metrics.json"])
def test_damaged_records_are_named(finished, tmp_path, name):
    path = shutil.copytree(finished, tmp_path / "copy") / name
    whole = json.loads(path.read_text())
    parts = set(whole) - {"fingerprint", "denoise"} if "source" in whole else {"rows"}
    broken = [{**whole, part: v} for part in parts for v in (None, {}, [], 3)]
    broken += [{**whole, "winner": "x"}] if "rows" in whole else []
    for record in broken:
        path.write_text(json.dumps(record))
        with pytest.raises(ValueError, match=rf"{name}: not what .* \(.*\); "):
            open_run(path.parent)
    for text in ("", "[]", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"{name}"):
            open_run(path.parent)


def test_the_vectors_of_another_run_are_not_believed(finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    emb = open_run(copy).vectors()
    Embeddings(emb.user.flip(0), emb.item).save(copy / "embeddings.safetensors")
    with pytest.raises(ValueError, match=r"embeddings\.safetensors: not what .*again"):
        open_run(copy).vectors()
    record = json.loads((copy / "metrics.json").read_text())
    del record["hashes"]  # of a run from before there were any
    (copy / "metrics.json").write_text(json.dumps(record))
    assert torch.equal(open_run(copy).vectors().item, emb.item)


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not the folder of a run"):
        open_run(tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("weighted", r"\(got 'weighted': it weighs histories\)"),
        ("fading", r"\(got 'fading': it needs the order of histories\)"),
        (
            "ease",
            "'export' works with the rows 'lightgcn', 'lightgcn, best depth', 'history "
            "mean', 'ddrm, one pass, no noise', 'ddrm' of this run "
            r"\(got 'ease': it has no vectors\)",
        ),
        ("eas", r"'--row' must be one of 'popularity', .*did you mean 'ease'"),
    ],
)
def test_what_cannot_rank_for_new_users_is_refused(finished, row, message):
    run = open_run(finished)
    base = run.cells["lightgcn"]
    history = {"kind": "agreement", "slope": 1, "offset": 0}
    run.cells["weighted"] = Cell("ddrm", 0, {"history": history}, base=base)
    run.cells["fading"] = Cell("recent_mean", base=base)
    with pytest.raises(ValueError, match=message):
        fold_in(run, row, "'export'")


def test_every_row_of_a_run_ranks_as_it_was_measured(finished):
    run = open_run(finished)
    for row, cell in run.cells.items():
        test = evaluate(run.scorer(row), run.data, split="test")
        assert dict(test) == dict(run.runner.run(cell).test), row


@pytest.fixture(scope="module")
def in_order(walks, tmp_path_factory):
    """A run on what tells order, whose backend encodes it."""
    out = tmp_path_factory.mktemp("runs") / "ordered"
    words = ["--backend", "sasrec", "--epochs", "1", "--ddrm-epochs", "1"]
    assert main(["run", "--data", str(walks), *words, "--out", str(out)]) == 0
    return open_run(out)


@pytest.mark.parametrize("row", ["sasrec", "history mean, recency", "ddrm"])
def test_new_users_are_read_in_order_as_the_row_reads_known_ones(in_order, row):
    data, graph = in_order.data, in_order.runner.graph
    read = reader_of(in_order, row, "'--history'")
    order = data[EDGE].edge_time.argsort(stable=True)
    size = graph.num_users, graph.num_items
    emb = read(InteractionGraph(graph.edge_index[:, order], *size))
    everyone = torch.arange(graph.num_users)
    ours = recommend(emb, everyone, k=20, exclude=graph)[1]
    theirs = recommend(in_order.scorer(row), everyone, k=20, exclude=graph)[1]
    assert (ours == theirs).float().mean() > 0.99  # but for ties in the last bits
    empty = InteractionGraph(torch.empty(2, 0, dtype=torch.int64), 1, graph.num_items)
    assert read(empty).user.isfinite().all()
    assert read(empty).user.abs().sum() > 0


@pytest.mark.parametrize("row", ["sasrec", "history mean, recency", "ddrm"])
def test_a_pipeline_of_a_run_reads_new_histories_as_the_row_does(
    in_order, row, tmp_path, caplog
):
    graph = in_order.runner.graph
    history = UserSequences.from_graph(graph, in_order.data[EDGE].edge_time)
    items = raw_ids(in_order.data, "item")
    chosen = [int(user) for user in (history.length > 1).nonzero().flatten()[:40]]
    histories = {
        user: [items[i] for i in history.before(torch.tensor([user])).item.tolist()]
        for user in chosen
    }
    pipeline = load_run(in_order.folder, row=row)
    assert "is compared" not in caplog.text
    pipeline.save_pretrained(tmp_path)
    best = recommend(in_order.scorer(row), torch.tensor(chosen), k=5, exclude=graph)[1]
    expected = [items[i] for i in best.flatten().tolist()]
    for opened in (pipeline, Pipeline.from_pretrained(tmp_path)):
        listed = opened.recommend_new(histories, k=5)["item"].tolist()
        agreed = sum(a == b for a, b in zip(listed, expected, strict=True))
        assert agreed > 0.97 * len(expected)  # but for ties in the last bits
    backwards = {user: taken[::-1] for user, taken in histories.items()}
    turned = pipeline.recommend_new(backwards, k=5)["item"].tolist()
    assert turned != pipeline.recommend_new(histories, k=5)["item"].tolist()
