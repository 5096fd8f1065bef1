import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.models import _similarity
from ddrm_pyg.nn.models._similarity import (
    SimilarityScorer,
    cooccurrence,
    inverse_gram,
    of_neighbours,
    shared_users,
)
from ddrm_pyg.typing import Scorer


def binary_rows(graph):
    rows = torch.zeros(graph.num_users, graph.num_items)
    rows[tuple(graph.edge_index)] = 1
    return rows


def as_dense(block):
    return block.copy() if isinstance(block, np.ndarray) else block.toarray()


@given(graph=st.from_type(InteractionGraph), columns=st.integers(1, 4))
def test_cooccurrence_counts_shared_users(graph, columns):
    graph = graph.without_repeats()
    rows = binary_rows(graph)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_similarity, "COLUMNS", columns)
        starts, blocks = zip(*cooccurrence(graph), strict=True)
        inverse = inverse_gram(graph, 2.0)
    assert starts == tuple(range(0, graph.num_items, columns))
    assert torch.equal(torch.cat(blocks, dim=1), rows.T @ rows)
    gram = (rows.T @ rows).double().fill_diagonal_(0)
    gram += torch.diag(rows.sum(0) + 2).double()
    torch.testing.assert_close(inverse @ gram, torch.eye(graph.num_items).double())


@pytest.mark.parametrize("long", [3, 4])
def test_a_step_that_cannot_be_left_is_announced(caplog, monkeypatch, long):
    monkeypatch.setattr(_similarity, "_LONG", long)
    graph = InteractionGraph(torch.tensor([[0, 1], [0, 2]]), 2, 3)
    with caplog.at_level("INFO", "ddrm_pyg"):
        inverse_gram(graph, 2.0)
    announced = "inverting the counts of 3 items: Ctrl-C takes effect after this step"
    assert caplog.messages == [announced] * (long == 3)


@given(
    graph=st.from_type(InteractionGraph),
    cells=st.sampled_from([1, 4, 99]),
    crowded=st.sampled_from([0.0, 0.5, 99.0]),
    threads=st.integers(1, 3),
)
def test_neighbours_are_counted_for_every_item_once(graph, cells, crowded, threads):
    graph = graph.without_repeats()
    rows = binary_rows(graph)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_similarity, "_CELLS", cells)
        patch.setattr(_similarity, "_CROWDED", crowded)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        patch.setattr(_similarity, "_FEW", 0)
        items, kinds, blocks = zip(
            *of_neighbours(
                graph, lambda item, block: (item, type(block), as_dense(block))
            ),
            strict=True,
        )
        starts, dense = zip(*shared_users(graph), strict=True)
    item = np.concatenate(items)
    np.testing.assert_array_equal(np.concatenate(blocks), (rows.T @ rows)[item])
    assert sorted(item) == list(range(graph.num_items))
    for block in blocks:  # none is larger than the limit but for one item
        longest = np.count_nonzero(block, axis=1).max()
        assert len(block) == 1 or len(block) * longest <= cells
    if crowded in (0.0, 99.0):
        assert set(kinds) == {np.ndarray if crowded == 0.0 else csr_array}
    assert torch.equal(torch.cat(dense), rows.T @ rows)
    assert list(starts) == [0, *np.cumsum([len(block) for block in dense])[:-1]]


@given(graph=st.from_type(InteractionGraph), pick=st.data())
def test_scores_sum_the_matrix_rows_of_the_users_items(graph, pick):
    graph = graph.without_repeats()
    user = pick.draw(st.lists(st.integers(0, graph.num_users - 1), max_size=5))
    user = torch.tensor(user, dtype=torch.int64)
    matrix = torch.arange(float(graph.num_items**2)).view(-1, graph.num_items)
    expected = binary_rows(graph)[user] @ matrix
    forms = [
        (matrix, 0.0),
        (matrix.to_sparse_csr(), 0.0),
        (matrix.to_sparse_csr(), 1.0),
    ]
    for form, dense_from in forms:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_similarity, "_DENSE", dense_from)
            patch.setattr(_similarity, "COLUMNS", 4)
            scorer = SimilarityScorer(graph, form)
        assert isinstance(scorer, Scorer)
        assert torch.equal(scorer.scores(user), expected)


@given(graph=st.from_type(InteractionGraph), seed=st.integers(0, 99))
def test_weighted_rows_sum_weighted_matrix_rows(graph, seed):
    graph = graph.without_repeats()
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand(graph.num_edges, generator=generator)
    matrix = torch.randn(graph.num_items, graph.num_items, generator=generator)
    rows = torch.zeros(graph.num_users, graph.num_items)
    rows[tuple(graph.edge_index)] = weight
    scores = SimilarityScorer(graph, matrix, weight).scores(
        torch.arange(graph.num_users)
    )
    torch.testing.assert_close(scores, rows @ matrix, rtol=1e-4, atol=1e-5)


@given(graph=st.from_type(InteractionGraph))
def test_equal_weights_change_no_bit(graph):
    matrix = torch.rand(
        graph.num_items, graph.num_items, generator=torch.Generator().manual_seed(0)
    )
    plain, weighted = (
        SimilarityScorer(graph, matrix, weight).scores(torch.arange(graph.num_users))
        for weight in (None, torch.ones(graph.num_edges))
    )
    assert torch.equal(plain, weighted)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.ones(2), r"one value per interaction, 3 \(got shape \[2\]\)"),
        (torch.tensor([1.0, -1.0, 1.0]), "must be finite and >= 0"),
        (torch.tensor([1.0, torch.nan, 1.0]), "must be finite and >= 0"),
    ],
)
def test_weights_that_do_not_fit_are_refused(path_graph, weight, message):
    with pytest.raises(ValueError, match=message):
        SimilarityScorer(path_graph, torch.eye(2), weight)


def test_hand_values(path_graph):
    ((start, block),) = cooccurrence(path_graph)
    assert (start, block.tolist()) == (0, [[1, 1], [1, 2]])
    scorer = SimilarityScorer(path_graph, torch.tensor([[1.0, 2.0], [10.0, 20.0]]))
    assert scorer.scores(torch.tensor([1, 0])).tolist() == [[10, 20], [11, 22]]
    weight = torch.tensor([3.0, 0.5, 2.0])  # user 0: items 0 and 1; user 1: item 1
    scorer = SimilarityScorer(path_graph, scorer.matrix, weight)
    assert scorer.scores(torch.tensor([1, 0])).tolist() == [[20, 40], [8, 16]]


def test_other_weights_share_the_matrix(path_graph):
    matrix = torch.tensor([[0.0, 2.0], [1.0, 0.0]])
    weight = torch.tensor([3.0, 0.5, 2.0])
    plain = SimilarityScorer(path_graph, matrix)
    other = plain.weighted(weight)
    assert other.matrix is plain.matrix
    user = torch.arange(2)
    expected = SimilarityScorer(path_graph, matrix, weight).scores(user)
    assert torch.equal(other.scores(user), expected)
    assert torch.equal(other.weighted(None).scores(user), plain.scores(user))
    with pytest.raises(ValueError, match="'weight' must be finite and >= 0"):
        plain.weighted(-weight)


@pytest.mark.parametrize("threads", [1, 2])
def test_no_more_blocks_are_counted_than_threads_look_at(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(_similarity, "_FEW", 0)
    monkeypatch.setattr(_similarity, "_CELLS", 1)
    item = torch.arange(30)
    graph = InteractionGraph(torch.stack([item, item]), 30, 30)
    begun = []
    blocks = of_neighbours(graph, lambda item, _: begun.append(item.item()))
    next(blocks)
    blocks.close()
    assert len(begun) <= threads + 1


@pytest.mark.parametrize("threads", [1, 2])
def test_what_a_block_raises_arrives(threads, monkeypatch, path_graph):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(_similarity, "_FEW", 0)

    def fail(item, counts):
        raise MemoryError(f"items {item.tolist()}")

    with pytest.raises(MemoryError, match=r"items \["):
        list(of_neighbours(path_graph, fail))
