"""Signals that never look."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from torch.nn import functional as F
from torch_geometric.data import HeteroData

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.nn.ddrm import DDRM
from ddrm_pyg.nn.models import EASE, MF
from ddrm_pyg.noise_audit.signals import (
    LossTrajectory,
    activity_signal,
    coherence_signal,
    disagreement_signal,
    ease_signal,
    item_knn_signal,
    popularity_signal,
    reconstruction_signal,
)
from ddrm_pyg.training import fit


def make_graph(pairs: list[tuple[int, int]]) -> InteractionGraph:
    edge_index = torch.tensor(pairs).T
    num_users, num_items = (edge_index.amax(1) + 1).tolist()
    return InteractionGraph(edge_index, num_users, num_items)


@pytest.fixture
def graph() -> InteractionGraph:
    """60 users and 40 items, every pair with chance 1/5."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.rand(60, 40, generator=generator) < 0.2
    return InteractionGraph(pairs.nonzero().T, 60, 40)


def test_popularity_and_activity_by_hand():
    # item 0 has two users, items 1 and 2 have one; user 0 has three items
    graph = make_graph([(1, 0), (0, 2), (0, 0), (0, 1)])
    assert popularity_signal(graph).tolist() == [-2, -1, -2, -1]
    assert activity_signal(graph).tolist() == [1, 3, 3, 3]


def naive_item_cosine(graph: InteractionGraph, edge: int) -> float:
    """Delete the pair, count again, and compare with the user's other items."""
    user, item = graph.edge_index[:, edge].tolist()
    x = torch.zeros(graph.num_users, graph.num_items, dtype=torch.float64)
    x[tuple(graph.edge_index)] = 1
    x[user, item] = 0
    others = x[user].nonzero().flatten().tolist()
    cosine = [
        float(x[:, item] @ x[:, j] / (x[:, item].sum() * x[:, j].sum()).sqrt())
        for j in others
        if x[:, item].any()
    ]
    return sum(cosine) / len(cosine) if cosine else 0.0


@given(...)
def test_item_knn_is_counted_again_without_the_pair(graph: InteractionGraph):
    graph = graph.without_repeats()
    expected = [-naive_item_cosine(graph, edge) for edge in range(graph.num_edges)]
    signal = item_knn_signal(graph).tolist()
    assert signal == pytest.approx(expected, abs=1e-6)


def naive_ease(graph: InteractionGraph, edge: int, l2: float) -> float:
    """Solve again without the pair and score it for what the user has left."""
    keep = torch.arange(graph.num_edges) != edge
    user, item = graph.edge_index[:, edge]
    scores = EASE(l2).scorer(graph.subgraph(keep)).scores(user.view(1))
    return float(scores[0, item])


@given(...)
def test_ease_is_solved_again_without_the_pair(graph: InteractionGraph):
    graph = graph.without_repeats()
    expected = [-naive_ease(graph, edge, 0.5) for edge in range(graph.num_edges)]
    assert ease_signal(graph, l2=0.5).tolist() == pytest.approx(expected, abs=1e-5)


def test_coherence_is_the_mean_of_the_users_pairs():
    graph = make_graph([(0, 0), (1, 0), (0, 1), (0, 2)])
    signal = coherence_signal(torch.tensor([1.0, 5.0, 2.0, 6.0]), graph)
    assert signal.tolist() == [3.0, 5.0, 3.0, 3.0]


def test_pairs_left_out_in_chunks(graph, monkeypatch):
    whole = item_knn_signal(graph), ease_signal(graph)
    monkeypatch.setattr("ddrm_pyg.nn.models._similarity.COLUMNS", 7)
    monkeypatch.setattr("ddrm_pyg.noise_audit.signals._USERS", 7)
    torch.testing.assert_close(item_knn_signal(graph), whole[0])
    torch.testing.assert_close(ease_signal(graph), whole[1])


def test_signals_follow_the_order_of_the_edges(graph):
    order = torch.randperm(graph.num_edges, generator=torch.Generator().manual_seed(1))
    mixed = InteractionGraph(
        graph.edge_index[:, order], graph.num_users, graph.num_items
    )
    for signal in (popularity_signal, activity_signal, item_knn_signal, ease_signal):
        torch.testing.assert_close(signal(mixed), signal(graph)[order])


def trained(graph: InteractionGraph, wrapped: bool) -> tuple[MF, LossTrajectory | None]:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = graph.num_users, graph.num_items
    data[EDGE].edge_index = graph.edge_index
    torch.manual_seed(0)
    backend = MF(graph.num_users, graph.num_items, 4)
    model = backend
    if wrapped:
        model = LossTrajectory(backend, graph.num_edges, halfway=1)
    fit(model, data, epochs=3, batch_size=64, lr=0.01, progress=False)
    if not wrapped:
        return backend, None
    model.note(graph)
    return backend, model


def test_loss_is_the_mean_over_the_epochs(graph, monkeypatch):
    seen = []
    note = LossTrajectory.note

    def watch(self, graph):
        user, item = graph.edge_index
        score = (self.backend.user_table[user] * self.backend.item_table[item]).sum(1)
        seen.append(-score.detach().sigmoid().log())
        note(self, graph)

    monkeypatch.setattr(LossTrajectory, "note", watch)
    _, model = trained(graph, wrapped=True)
    assert len(seen) == 4  # before each of three epochs and after the last
    assert not torch.equal(seen[0], seen[3])
    torch.testing.assert_close(model.signal(), torch.stack(seen).mean(0))
    # after one epoch and after the last; a loss is the chance's negative logarithm
    gap = (seen[1].neg().exp() - seen[3].neg().exp()).abs()
    torch.testing.assert_close(model.change(), gap)


def test_noting_does_not_touch_the_training(graph):
    alone, _ = trained(graph, wrapped=False)
    watched, _ = trained(graph, wrapped=True)
    assert torch.equal(alone.user_table, watched.user_table)
    assert torch.equal(alone.item_table, watched.item_table)


def test_disagreement_by_hand():
    graph = make_graph([(0, 0), (0, 1)])
    one = Embeddings(torch.ones(1, 1), torch.tensor([[0.0], [2.0]]))
    other = Embeddings(torch.ones(1, 1), torch.tensor([[0.0], [-2.0]]))
    # sigma(0) - sigma(0) = 0; sigma(2) - sigma(-2) = 2 sigma(2) - 1 = tanh(1)
    expected = torch.tensor([0.0, 1.0]).tanh()
    torch.testing.assert_close(disagreement_signal(one, other, graph), expected)
    torch.testing.assert_close(disagreement_signal(other, one, graph), expected)


def test_reconstruction_is_the_mean_squared_gap(graph):
    torch.manual_seed(0)
    settings = {"hidden_dims": (8,), "num_train_timesteps": 1, "noise_scale": 1e-12}
    ddrm = DDRM(4, **settings, fix_first_beta=False, reconstruction_weight=1.0).eval()
    emb = Embeddings(torch.randn(60, 4), torch.randn(40, 4))
    user, item = emb.user[graph.edge_index[0]], emb.item[graph.edge_index[1]]
    first = torch.zeros(graph.num_edges, dtype=torch.int64)
    with torch.no_grad():  # all but no noise, so that both inputs are the vectors
        gap = F.mse_loss(
            torch.cat(
                [
                    ddrm.user_denoiser(user, item, first),
                    ddrm.item_denoiser(item, user, first),
                ],
                1,
            ),
            torch.cat([user, item], 1),
            reduction="none",
        ).mean(1)
    signal = reconstruction_signal(ddrm.loss, emb, graph)
    torch.testing.assert_close(signal, gap, rtol=1e-3, atol=1e-4)
    assert torch.equal(signal, reconstruction_signal(ddrm.loss, emb, graph))


def test_signals_refuse_what_does_not_fit():
    graph = make_graph([(0, 0), (1, 1)])
    with pytest.raises(ValueError, match=r"'l2' must be > 0 \(got 0\)"):
        ease_signal(graph, l2=0)
    with pytest.raises(ValueError, match=r"per interaction, 2 .*\[3\]\)"):
        coherence_signal(torch.zeros(3), graph)
    with pytest.raises(ValueError, match=r"'halfway' must be >= 0 \(got -1\)"):
        LossTrajectory(MF(2, 2, 4), graph.num_edges, halfway=-1)
