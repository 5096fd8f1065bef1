import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.models import EASE, ease
from ddrm_pyg.nn.models._similarity import FactoredScorer
from ddrm_pyg.typing import HasScorer

GRAPHS = st.from_type(InteractionGraph)


def rows_of(graph):
    rows = np.zeros((graph.num_users, graph.num_items))
    rows[tuple(graph.edge_index.numpy())] = 1
    return rows


def naive_weights(graph, l2):
    rows = rows_of(graph)
    inverse = np.linalg.inv(rows.T @ rows + l2 * np.eye(graph.num_items))
    weights = np.zeros_like(inverse)
    for i in range(graph.num_items):
        for j in range(graph.num_items):
            if i != j:
                weights[i, j] = -inverse[i, j] / inverse[j, j]
    return weights


@given(graph=GRAPHS, l2=st.sampled_from([0.1, 1.0, 50.0]))
def test_weights_and_scores_are_the_closed_form(graph, l2):
    scorer = EASE(l2).scorer(graph)
    weights = naive_weights(graph, l2)
    np.testing.assert_allclose(scorer.matrix, weights, rtol=1e-5, atol=1e-6)
    scores = scorer.scores(torch.arange(graph.num_users))
    np.testing.assert_allclose(scores, rows_of(graph) @ weights, rtol=1e-4, atol=1e-5)


@given(graph=GRAPHS, l2=st.sampled_from([0.1, 10.0]))
def test_each_column_is_the_ridge_regression_on_the_other_items(graph, l2):
    # the constraint B_jj = 0 is the regression of item j without itself
    rows, matrix = rows_of(graph), EASE(l2).scorer(graph).matrix
    for j in range(graph.num_items):
        others = np.delete(rows, j, axis=1)
        gram = others.T @ others + l2 * np.eye(others.shape[1])
        expected = np.insert(np.linalg.solve(gram, others.T @ rows[:, j]), j, 0)
        np.testing.assert_allclose(matrix[:, j], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.fidelity("EASE", "weights, Eq. 8", "values by hand", digits=6)
def test_weights_by_hand(path_graph, agrees):
    # gram [[1, 1], [1, 2]] + 1 = [[2, 1], [1, 3]], inverse [[3, -1], [-1, 2]] / 5
    matrix = EASE(1.0).scorer(path_graph).matrix
    agrees(matrix, [[0, 1 / 2], [1 / 3, 0]])


def test_withheld_item_of_the_own_colour_comes_first(checkerboard):
    for l2 in (0.5, 1000.0):
        scorer = EASE(l2).scorer(checkerboard.graph)
        assert torch.equal(checkerboard.first_choice(scorer), checkerboard.withheld)


@pytest.mark.parametrize("l2", [0, -1.0, float("nan")])
def test_l2_must_be_positive(l2):
    with pytest.raises(ValueError, match=rf"'l2' must be positive \(got {l2}\)"):
        EASE(l2)


def test_is_what_the_protocols_ask():
    assert isinstance(EASE(), HasScorer)
    assert repr(EASE(20.0)) == "EASE(l2=20.0)"
    assert repr(EASE(20.0, 8)) == "EASE(l2=20.0, num_factors=8)"


@given(graph=GRAPHS, l2=st.sampled_from([0.1, 1.0, 50.0]))
def test_all_factors_are_the_exact_weights(graph, l2):
    exact = EASE(l2).scorer(graph).matrix
    factored = EASE(l2, num_factors=graph.num_items).scorer(graph)
    weights = factored.left @ factored.embeddings.item.T
    weights.fill_diagonal_(0)
    torch.testing.assert_close(weights, exact, rtol=1e-4, atol=1e-5)


@given(graph=GRAPHS, number=st.integers(1, 4))
def test_factors_are_those_of_the_largest_singular_values(graph, number):
    rows = rows_of(graph.without_repeats())
    _, value, vector = np.linalg.svd(rows, full_matrices=False)
    gap = np.append(value, 0)
    number = min(number, len(value))
    assume(gap[number - 1] - gap[number] > 1e-3)  # else which ones is anyone's choice
    kept = vector[:number].T * value[:number] / np.sqrt(value[:number] ** 2 + 2)
    low = kept @ kept.T
    expected = low / (1 - low.diagonal())
    factored = EASE(2.0, num_factors=number).scorer(graph)
    weights = factored.left @ factored.embeddings.item.T
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-5)


def test_factored_lists_are_the_exact_ones(checkerboard):
    factored = EASE(10.0, num_factors=checkerboard.graph.num_items)
    scorer = factored.scorer(checkerboard.graph)
    assert torch.equal(checkerboard.first_choice(scorer), checkerboard.withheld)
    weight = torch.rand(checkerboard.graph.num_edges)
    again = factored.scorer(checkerboard.graph, history_weight=weight)
    user = torch.arange(checkerboard.graph.num_users)
    assert torch.equal(scorer.weighted(weight).scores(user), again.scores(user))


def test_large_catalogues_get_factors_and_are_told_so(monkeypatch, caplog, path_graph):
    monkeypatch.setattr(ease, "EXACT", 1)
    factored = EASE(1.0).scorer(path_graph)
    assert isinstance(factored, FactoredScorer)
    assert "EASE: 1024 factors in place of exact weights, for 2 items" in caplog.text
    with pytest.raises(ValueError, match=r"'num_factors' must be .* \(got 0\)"):
        EASE(num_factors=0)


def test_history_weights_move_the_rows_and_not_the_weights(path_graph):
    weight = torch.tensor([3.0, 0.5, 2.0])  # user 0: items 0 and 1; user 1: item 1
    model = EASE(1.0)
    plain = model.scorer(path_graph)
    scorer = model.scorer(path_graph, history_weight=weight)
    assert torch.equal(scorer.matrix, plain.matrix)
    rows = torch.tensor([[3.0, 0.5], [0.0, 2.0]])
    torch.testing.assert_close(scorer.scores(torch.tensor([0, 1])), rows @ plain.matrix)
