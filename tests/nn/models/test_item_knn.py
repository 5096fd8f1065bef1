import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.models import ItemKNN, _similarity, item_knn
from ddrm_pyg.typing import HasScorer

GRAPHS = st.from_type(InteractionGraph)


def naive_cosine(graph):
    owners = [set() for _ in range(graph.num_items)]
    for user, item in graph.edge_index.T.tolist():
        owners[item].add(user)
    cosine = np.zeros((graph.num_items, graph.num_items))
    for i, a in enumerate(owners):
        for j, b in enumerate(owners):
            if i != j and a and b:
                cosine[i, j] = len(a & b) / math.sqrt(len(a) * len(b))
    return cosine


def rows_of(graph):
    rows = np.zeros((graph.num_users, graph.num_items))
    rows[tuple(graph.edge_index.numpy())] = 1
    return rows


@given(GRAPHS)
def test_all_neighbours_are_the_naive_cosine(graph):
    scorer = ItemKNN().scorer(graph)
    cosine = naive_cosine(graph)
    np.testing.assert_allclose(scorer.matrix, cosine, atol=1e-6)
    scores = scorer.scores(torch.arange(graph.num_users))
    np.testing.assert_allclose(scores, rows_of(graph) @ cosine, atol=1e-5)


@given(graph=GRAPHS, k=st.integers(1, 8))
def test_each_column_keeps_its_k_largest(graph, k):
    matrix = ItemKNN(k).scorer(graph).matrix.to_dense().numpy()
    cosine = naive_cosine(graph)
    for kept, column in zip(matrix.T, cosine.T, strict=True):
        best = np.sort(column)[::-1][:k]
        np.testing.assert_allclose(np.sort(kept)[::-1][: len(best)], best, atol=1e-6)
        assert np.count_nonzero(kept) == np.count_nonzero(best)
        chosen = kept != 0
        np.testing.assert_allclose(kept[chosen], column[chosen], atol=1e-6)


@given(graph=GRAPHS, k=st.one_of(st.none(), st.integers(1, 8)))
def test_no_item_is_its_own_neighbour(graph, k):
    matrix = ItemKNN(k).scorer(graph).matrix.to_dense()
    assert matrix.diagonal().count_nonzero() == 0


@pytest.mark.parametrize("k", [None, 2])
def test_similarity_by_hand(path_graph, k):
    # item 0 has user 0, item 1 both: 1 / sqrt(1 * 2)
    scores = ItemKNN(k).scorer(path_graph).scores(torch.tensor([0, 1]))
    root = 2**-0.5
    torch.testing.assert_close(scores, torch.tensor([[root, root], [root, 0.0]]))


@pytest.mark.parametrize("k", [None, 2])
def test_withheld_item_of_the_own_colour_comes_first(checkerboard, k):
    scorer = ItemKNN(k).scorer(checkerboard.graph)
    assert torch.equal(checkerboard.first_choice(scorer), checkerboard.withheld)


@pytest.mark.parametrize("k", [None, 3])
@pytest.mark.parametrize("cells", [1, 100])
@pytest.mark.parametrize("crowded", [0, 99])
@pytest.mark.parametrize("threads", [1, 3])
def test_how_neighbours_are_counted_changes_nothing(
    checkerboard, k, cells, crowded, threads, monkeypatch
):
    whole = ItemKNN(k).scorer(checkerboard.graph).matrix.to_dense()
    monkeypatch.setattr(_similarity, "_CELLS", cells)
    monkeypatch.setattr(_similarity, "_CROWDED", crowded)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(_similarity, "_FEW", 0)
    in_blocks = ItemKNN(k).scorer(checkerboard.graph).matrix.to_dense()
    assert torch.equal(in_blocks, whole)


@given(
    graph=GRAPHS,
    k=st.integers(1, 8),
    cells=st.sampled_from([1, 8, 999]),
    crowded=st.sampled_from([0, 99]),
)
def test_of_equal_neighbours_the_first_items_stay(graph, k, cells, crowded):
    whole = ItemKNN().scorer(graph).matrix.numpy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_similarity, "_CELLS", cells)
        patch.setattr(_similarity, "_CROWDED", crowded)
        matrix = ItemKNN(k).scorer(graph).matrix
    best = np.argsort(-whole, axis=0, kind="stable")[:k]
    expected = np.zeros_like(whole)
    np.put_along_axis(expected, best, np.take_along_axis(whole, best, 0), 0)
    np.testing.assert_array_equal(matrix.to_dense(), expected)
    assert int(matrix.values().numel()) == np.count_nonzero(expected)


@pytest.mark.parametrize("below", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("k", [1, 3, 20])
def test_entries_that_are_left_out_early_change_nothing(below, k, monkeypatch):
    user, item = torch.randint(40, (2, 400), generator=torch.Generator().manual_seed(0))
    graph = InteractionGraph(torch.stack([user, item]), 40, 40).without_repeats()
    dense = ItemKNN(k).scorer(graph).matrix.to_dense()
    monkeypatch.setattr(_similarity, "_CROWDED", 99)
    monkeypatch.setattr(_similarity, "_CELLS", 200)  # a few rows each: floors differ
    monkeypatch.setattr(item_knn, "_BELOW", below)
    assert torch.equal(ItemKNN(k).scorer(graph).matrix.to_dense(), dense)


def test_neighbours_are_stored_and_nothing_else(path_graph):
    # where fewer than k items share a user there is nothing to keep
    for k in (1, 5):
        assert ItemKNN(k).scorer(path_graph).matrix.values().numel() == 2


@pytest.mark.parametrize("k", [None, 2])
def test_nothing_is_warned_about(path_graph, k):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ItemKNN(k).scorer(path_graph).scores(torch.tensor([0]))


def test_arguments(path_graph):
    assert isinstance(ItemKNN(), HasScorer)
    assert repr(ItemKNN(7)) == "ItemKNN(k=7)"
    with pytest.raises(ValueError, match=r"'k' must be >= 1 \(got 0\)"):
        ItemKNN(0)


def test_history_weights_move_the_rows_and_not_the_similarities(path_graph):
    weight = torch.tensor([3.0, 0.5, 2.0])  # user 0: items 0 and 1; user 1: item 1
    model = ItemKNN()
    plain = model.scorer(path_graph)
    scorer = model.scorer(path_graph, history_weight=weight)
    assert torch.equal(scorer.matrix, plain.matrix)
    rows = torch.tensor([[3.0, 0.5], [0.0, 2.0]])
    torch.testing.assert_close(scorer.scores(torch.tensor([0, 1])), rows @ plain.matrix)
