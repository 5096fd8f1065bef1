"""The default signals, and what is written about them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch_geometric.data import HeteroData

from ddrm_pyg.datasets import SyntheticInteractions
from ddrm_pyg.datasets.readers import load_interactions
from ddrm_pyg.experiments.audit import (
    REASONS,
    SIGNALS,
    _sized,
    as_record,
    as_table,
    combine,
    compute_signals,
    count_table,
    headline,
    noisiest_table,
    reasons,
    signals_cell,
    to_frame,
)
from ddrm_pyg.experiments.cells import chain
from ddrm_pyg.experiments.settings import cell_for, load_settings
from ddrm_pyg.graph.interaction_graph import EDGE
from ddrm_pyg.noise_audit import Estimate, NoiseAudit, audit, train_only
from ddrm_pyg.noise_audit.measures import Measure
from ddrm_pyg.training import _Run
from ddrm_pyg.transforms import RandomNoise

QUICK = {"epochs": 3, "ddrm_epochs": 1, "progress": False}
NATURAL = Path(__file__).parents[3] / "shared" / "data" / "ml-1m" / "natural"


@pytest.fixture(scope="module")
def world() -> HeteroData:
    return SyntheticInteractions(100, 120, 2500)[0]


def test_no_train_interactions_are_refused(world):
    bare = train_only(world)
    bare[EDGE].edge_index = torch.empty(2, 0, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"must have train interactions \(got 0\)"):
        compute_signals(bare, **QUICK)


def test_signals_read_train_interactions_only(world):
    labelled, bare = (compute_signals(d, **QUICK) for d in (world, train_only(world)))
    assert set(labelled) == set(SIGNALS)
    for name, signal in labelled.items():
        assert torch.equal(signal, bare[name]), name
        assert signal.shape == (world[EDGE].edge_index.size(1),)
    other = compute_signals(world, **QUICK, seed=1)
    trained = {"loss", "disagreement", "agreement", "reconstruction"}
    assert {k for k in labelled if not torch.equal(labelled[k], other[k])} == trained


def test_that_nothing_is_validated_is_said_once_for_both_trainings(world, caplog):
    with caplog.at_level("INFO", "ddrm_pyg"):
        compute_signals(world, **QUICK)
    assert [m.split(" ...")[0] for m in caplog.messages[:2]] == [
        "two short trainings, of lightgcn for 3 epochs, its losses noted, and of DDRM "
        "for 1, beside signals that need none; held-out pairs are left alone, so "
        "nothing picks an epoch: the last is kept",
        "lightgcn+noted",
    ]
    assert {record.levelname for record in caplog.records} == {"INFO"}


def test_an_unknown_backend_is_refused_before_anything_is_solved(world):
    with pytest.raises(ValueError, match=r"'backend' must be one of .*\(got 'ease'\)"):
        compute_signals(world, backend="ease", **QUICK)


def test_an_audit_without_labels_has_no_table(world):
    bare = train_only(world)
    result = combine({"a": torch.rand(bare[EDGE].num_edges)}, bare, {"a": 1.0})
    assert as_table(result).text() == ""


@pytest.mark.slow
def test_random_pairs_are_found():
    data = RandomNoise(0.2)(SyntheticInteractions(400, 200, 20_000)[0])
    injected = data[EDGE].edge_rating == 0  # replaced pairs have no rating
    data[EDGE].edge_is_noise = injected
    result = combine(compute_signals(data, progress=False), data)
    for name, by_scope in result.measures.items():
        # Replaced one by one, so that everyone keeps their number; and the gap grows
        # with the length of a vector, which LightGCN gives to items with many clicks.
        if name not in ("activity", "reconstruction"):
            assert by_scope["pooled"].auroc.low > 0.5, name
    assert result.measures["combined"]["within users"].auroc.low > 0.7


def test_kept_signals_are_those_of_the_data_and_settings(world, tmp_path):
    def run(data=world, **settings):
        signals = compute_signals(data, folder=tmp_path, **QUICK | settings)
        return signals, len(list(tmp_path.iterdir()))

    first, folders = run()
    assert folders == 2  # the backend's training, and what comes after it
    again, folders = run(seed=0)  # the default
    assert list(first) == list(again) == list(SIGNALS)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert folders == 2
    assert run(ddrm_epochs=2)[1] == 3  # the backend's is shared
    assert run(epochs=2)[1] == 5
    noisy = RandomNoise(0.2)(world)
    assert run(noisy)[1] == 7


def test_killed_trainings_go_on_to_the_same_bits(world, tmp_path, monkeypatch):
    save = _Run.save

    def save_and_stop(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    quick = QUICK | {"folder": tmp_path / "b", "epochs": 6}  # saved after five
    for _ in range(2):  # in the backend's training, after its end
        with monkeypatch.context() as patch:
            patch.setattr(_Run, "save", save_and_stop)
            with pytest.raises(KeyboardInterrupt):
                compute_signals(world, **quick)
    (checkpoint,) = (tmp_path / "b").rglob("checkpoint.pt")
    assert checkpoint.parent.name.startswith("lightgcn+noted-")
    resumed = compute_signals(world, **quick)
    straight = compute_signals(world, **quick | {"folder": None})
    for name, signal in straight.items():
        assert torch.equal(signal, resumed[name]), name


def test_trainings_are_those_of_the_records(world):
    cell = signals_cell("mf", seed=3)
    settings = load_settings("noted", "noted")["fit"]
    assert [link.method for link in chain(cell)] == ["signals", "mf+noted"]
    assert {link.seed for link in chain(cell)} == {3}
    assert cell.base.model == cell_for("mf").model
    assert {name: cell.base.fit[name] for name in settings} == settings


@pytest.mark.parametrize(
    ("num_edges", "batch_size", "epochs"),
    [
        (2_500, 512, 5),
        (100_000, 2_000, 5),
        (200_000, 4_000, 2),
        (9_000_000, 180_000, 1),
    ],
)
def test_large_data_have_large_batches_and_few_epochs(num_edges, batch_size, epochs):
    cell = _sized(signals_cell(), num_edges)
    assert cell.base.fit["batch_size"] == batch_size
    assert cell.fit["epochs"] == epochs


def test_frame_by_hand():
    data = HeteroData()
    data["user"].num_nodes = data["item"].num_nodes = 2
    data[EDGE].edge_index = torch.tensor([[0, 0, 1], [0, 1, 1]])
    result = audit({"a": torch.tensor([0.5, 0.25, 2.0])}, data)
    ids = {"user": ["ann, 1", "bob"], "item": [7, 8]}
    frame = to_frame(result, data, ids)
    assert frame.to_csv(index=False, float_format="%.6g").splitlines() == [
        "user,item,score,rank,a",
        "bob,8,0.833333,1,2",
        '"ann, 1",7,0.5,1,0.5',
        '"ann, 1",8,0.166667,2,0.25',
    ]


def small_audit() -> tuple[NoiseAudit, pd.DataFrame]:
    """Six interactions of three people, each with a reason of its own."""
    data = HeteroData()
    data["user"].num_nodes = data["item"].num_nodes = 3
    data[EDGE].edge_index = torch.tensor([[0, 0, 0, 1, 1, 2], [0, 1, 2, 0, 1, 0]])
    signals = {
        "popularity": torch.tensor([1.0, 5.0, 6.0, 2.0, 3.0, 4.0]),
        "ease": torch.tensor([2.0, 6.0, 1.0, 3.0, 4.0, 5.0]),
        "agreement": torch.tensor([6.0, 1.0, 5.0, 2.0, 3.0, 4.0]),
    }
    scores = audit(signals, data, {"popularity": 2, "ease": 1, "agreement": 1})
    ids = {"user": ["ann", "bob", "cem"], "item": [7, 8, 9]}
    return scores, to_frame(scores, data, ids)


def test_reasons_are_the_item_and_what_raises_the_score_most():
    scores, _ = small_audit()
    assert reasons(scores, torch.tensor([0, 1, 2, 5])) == [
        "popular with everyone, unlike the rest of the history",
        "rare, not what people with this history take",
        "rare, unlike the rest of the history",
        "not what people with this history take",
    ]
    alone = replace(scores, parts={"popularity": scores.parts["popularity"]})
    assert reasons(alone, torch.tensor([1, 5])) == ["rare", ""]
    bare = replace(scores, parts={"my own": scores.score}, weights={"my own": 1.0})
    assert reasons(bare, torch.tensor([0])) == ["my own"]


def test_every_signal_of_a_pair_has_a_reason():
    assert {*REASONS} == {*SIGNALS} - {"popularity"}


def test_the_noisiest_and_who_has_them(monkeypatch):
    scores, frame = small_audit()
    # (2 popularity + ease + agreement - 2) / 24: 8, 15, 16, 7, 11 and 15 24ths
    table = noisiest_table(scores, frame, 2)
    assert table.title == "the 2 noisiest"
    assert [row[:2] + row[-1:] for row in table.rows] == [
        ["ann", "9", "rare, unlike the rest of the history"],
        ["ann", "8", "rare, not what people with this history take"],
    ]
    monkeypatch.setattr("ddrm_pyg.experiments.audit.NOISIEST", 0.5)
    assert count_table(frame, "user").rows == [["ann", "2", "3"], ["cem", "1", "1"]]
    assert count_table(frame, "item", 2).rows == [["9", "1", "1"], ["8", "1", "2"]]
    assert count_table(frame, "item").head == [
        "item",
        "among the noisiest 50%",
        "of",
    ]


def test_record_has_no_nan_and_a_table_says_so(golden):
    # nobody has both kinds, so that nothing can be said within users
    data = HeteroData()
    data["user"].num_nodes = data["item"].num_nodes = 2
    data[EDGE].edge_index = torch.tensor([[0, 1], [0, 1]])
    data[EDGE].edge_is_noise = torch.tensor([True, False])
    result = audit({"a": torch.tensor([1.0, 0.0])}, data)
    record = as_record(result)
    assert record["auroc"] == {"combined": 1, "a": 1}
    within = record["measures"]["a"]["within users"]
    assert within["auroc"] == [None, None, None]
    assert as_table(result).text() + "\n" == golden("audit.txt")


@pytest.mark.parametrize(
    ("auroc", "words"),
    [
        (0.51, "no better than a coin (AUROC 0.510; .5 is a coin)"),
        (0.61, "barely better than a coin (AUROC 0.610; .5 is a coin)"),
        (0.7, "better than a coin (AUROC 0.700; .5 is a coin)"),
        (0.9, "well (AUROC 0.900; .5 is a coin)"),
    ],
)
def test_a_sentence_says_how_well_noise_is_found(auroc, words):
    measure = Measure(Estimate(auroc, 0, 1), Estimate(0, 0, 1))
    measures = {"combined": {"pooled": measure}}
    scores = NoiseAudit({}, {}, torch.empty(0), torch.empty(0), {}, measures)
    assert headline(scores) == f"the score tells noise from the rest {words}"


@pytest.mark.dataset
def test_known_signals_of_ml_1m():
    if not NATURAL.is_dir():
        pytest.skip(f"{NATURAL} is absent")
    from ddrm_pyg.embeddings import Embeddings
    from ddrm_pyg.graph.history_weight import history_agreement
    from ddrm_pyg.graph.interaction_graph import InteractionGraph
    from ddrm_pyg.nn.conv import light_propagate
    from ddrm_pyg.noise_audit import activity_signal, popularity_signal

    data = load_interactions(NATURAL)
    graph = InteractionGraph.from_data(data)
    tables = Embeddings.load(NATURAL.parent / "pretrained" / "lightgcn.npz")
    emb = light_propagate(tables, graph, 3)
    signals = {
        "popularity": popularity_signal(graph),
        "activity": activity_signal(graph),
        "agreement": -history_agreement(graph, emb.item),
    }
    result = audit(signals, data, {"popularity": 1, "agreement": 1}, num_resamples=20)
    auroc = as_record(result)["auroc"]
    assert auroc["popularity"] == pytest.approx(0.638, abs=5e-4)
    assert auroc["activity"] == pytest.approx(0.560, abs=5e-4)
    assert auroc["agreement"] == pytest.approx(0.640, abs=5e-4)
    assert auroc["combined"] == pytest.approx(0.643, abs=5e-4)
