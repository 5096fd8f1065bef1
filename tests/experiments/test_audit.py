"""The default signals, and what is written about them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch_geometric.data import HeteroData

from ddrm_pyg.datasets import SyntheticInteractions
from ddrm_pyg.datasets.readers import load_interactions
from ddrm_pyg.experiments.audit import (
    SIGNALS,
    as_record,
    as_table,
    combine,
    compute_signals,
    stored_signals,
    to_frame,
)
from ddrm_pyg.graph.interaction_graph import EDGE
from ddrm_pyg.noise_audit import audit, train_only
from ddrm_pyg.transforms import RandomNoise

QUICK = {"epochs": 3, "ddrm_epochs": 1, "progress": False}
NATURAL = Path(__file__).parents[3] / "shared" / "data" / "ml-1m" / "natural"


@pytest.fixture(scope="module")
def world() -> HeteroData:
    return SyntheticInteractions(100, 120, 2500)[0]


def test_signals_read_train_interactions_only(world):
    known, bare = (compute_signals(d, **QUICK) for d in (world, train_only(world)))
    assert set(known) == set(SIGNALS)
    for name, signal in known.items():
        assert torch.equal(signal, bare[name]), name
        assert signal.shape == (world[EDGE].edge_index.size(1),)
    other = compute_signals(world, **QUICK, seed=1)
    trained = {"loss", "disagreement", "agreement", "reconstruction"}
    assert {k for k in known if not torch.equal(known[k], other[k])} == trained


def test_an_unknown_backend_is_refused_before_anything_is_solved(world):
    with pytest.raises(ValueError, match=r"'backend' must be one of .*\(got 'ease'\)"):
        compute_signals(world, backend="ease", **QUICK)


def test_an_audit_without_labels_has_no_table(world):
    bare = train_only(world)
    found = combine({"a": torch.rand(bare[EDGE].num_edges)}, bare, {"a": 1.0})
    assert as_table(found).text() == ""


def test_random_pairs_are_found():
    data = RandomNoise(0.2)(SyntheticInteractions(400, 200, 20_000)[0])
    injected = data[EDGE].edge_rating == 0  # replaced pairs have no rating
    data[EDGE].edge_is_noise = injected
    found = combine(compute_signals(data, progress=False), data)
    for name, by_scope in found.measures.items():
        # Replaced one by one, so that everyone keeps their number; and the gap grows
        # with the length of a vector, which LightGCN gives to items with many clicks.
        if name not in ("activity", "reconstruction"):
            assert by_scope["pooled"].auroc.low > 0.5, name
    assert found.measures["combined"]["within users"].auroc.low > 0.7


def test_stored_signals_are_those_of_the_data_and_settings(
    world, tmp_path, monkeypatch
):
    first = stored_signals(tmp_path, world, **QUICK)
    again = stored_signals(tmp_path, world, **QUICK)
    assert list(first) == list(again)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert len(list(tmp_path.iterdir())) == 1
    stored_signals(tmp_path, world, **QUICK | {"epochs": 2})
    assert len(list(tmp_path.iterdir())) == 2
    stored_signals(tmp_path, world, **QUICK, seed=0)  # the default
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr("ddrm_pyg.experiments.audit.LR", 1e-3)
    stored_signals(tmp_path, world, **QUICK)
    assert len(list(tmp_path.iterdir())) == 3


def test_frame_by_hand():
    data = HeteroData()
    data["user"].num_nodes = data["item"].num_nodes = 2
    data[EDGE].edge_index = torch.tensor([[0, 0, 1], [0, 1, 1]])
    found = audit({"a": torch.tensor([0.5, 0.25, 2.0])}, data)
    ids = {"user": ["ann, 1", "bob"], "item": [7, 8]}
    frame = to_frame(found, data, ids)
    assert frame.to_csv(index=False, float_format="%.6g").splitlines() == [
        "user,item,score,rank,a",
        "bob,8,0.833333,1,2",
        '"ann, 1",7,0.5,1,0.5',
        '"ann, 1",8,0.166667,2,0.25',
    ]


def test_record_has_no_nan_and_a_table_says_so(golden):
    # nobody has both kinds, so that nothing can be said within users
    data = HeteroData()
    data["user"].num_nodes = data["item"].num_nodes = 2
    data[EDGE].edge_index = torch.tensor([[0, 1], [0, 1]])
    data[EDGE].edge_is_noise = torch.tensor([True, False])
    found = audit({"a": torch.tensor([1.0, 0.0])}, data)
    record = as_record(found)
    assert record["auroc"] == {"combined": 1, "a": 1}
    within = record["measures"]["a"]["within users"]
    assert within["auroc"] == [None, None, None]
    assert as_table(found).text() + "\n" == golden("audit.txt")


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
    found = audit(signals, data, {"popularity": 1, "agreement": 1}, num_resamples=20)
    auroc = as_record(found)["auroc"]
    assert auroc["popularity"] == pytest.approx(0.638, abs=5e-4)
    assert auroc["activity"] == pytest.approx(0.560, abs=5e-4)
    assert auroc["agreement"] == pytest.approx(0.640, abs=5e-4)
    assert auroc["combined"] == pytest.approx(0.643, abs=5e-4)
