"""A DDRM that reads order comes back from its folder as it was."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.graph.sequences import UserSequences
from ddrm_pyg.nn._saved_past import load_past, load_source, save_past, save_source
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender
from ddrm_pyg.nn.future import HistoryMeans, HistoryStates
from ddrm_pyg.nn.models import SASRec

HISTORIES = [torch.tensor(items) for items in ([3, 1, 4], [4, 1, 3], [2])]
HISTORIES.append(torch.empty(0, dtype=torch.int64))


def recommender(*beside: nn.Module, width: int = 4) -> DDRMRecommender:
    torch.manual_seed(1)
    emb = Embeddings(torch.randn(2, 4), torch.randn(6, 4))
    ddrm = DDRM(width, (8,), num_start_steps=0, residual=True)
    model = DDRMRecommender(
        ddrm,
        emb,
        train_start="past",
        edge_time=torch.arange(4),
        scales=(2.0, math.inf),
        beside=beside,
        window=3,
        loss="bpr",
        seed=5,
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    model.future.past.count(
        InteractionGraph(torch.tensor([[0, 0, 1], [1, 2, 2]]), 2, 6)
    )
    return model.eval()


def states() -> HistoryStates:
    torch.manual_seed(2)
    model = SASRec(6, 4, num_layers=1, max_length=3)
    return HistoryStates(model, model.item_table.detach().clone())


def means() -> HistoryMeans:
    torch.manual_seed(3)
    return HistoryMeans(torch.randn(6, 5), (1.0,))


@pytest.mark.parametrize(
    ("beside", "width"), [((), 4), ((means,), 9), ((states, means), 13)]
)
def test_a_folder_gives_the_same_vectors_back(tmp_path, beside, width):
    model = recommender(*(make() for make in beside), width=width)
    save_past(model, tmp_path / "past")
    state = torch.get_rng_state()
    loaded = load_past(tmp_path / "past")
    assert torch.equal(torch.get_rng_state(), state)
    for ours, theirs in zip(
        loaded.generate(HISTORIES), model.generate(HISTORIES), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert (loaded.seed, loaded.future.window, loaded.future.loss_name) == (5, 3, "bpr")
    assert not loaded.training


@pytest.mark.parametrize("make", [states, means])
def test_a_source_alone_comes_back(tmp_path, make):
    source = make()
    save_source(source, tmp_path)
    loaded = load_source(tmp_path)
    bags = UserSequences.from_histories(HISTORIES, 6).before(torch.arange(4))
    assert torch.equal(loaded(bags), source(bags))
    assert torch.equal(loaded.item_emb, source.item_emb)
    with pytest.raises(ValueError, match="must hold a DDRMRecommender"):
        load_past(tmp_path)
    (tmp_path / "past.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"past\.safetensors: not a readable"):
        load_source(tmp_path)


def test_what_would_not_come_back_is_refused_and_leaves_nothing(tmp_path):
    class Mine(SASRec):
        """Another class than the package's."""

    own = Mine(6, 4, num_layers=1)
    model = recommender(HistoryStates(own, own.item_table.detach()), width=8)
    with pytest.raises(ValueError, match=r"must be history means .*got Mine"):
        save_past(model, tmp_path / "past")
    assert not (tmp_path / "past").exists()


def test_other_folders_are_refused(tmp_path):
    save_past(recommender(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"class": "DDRM"}))
    with pytest.raises(ValueError, match="must hold a DDRMRecommender"):
        load_past(tmp_path)
    damaged = config | {"settings": {"windows": 3}}
    (tmp_path / "config.json").write_text(json.dumps(damaged))
    with pytest.raises(ValueError, match=r"not what save_past writes .*save it again"):
        load_past(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "past.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"past\.safetensors"):
        load_past(tmp_path)
