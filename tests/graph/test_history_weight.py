import logging
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from ddrm_pyg.graph import history_weight as module
from ddrm_pyg.graph.history_weight import (
    HistorySums,
    agreement_weight,
    history_agreement,
    recency_weight,
)
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph


def world(edge_index, num_users, num_items, edge_time=None):
    data = HeteroData()
    data["user"].num_nodes = num_users
    data["item"].num_nodes = num_items
    data[EDGE].edge_index = torch.tensor(edge_index)
    if edge_time is not None:
        data[EDGE].edge_time = torch.tensor(edge_time)
    return data


# -------------------------------------------------------------------------- agreement


@pytest.fixture
def graph():
    """User 0 owns three items, user 1 one and user 2 two; edges in no order."""
    return InteractionGraph(
        torch.tensor([[2, 0, 1, 0, 2, 0], [0, 2, 1, 0, 3, 1]]), 3, 4
    )


ITEMS = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, -1.0]])


def test_agreement_by_hand(graph):
    expected = [
        0,  # user 2: (1, 0) against (0, -1)
        1 / 5**0.5,  # user 0: (3, 0) against (1, 2)
        0,  # user 1 has nothing else
        3 / 13**0.5,  # user 0: (1, 0) against (3, 2)
        0,  # user 2, the other way round
        0,  # user 0: (0, 2) against (4, 0)
    ]
    torch.testing.assert_close(history_agreement(graph, ITEMS), torch.tensor(expected))


def test_opposite_items_disagree():
    graph = InteractionGraph(torch.tensor([[0, 0], [1, 3]]), 1, 4)
    torch.testing.assert_close(history_agreement(graph, ITEMS), -torch.ones(2))


def test_weight_is_the_sigmoid_of_the_agreement(graph):
    agreement = history_agreement(graph, ITEMS)
    default = [1 / (1 + math.exp(5 - 10 * a)) for a in agreement.tolist()]
    torch.testing.assert_close(agreement_weight(graph, ITEMS), torch.tensor(default))
    own = [1 / (1 + math.exp(1 - 2 * a)) for a in agreement.tolist()]
    weight = agreement_weight(graph, ITEMS, slope=2, offset=1)
    torch.testing.assert_close(weight, torch.tensor(own))


@given(graph=st.from_type(InteractionGraph), seed=st.integers(0, 99))
def test_agreement_is_that_of_a_naive_loop(graph, seed):
    item_emb = torch.randn(
        graph.num_items, 3, generator=torch.Generator().manual_seed(seed)
    )
    expected = []
    for edge, (user, item) in enumerate(graph.edge_index.T.tolist()):
        rest = [
            item_emb[other].double()
            for e, (u, other) in enumerate(graph.edge_index.T.tolist())
            if u == user and e != edge
        ]
        if rest:
            mean, own = torch.stack(rest).mean(0), item_emb[item].double()
            expected.append(float(own @ mean / (own.norm() * mean.norm())))
        else:
            expected.append(0.0)
    agreement = history_agreement(graph, item_emb)
    assert agreement.dtype == torch.float32
    torch.testing.assert_close(agreement, torch.tensor(expected))


def test_chunks_change_nothing(graph, monkeypatch):
    whole = history_agreement(graph, ITEMS)
    monkeypatch.setattr(module, "_CHUNK", 4)
    assert torch.equal(history_agreement(graph, ITEMS), whole)


def test_weights_carry_no_gradient(graph):
    assert not agreement_weight(graph, ITEMS.clone().requires_grad_()).requires_grad


def test_items_of_another_graph_are_refused(graph):
    with pytest.raises(ValueError, match=r"one row per item, 4 \(got 3\)"):
        agreement_weight(graph, ITEMS[:3])


# ---------------------------------------------------------------------- leaving one out


def test_mean_without_by_hand(graph):
    user, item = torch.tensor([[0, 2, 1], [1, 0, 1]])
    mean_item = ITEMS[[0, 2, 1, 0, 3, 1]].mean(0)  # user 1 has nothing else
    expected = torch.stack([torch.tensor([2.0, 0.0]), ITEMS[3], mean_item])
    mean = HistorySums(graph, ITEMS).mean_without(user, item)
    torch.testing.assert_close(mean, expected)
    # edges (2,0) (0,2) (1,1) (0,0) (2,3) (0,1)
    weight = torch.tensor([1.0, 3.0, 2.0, 1.0, 0.0, 5.0])
    mean = HistorySums(graph, ITEMS, weight).mean_without(user, item)
    expected[0] = torch.tensor([(3 * 3 + 1 * 1) / 4, 0.0])
    expected[1] = mean_item  # what is left of user 2 weighs nothing
    torch.testing.assert_close(mean, expected)


@given(
    graph=st.from_type(InteractionGraph),
    seed=st.integers(0, 99),
    weighted=st.booleans(),
)
def test_mean_without_is_the_history_mean_of_a_graph_without(graph, seed, weighted):
    graph = graph.without_repeats()
    generator = torch.Generator().manual_seed(seed)
    item_emb = torch.randn(graph.num_items, 3, generator=generator)
    weight = torch.rand(graph.num_edges, generator=generator) if weighted else None
    sums = HistorySums(graph, item_emb, weight)
    for edge in range(graph.num_edges):
        user, item = graph.edge_index[:, edge].view(2, 1)
        keep = torch.arange(graph.num_edges) != edge
        rest = graph.subgraph(keep)
        if int(rest.degree("user")[user]) > 0:
            part = None if weight is None else weight[keep]
            expected = rest.history_mean(item_emb, weight=part)[user]
        else:
            expected = graph.mean_item(item_emb).unsqueeze(0)
        mean = sums.mean_without(user, item)
        assert mean.dtype == torch.float32
        torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-5)


def test_what_is_left_without_vectors_is_as_if_nothing_were_left():
    # user 0 has two items without vectors, user 1 two beside one that has one
    graph = InteractionGraph(torch.tensor([[0, 0, 1, 1, 1], [1, 2, 0, 1, 2]]), 2, 3)
    item_emb = torch.tensor([[0.3, 0.7], [0.0, 0.0], [0.0, 0.0]])
    user, item = torch.tensor([[0, 0, 1, 1], [1, 2, 0, 1]])
    mean_item = item_emb[0] / 5
    expected = torch.stack([mean_item, mean_item, mean_item, item_emb[0] / 2])
    for weight in (None, torch.full((5,), 0.1)):
        mean = HistorySums(graph, item_emb, weight).mean_without(user, item)
        torch.testing.assert_close(mean, expected)


def test_the_lightest_history_survives_the_heaviest_item():
    graph = InteractionGraph(torch.tensor([[0, 0, 0], [0, 1, 2]]), 1, 3)
    item_emb = torch.tensor([[1.0], [3.0], [1e4]])
    weight = torch.tensor([1e-6, 1e-6, 1.0])
    mean = HistorySums(graph, item_emb, weight).mean_without(
        torch.tensor([0]), torch.tensor([2])
    )
    torch.testing.assert_close(mean, torch.tensor([[2.0]]), rtol=1e-4, atol=0)


# ---------------------------------------------------------------------------- recency


def test_recency_by_hand():
    # user 0 in time: items 2, 0, 1; user 1 once; user 2 never
    data = world([[0, 0, 1, 0], [1, 0, 3, 2]], 3, 4, [30, 20, 5, 10])
    expected = torch.tensor([0.0, -1, 0, -2]).div(2).exp()
    torch.testing.assert_close(recency_weight(data, 2), expected)


def test_equal_times_stand_in_the_order_of_the_edges():
    data = world([[0, 1, 0, 0, 1], [1, 0, 0, 2, 1]], 2, 3, [7, 4, 7, 3, 4])
    later = torch.tensor([1.0, 1, 0, 2, 0])
    torch.testing.assert_close(recency_weight(data, 5.0), torch.exp(-later / 5))


def test_unknown_times_come_before_those_before_1970():
    data = world([[0, 0, 0, 0], [1, 0, 3, 2]], 1, 4, [-100, -1, 200, -50])
    later = torch.tensor([2.0, 3, 0, 1])
    torch.testing.assert_close(recency_weight(data, 1.0), torch.exp(-later))


def test_without_times_the_edges_are_in_order_and_it_is_said(caplog):
    data = world([[1, 0, 1, 1], [2, 0, 1, 0]], 2, 3)
    with caplog.at_level(logging.WARNING, "ddrm_pyg"):
        weight = recency_weight(data, 1.0)
    torch.testing.assert_close(weight, torch.tensor([-2.0, 0, -1, 0]).exp())
    assert "no 'edge_time': the order of 'edge_index' stands in" in caplog.text


def test_an_endless_tau_weighs_equally():
    data = world([[0, 0, 0], [1, 0, 2]], 1, 3, [1, 2, 3])
    assert torch.equal(recency_weight(data, math.inf), torch.ones(3))


def test_only_train_interactions_are_read():
    data = world([[0, 0], [1, 0]], 1, 4, [1, 2])
    before = recency_weight(data, 3.0)
    data[EDGE].val_edge_label_index = torch.tensor([[0], [2]])
    data[EDGE].val_edge_time = torch.tensor([9])
    assert torch.equal(recency_weight(data, 3.0), before)


def test_data_in_order_are_weighed_as_they_stand(caplog):
    data = world([[0, 0, 1], [1, 0, 0]], 2, 2, [1, 2, 3])
    timed = recency_weight(data, 3.0)
    del data[EDGE].edge_time
    data[EDGE].in_order = True
    assert torch.equal(recency_weight(data, 3.0), timed)
    assert not caplog.messages


@pytest.mark.parametrize("tau", [0, -1.0, math.nan])
def test_a_tau_that_is_not_positive_is_refused(tau):
    data = world([[0], [0]], 1, 1, [1])
    with pytest.raises(ValueError, match=rf"'tau' must be > 0 \(got {tau}\)"):
        recency_weight(data, tau)


@given(graph=st.from_type(InteractionGraph), data=st.data())
def test_recency_is_that_of_a_naive_loop(graph, data):
    size = graph.num_edges
    time = data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    loaded = world(graph.edge_index.tolist(), graph.num_users, graph.num_items, time)
    loaded[EDGE].edge_index = graph.edge_index
    user = graph.edge_index[0].tolist()
    later = [
        sum(user[f] == user[e] and (time[f], f) > (time[e], e) for f in range(size))
        for e in range(size)
    ]
    expected = torch.exp(-torch.tensor(later, dtype=torch.float32) / 4)
    torch.testing.assert_close(recency_weight(loaded, 4), expected)
