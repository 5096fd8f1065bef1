from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from ddrm_pyg.graph.augment import (
    check_augmentation,
    draw_view,
    drop_edges,
    drop_nodes,
)
from ddrm_pyg.graph.interaction_graph import InteractionGraph

GRAPHS = st.from_type(InteractionGraph)
RATES = st.floats(0, 0.99)
AUGMENTATIONS = ["ED", "ND", "RW"]


@pytest.fixture
def graph():
    pairs = torch.randperm(30 * 20, generator=seeded())[:200]
    return InteractionGraph(torch.stack([pairs // 20, pairs % 20]), 30, 20)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def positions(part, whole):
    """Where the edges of a sub-graph of distinct edges stand in the whole."""
    place = {tuple(pair): i for i, pair in enumerate(whole.edge_index.T.tolist())}
    return [place[tuple(pair)] for pair in part.edge_index.T.tolist()]


# edges


@given(graph=GRAPHS, rate=RATES)
def test_ed_keeps_an_exact_number_of_edges(graph, rate):
    kept = drop_edges(graph, rate, generator=seeded())
    assert kept.num_edges == int(graph.num_edges * (1 - rate))
    assert (kept.num_users, kept.num_items) == (graph.num_users, graph.num_items)


def test_ed_keeps_the_published_number_on_movielens():
    # 429,993 train interactions, a tenth of them dropped
    edge = torch.arange(429_993)
    graph = InteractionGraph(torch.stack([edge // 1000, edge % 1000]), 430, 1000)
    assert drop_edges(graph, 0.1, generator=seeded()).num_edges == 386_993


def test_ed_draws_distinct_edges_of_the_graph_in_their_order(graph):
    kept = positions(drop_edges(graph, 0.3, generator=seeded()), graph)
    assert kept == sorted(set(kept))
    assert len(kept) == 140


def test_ed_drops_every_edge_equally_often(graph):
    generator, times = seeded(), torch.zeros(graph.num_edges)
    for _ in range(400):
        times[positions(drop_edges(graph, 0.5, generator=generator), graph)] += 1
    # 200 +- 10 expected; five standard deviations
    assert times.min() > 150
    assert times.max() < 250


# nodes


def test_nd_drops_all_edges_of_some_nodes_and_no_other(graph):
    kept = drop_nodes(graph, 0.25, generator=seeded())
    user, item = graph.edge_index
    lost_user, lost_item = kept.degree("user") == 0, kept.degree("item") == 0
    assert (int(lost_user.sum()), int(lost_item.sum())) == (7, 5)
    expected = graph.subgraph(~(lost_user[user] | lost_item[item]))
    assert torch.equal(kept.edge_index, expected.edge_index)


@given(graph=GRAPHS, rate=RATES)
def test_nd_without_a_node_to_drop_is_the_graph(graph, rate):
    kept = drop_nodes(graph, rate, generator=seeded())
    if max(graph.num_users, graph.num_items) * rate < 1:
        assert torch.equal(kept.edge_index, graph.edge_index)
    assert kept.num_edges <= graph.num_edges


# views


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_nothing_dropped_is_the_full_graph(graph, augmentation):
    view = draw_view(graph, augmentation, 0.0, 3, generator=seeded())
    assert len(view) == 3
    for layer in view:
        assert torch.equal(layer.edge_index, graph.edge_index)
        assert torch.equal(layer.adj().to_dense(), graph.adj().to_dense())


@pytest.mark.parametrize("augmentation", ["ED", "ND"])
def test_edge_and_node_drop_share_one_graph_among_layers(graph, augmentation):
    view = draw_view(graph, augmentation, 0.2, 3, generator=seeded())
    assert view[0] is view[1] is view[2]


def test_walk_draws_a_graph_for_every_layer(graph):
    view = draw_view(graph, "RW", 0.2, 3, generator=seeded())
    kept = {tuple(positions(layer, graph)) for layer in view}
    assert len(kept) == 3
    assert {len(edges) for edges in kept} == {160}


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_views_repeat_with_the_generator_and_differ_as_it_goes_on(graph, augmentation):
    draw = partial(draw_view, graph, augmentation, 0.2, 2)
    generator = seeded()
    first, second = draw(generator=generator), draw(generator=generator)
    again = draw(generator=seeded())
    for one, same, other in zip(first, again, second, strict=True):
        assert torch.equal(one.edge_index, same.edge_index)
        assert positions(one, graph) != positions(other, graph)


@given(
    graph=GRAPHS,
    rate=RATES,
    augmentation=st.sampled_from(AUGMENTATIONS),
    is_sorted=st.booleans(),
)
def test_layers_are_normalised_on_what_is_left(graph, rate, augmentation, is_sorted):
    if is_sorted:
        graph.adj()
    for layer in draw_view(graph, augmentation, rate, 2, generator=seeded()):
        anew = InteractionGraph(layer.edge_index, layer.num_users, layer.num_items)
        adj = layer.adj().to_dense()
        assert torch.equal(adj, anew.adj().to_dense())
        assert torch.equal(adj.T, layer.adj_t().to_dense())
        # [[0, adj], [adj.T, 0]] has the singular values of adj as its spectrum
        assert float(torch.linalg.matrix_norm(adj, 2)) <= 1 + 1e-5
        user = torch.arange(graph.num_users)
        for rows, expected in zip(layer.rows(user), anew.rows(user), strict=True):
            assert torch.equal(rows, expected)


def test_nothing_is_sorted_again(graph):
    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            names.append(str(function))
            return function(*args, **(kwargs or {}))

    def is_sorted():
        return any("sort.stable" in name for name in names)

    names = []
    with Names():
        graph.adj()
    assert is_sorted()
    names.clear()
    with Names():
        layer = draw_view(graph, "ED", 0.2, 1, generator=seeded())[0]
        layer.adj()
        layer.contains(*graph.edge_index)
    assert not is_sorted()


@pytest.mark.parametrize(
    ("augmentation", "rate", "message"),
    [
        ("EDGE", 0.1, r"'augmentation' must be 'ED', 'ND' or 'RW' \(got 'EDGE'\)"),
        ("ED", 1.0, r"'drop_rate' must lie in \[0, 1\) \(got 1.0\)"),
        ("ND", -0.1, r"'drop_rate' must lie in \[0, 1\) \(got -0.1\)"),
        ("RW", float("nan"), r"'drop_rate' must lie in \[0, 1\) \(got nan\)"),
    ],
)
def test_unknown_views_are_refused(path_graph, augmentation, rate, message):
    with pytest.raises(ValueError, match=message):
        check_augmentation(augmentation, rate)
    with pytest.raises(ValueError, match=message):
        draw_view(path_graph, augmentation, rate, 3, generator=seeded())


@pytest.mark.parametrize("drop", [drop_edges, drop_nodes])
def test_a_rate_out_of_range_is_refused(path_graph, drop):
    with pytest.raises(ValueError, match=r"'drop_rate' must lie in \[0, 1\) \(got 1\)"):
        drop(path_graph, 1, generator=seeded())
