import torch
from hypothesis import given
from hypothesis import strategies as st

from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.models._similarity import SimilarityScorer, cooccurrence
from ddrm_pyg.typing import Scorer


def binary_rows(graph):
    rows = torch.zeros(graph.num_users, graph.num_items)
    rows[tuple(graph.edge_index)] = 1
    return rows


@given(graph=st.from_type(InteractionGraph), pick=st.data())
def test_cooccurrence_counts_shared_users(graph, pick):
    graph = graph.without_repeats()
    stop = pick.draw(st.integers(1, graph.num_items))
    start = pick.draw(st.integers(0, stop - 1))
    rows = binary_rows(graph)
    expected = (rows.T @ rows)[:, start:stop]
    assert torch.equal(cooccurrence(graph, start, stop), expected)


@given(graph=st.from_type(InteractionGraph), pick=st.data())
def test_scores_sum_the_matrix_rows_of_the_users_items(graph, pick):
    graph = graph.without_repeats()
    user = pick.draw(st.lists(st.integers(0, graph.num_users - 1), max_size=5))
    user = torch.tensor(user, dtype=torch.int64)
    matrix = torch.arange(float(graph.num_items**2)).view(-1, graph.num_items)
    expected = binary_rows(graph)[user] @ matrix
    for form in (matrix, matrix.to_sparse_csr()):
        scorer = SimilarityScorer(graph, form)
        assert isinstance(scorer, Scorer)
        assert torch.equal(scorer.scores(user), expected)


def test_hand_values(path_graph):
    assert cooccurrence(path_graph, 0, 2).tolist() == [[1, 1], [1, 2]]
    scorer = SimilarityScorer(path_graph, torch.tensor([[1.0, 2.0], [10.0, 20.0]]))
    assert scorer.scores(torch.tensor([1, 0])).tolist() == [[10, 20], [11, 22]]
