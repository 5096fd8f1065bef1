import warnings
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData

from ddrm_pyg.graph.interaction_graph import (
    EDGE,
    InteractionGraph,
    as_graph,
    has_validation,
    mean_item,
)

GRAPHS = st.from_type(InteractionGraph)


def pairs_of(graph):
    return [tuple(pair) for pair in graph.edge_index.T.tolist()]


def naive_history_mean(graph, item_emb, weight, fallback):
    """One user at a time; a user without weight gets the fallback."""
    rows = []
    for user in range(graph.num_users):
        total, mass = torch.zeros(item_emb.size(1)), 0.0
        for edge, (owner, item) in enumerate(pairs_of(graph)):
            if owner == user:
                total += weight[edge] * item_emb[item]
                mass += float(weight[edge])
        rows.append(total / mass if mass > 0 else fallback)
    return torch.stack(rows)


def naive_mean_item(graph, item_emb):
    if graph.num_edges == 0:
        return torch.zeros(item_emb.size(1))
    return item_emb[graph.edge_index[1]].mean(0)


def random_table(num_rows, seed=0):
    return torch.randn(num_rows, 3, generator=torch.Generator().manual_seed(seed))


# lookup


@given(graph=GRAPHS, pick=st.data())
def test_rows_list_the_items_of_each_position(graph, pick):
    user = pick.draw(st.lists(st.integers(0, graph.num_users - 1), max_size=6))
    row, item = graph.rows(torch.tensor(user, dtype=torch.int64))
    expected = [
        (position, owned)
        for position, wanted in enumerate(user)
        for owned in sorted(i for u, i in pairs_of(graph) if u == wanted)
    ]
    assert list(zip(row.tolist(), item.tolist(), strict=True)) == expected


@given(GRAPHS)
def test_contains_is_membership(graph):
    user, item = torch.ones(graph.num_users, graph.num_items).nonzero().T
    owned = set(pairs_of(graph))
    expected = [
        pair in owned for pair in zip(user.tolist(), item.tolist(), strict=True)
    ]
    assert graph.contains(user, item).tolist() == expected


@given(GRAPHS)
def test_degrees_count_repeats(graph):
    users, items = Counter(graph.edge_index[0].tolist()), Counter()
    items.update(graph.edge_index[1].tolist())
    assert graph.degree("user").tolist() == [users[u] for u in range(graph.num_users)]
    assert graph.degree("item").tolist() == [items[i] for i in range(graph.num_items)]


@pytest.mark.parametrize("node_type", ["users", "items", "", None])
def test_degree_of_an_unknown_node_type_is_refused(path_graph, node_type):
    with pytest.raises(ValueError, match=r"'node_type' must be 'user' or 'item' \(got"):
        path_graph.degree(node_type)


@given(GRAPHS, st.data())
def test_places_count_a_users_interactions_in_the_order_given(graph, pick):
    order = pick.draw(st.permutations(range(graph.num_edges)))
    seen, expected = Counter(), [0] * graph.num_edges
    for edge in order:
        user = int(graph.edge_index[0, edge])
        expected[edge] = seen[user]
        seen[user] += 1
    assert graph.place(torch.tensor(order, dtype=torch.int64)).tolist() == expected


@given(GRAPHS)
def test_without_repeats_keeps_first_occurrences_in_order(graph):
    assert pairs_of(graph.without_repeats()) == list(dict.fromkeys(pairs_of(graph)))


# history mean


@given(GRAPHS)
def test_history_mean_is_the_naive_loop(graph):
    item_emb = random_table(graph.num_items)
    expected = naive_history_mean(
        graph, item_emb, torch.ones(graph.num_edges), naive_mean_item(graph, item_emb)
    )
    torch.testing.assert_close(graph.history_mean(item_emb), expected)


@given(graph=GRAPHS, pick=st.data())
def test_weighted_history_mean_is_the_naive_loop(graph, pick):
    size = graph.num_edges
    weight = pick.draw(
        st.lists(st.sampled_from([0.0, 0.5, 2.0, 1e-6]), min_size=size, max_size=size)
    )
    weight = torch.tensor(weight)
    item_emb = random_table(graph.num_items)
    expected = naive_history_mean(
        graph, item_emb, weight, naive_mean_item(graph, item_emb)
    )
    torch.testing.assert_close(graph.history_mean(item_emb, weight=weight), expected)


def test_a_history_of_items_without_vectors_falls_back_to_the_train_mean():
    graph = InteractionGraph(torch.tensor([[0, 1], [0, 1]]), 2, 3)
    item_emb = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    history = InteractionGraph(torch.tensor([[0, 1, 1], [2, 2, 0]]), 2, 3)
    mean = graph.history_mean(item_emb, history=history)
    assert mean.tolist() == [[0.5, 1.0], [0.5, 0.0]]


@given(GRAPHS)
def test_histories_of_new_users_fall_back_to_the_train_mean(graph):
    history = InteractionGraph(torch.tensor([[2, 0, 2], [0, 0, 0]]), 4, graph.num_items)
    item_emb = random_table(graph.num_items)
    weights = torch.tensor([1.0, 3.0, 2.0])
    for weight in (None, weights):
        mean = graph.history_mean(item_emb, weight=weight, history=history)
        fallback = naive_mean_item(graph, item_emb)
        expected = torch.stack([item_emb[0], fallback, item_emb[0], fallback])
        torch.testing.assert_close(mean, expected)


@given(GRAPHS, st.integers(0, 4))
def test_rows_of_a_graph_have_the_whole_graphs_means(graph, cut):
    item_emb = random_table(graph.num_items)
    whole = graph.history_mean(item_emb)
    cut = min(cut, graph.num_users)
    mean = mean_item(graph.degree("item"), item_emb)
    for low, high in ((0, cut), (cut, graph.num_users)):
        user, item = graph.edge_index
        own = (user >= low) & (user < high)
        rows = torch.stack([user[own] - low, item[own]])
        part = InteractionGraph(rows, high - low, graph.num_items)
        assert torch.equal(part.history_mean(item_emb, fallback=mean), whole[low:high])


def test_history_mean_hand_values():
    graph = InteractionGraph(torch.tensor([[2, 0, 0, 0], [0, 1, 0, 1]]), 3, 2)
    item_emb = torch.tensor([[3.0, 0.0], [0.0, 6.0]])
    # user 0 owns item 1 twice; user 1 nothing: items 0, 0, 1, 1 over all edges
    assert graph.history_mean(item_emb).tolist() == [[1, 4], [1.5, 3], [3, 0]]
    weight = torch.tensor([5.0, 0.0, 1.0, 2.0])
    expected = [[1, 4], [1.5, 3], [3, 0]]
    assert graph.history_mean(item_emb, weight=weight).tolist() == expected
    weight = torch.tensor([0.0, 0.0, 1.0, 0.0])
    expected = [[3, 0], [1.5, 3], [1.5, 3]]
    assert graph.history_mean(item_emb, weight=weight).tolist() == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"item_emb": torch.ones(3, 2)},
            r"'item_emb' must have one row per item, 2 \(got 3\)",
        ),
        (
            {"weight": torch.ones(2)},
            r"'weight' must have one value per interaction, 3 \(got shape \[2\]\)",
        ),
        (
            {"weight": torch.tensor([1.0, -1.0, 1.0])},
            "'weight' must be finite and >= 0",
        ),
        (
            {"weight": torch.tensor([1.0, torch.nan, 1.0])},
            "'weight' must be finite and >= 0",
        ),
        (
            {"history": InteractionGraph(torch.tensor([[0], [4]]), 1, 5)},
            r"'history' must have the graph's 2 items \(got 5\)",
        ),
    ],
)
def test_history_mean_refuses(path_graph, arguments, message):
    arguments = {"item_emb": torch.ones(2, 2), **arguments}
    with pytest.raises(ValueError, match=message):
        path_graph.history_mean(**arguments)


def orders_of(graph):
    """Positions sorted by user, then item, and by item, then user; repeats in place."""
    pairs = pairs_of(graph)
    edges = range(graph.num_edges)
    return [
        sorted(edges, key=lambda e: pairs[e]),
        sorted(edges, key=lambda e: pairs[e][::-1]),
    ]


@given(graph=GRAPHS, pick=st.data())
def test_orders_are_by_user_and_by_item(graph, pick):
    assert [graph.by_user.tolist(), graph.by_item.tolist()] == orders_of(graph)
    size = graph.num_edges
    mask = pick.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    kept = graph.subgraph(torch.tensor(mask, dtype=torch.bool))  # inherits the orders
    assert [kept.by_user.tolist(), kept.by_item.tolist()] == orders_of(kept)


def test_orders_by_hand_and_as_the_blocks_have_them():
    graph = InteractionGraph(torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0]]), 2, 2)
    assert graph.by_user.tolist() == [2, 1, 0, 3]
    assert graph.by_item.tolist() == [2, 0, 3, 1]
    weight = graph.edge_weight()
    assert torch.equal(graph.adj().values(), weight[graph.by_user])
    assert torch.equal(graph.adj_t().values(), weight[graph.by_item])


# the normalised blocks


@given(GRAPHS)
def test_blocks_are_the_symmetric_normalisation_and_its_transpose(graph):
    count = torch.zeros(graph.num_users, graph.num_items)
    for pair in pairs_of(graph):
        count[pair] += 1
    left, right = (count.sum(axis).pow(-0.5) for axis in (1, 0))
    left[left == torch.inf], right[right == torch.inf] = 0, 0
    expected = left.unsqueeze(1) * count * right
    torch.testing.assert_close(graph.adj().to_dense(), expected)
    torch.testing.assert_close(graph.adj_t().to_dense(), expected.T)


def test_edge_weight_follows_the_order_of_the_edges():
    graph = InteractionGraph(torch.tensor([[1, 0, 0], [1, 1, 0]]), 2, 2)
    torch.testing.assert_close(
        graph.edge_weight(), torch.tensor([2**-0.5, 4**-0.5, 2**-0.5])
    )


def test_blocks_are_built_once_and_quietly(path_graph):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert path_graph.adj() is path_graph.adj()
    assert path_graph.adj_t() is path_graph.adj_t()
    assert path_graph.adj().layout == torch.sparse_csr


@given(graph=GRAPHS, pick=st.data())
def test_subgraph_keeps_the_nodes_and_renormalises(graph, pick):
    size = graph.num_edges
    mask = pick.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    kept = graph.subgraph(torch.tensor(mask, dtype=torch.bool))
    pairs = [pair for pair, keep in zip(pairs_of(graph), mask, strict=True) if keep]
    assert pairs_of(kept) == pairs
    assert (kept.num_users, kept.num_items) == (graph.num_users, graph.num_items)
    anew = InteractionGraph(
        torch.tensor(pairs, dtype=torch.int64).view(-1, 2).T,
        graph.num_users,
        graph.num_items,
    )
    assert torch.equal(kept.adj().to_dense(), anew.adj().to_dense())


def test_subgraph_hand_value(path_graph):
    assert path_graph.adj().to_dense()[0, 0] == pytest.approx(2**-0.5)
    kept = path_graph.subgraph(torch.tensor([True, False, True]))
    assert kept.adj().to_dense().tolist() == [[1, 0], [0, 1]]


def test_to_the_same_device_is_the_same_graph(path_graph):
    assert path_graph.to("cpu") is path_graph


def test_repr_states_the_sizes(path_graph):
    assert repr(path_graph) == (
        "InteractionGraph(num_users=2, num_items=2, num_edges=3)"
    )


# construction


@pytest.mark.parametrize(
    ("edge_index", "message"),
    [
        (torch.zeros(3, dtype=torch.int64), r"shape \[2, E\] \(got \[3\]\)"),
        (torch.zeros(3, 2, dtype=torch.int64), r"shape \[2, E\] \(got \[3, 2\]\)"),
        (torch.zeros(2, 3), r"be int64 \(got torch\.float32\)"),
        (torch.zeros(2, 3, dtype=torch.int32), r"be int64 \(got torch\.int32\)"),
        (torch.tensor([[0, 2], [0, 0]]), r"users in \[0, 2\) \(got 2\)"),
        (torch.tensor([[0, -1], [0, 0]]), r"users in \[0, 2\) \(got -1\)"),
        (torch.tensor([[0, 1], [0, 3]]), r"items in \[0, 3\) \(got 3\)"),
        (torch.tensor([[0, 1], [0, -5]]), r"items in \[0, 3\) \(got -5\)"),
    ],
)
def test_bad_edges_are_refused(edge_index, message):
    with pytest.raises(ValueError, match=f"'edge_index' must .*{message}"):
        InteractionGraph(edge_index, 2, 3)


@pytest.mark.parametrize(
    ("splits", "pairs"),
    [
        (("train",), [(1, 2), (0, 1), (0, 0)]),
        (("val",), [(0, 3)]),
        (("train", "val"), [(1, 2), (0, 1), (0, 0), (0, 3)]),
        (["test", "val"], [(1, 0), (2, 3), (0, 3)]),
        ((), []),
    ],
)
def test_from_data_takes_the_splits_in_order(data, splits, pairs):
    graph = InteractionGraph.from_data(data, splits)
    assert pairs_of(graph) == pairs
    assert (graph.num_users, graph.num_items) == (3, 4)


def test_from_data_takes_train_alone_by_default(data):
    assert pairs_of(InteractionGraph.from_data(data)) == [(1, 2), (0, 1), (0, 0)]


def test_from_data_counts_absent_splits_as_empty(data):
    del data["user", "interacts", "item"].val_edge_label_index
    assert pairs_of(InteractionGraph.from_data(data, ("val",))) == []
    assert InteractionGraph.from_data(data, ("train", "val")).num_edges == 3


def test_from_data_refuses_an_unknown_split(data):
    with pytest.raises(ValueError, match=r"'splits' must be among .*\(got 'valid'\)"):
        InteractionGraph.from_data(data, ("valid",))


# the forms that are accepted


def test_as_graph_passes_a_graph_through(path_graph):
    assert as_graph(path_graph, 2, 2) is path_graph


@pytest.mark.parametrize("wrap", [torch.clone, EdgeIndex])
def test_as_graph_takes_an_edge_index(path_graph, wrap):
    graph = as_graph(wrap(path_graph.edge_index), 3, 4)
    assert pairs_of(graph) == pairs_of(path_graph)
    assert (graph.num_users, graph.num_items) == (3, 4)


def test_as_graph_takes_a_sparse_tensor(path_graph):
    torch_sparse = pytest.importorskip("torch_sparse")
    user, item = path_graph.edge_index
    adj_t = torch_sparse.SparseTensor(row=item, col=user, sparse_sizes=(4, 3))
    graph = as_graph(adj_t, 3, 4)
    assert sorted(pairs_of(graph)) == pairs_of(path_graph)
    assert (graph.num_users, graph.num_items) == (3, 4)
    with pytest.raises(ValueError, match=r"4 users and 3 items \(got 3 and 4\)"):
        as_graph(adj_t, 4, 3)


def test_as_graph_refuses_other_sizes(path_graph):
    with pytest.raises(
        ValueError, match=r"must have 3 users and 2 items \(got 2 and 2"
    ):
        as_graph(path_graph, 3, 2)
    with pytest.raises(ValueError, match=r"users in \[0, 1\) \(got 1\)"):
        as_graph(path_graph.edge_index, 1, 2)


@pytest.mark.parametrize(
    ("edges", "name"),
    [
        (None, "NoneType"),
        ([[0], [0]], "list"),
        (torch.eye(2).to_sparse(), "Tensor"),
    ],
)
def test_as_graph_refuses_other_types(edges, name):
    message = rf"'graph' must be an InteractionGraph, an edge_index .*\(got {name}\)"
    with pytest.raises(TypeError, match=message):
        as_graph(edges, 2, 2)


@given(GRAPHS)
def test_pairs_are_found_where_they_first_occur(graph):
    user, item = torch.ones(graph.num_users, graph.num_items).nonzero().T
    pairs = pairs_of(graph)
    expected = [
        pairs.index(pair) if pair in pairs else -1
        for pair in zip(user.tolist(), item.tolist(), strict=True)
    ]
    assert graph.find(user, item).tolist() == expected


def test_mean_item_by_hand(path_graph):
    # u0-i0, u0-i1, u1-i1
    item_emb = torch.tensor([[3.0, 0.0], [0.0, 6.0]])
    assert path_graph.mean_item(item_emb).tolist() == pytest.approx([1, 4])


# a caller's data


def hetero(edge=EDGE, nodes=("user", "item")):
    data = HeteroData()
    for node_type in nodes:
        data[node_type].num_nodes = 3
    data[edge].edge_index = torch.tensor([[0, 1], [2, 0]])
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            hetero(edge=("user", "rates", "movie")),
            r"edge type \('user', 'interacts', 'item'\) \(there are "
            r"\[\('user', 'rates', 'movie'\)\]; from_hetero takes another\)",
        ),
        (hetero(nodes=("user",)), r"number of items: set data\['item'\]\.num_nodes"),
    ],
)
def test_a_callers_data_are_checked_and_stay_as_they_were(data, message):
    before = data.to_dict()
    kinds = data.node_types, data.edge_types
    with pytest.raises(ValueError, match=message):
        InteractionGraph.from_data(data)
    assert (data.node_types, data.edge_types) == kinds
    assert data.to_dict().keys() == before.keys()


def test_validation_is_there_where_it_has_pairs():
    data = HeteroData()
    data[EDGE].edge_index = torch.tensor([[0], [0]])
    assert not has_validation(data)
    data[EDGE].val_edge_label_index = torch.empty(2, 0, dtype=torch.long)
    assert not has_validation(data)
    data[EDGE].val_edge_label_index = torch.tensor([[0], [0]])
    assert has_validation(data)
