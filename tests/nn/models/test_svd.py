import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.models import SVD, ItemKNN
from ddrm_pyg.testing import check_scorer
from ddrm_pyg.typing import HasScorer

GRAPHS = st.from_type(InteractionGraph)


def normalised_rows(graph):
    rows = np.zeros((graph.num_users, graph.num_items))
    rows[tuple(graph.edge_index.numpy())] = 1
    return rows / np.sqrt(rows.sum(0).clip(min=1))


def random_graph(num_users, num_items, num_edges=600):
    generator = torch.Generator().manual_seed(0)
    user = torch.randint(num_users, (num_edges,), generator=generator)
    item = torch.randint(num_items, (num_edges,), generator=generator)
    return InteractionGraph(torch.stack([user, item]), num_users, num_items)


@pytest.mark.fidelity(
    "SVD",
    "inner products of item vectors at full and at low rank",
    "NumPy's dense decomposition",
    digits=5,
)
@pytest.mark.parametrize(("num_users", "num_items"), [(90, 60), (60, 90)])
@pytest.mark.parametrize("width", [1, 7, 40])  # by Lanczos twice, and dense
def test_is_the_dense_svd(num_users, num_items, width, agrees):
    graph = random_graph(num_users, num_items)
    emb = SVD(width).scorer(graph)
    _, singular, right = np.linalg.svd(normalised_rows(graph), full_matrices=False)
    table = right[:width].T * singular[:width]
    table /= np.linalg.norm(table, axis=1).mean()
    assert emb.item.shape == (graph.num_items, width)
    # vectors of equal singular values may be turned: inner products may not
    agrees(emb.item @ emb.item.T, table @ table.T)


@given(GRAPHS)
def test_any_graph_at_full_rank_is_item_cosine(graph):
    rank = int(np.linalg.matrix_rank(normalised_rows(graph)))
    assume(rank > 0)
    pairs = graph.without_repeats()
    cosine = ItemKNN().scorer(pairs).matrix
    cosine[range(graph.num_items), range(graph.num_items)] = (
        pairs.degree("item") > 0
    ).float()  # every item is like itself
    emb = SVD(rank).scorer(pairs)
    scale = (cosine.diagonal().sum() / graph.num_items) ** -2  # mean length to 1
    torch.testing.assert_close(emb.item @ emb.item.T, cosine * scale)
    mean = pairs.history_mean(cosine) * scale  # rows of cosines, averaged
    has_items = pairs.degree("user") > 0
    torch.testing.assert_close((emb.user @ emb.item.T)[has_items], mean[has_items])


def test_by_hand(path_graph):
    # cosine [[1, r], [r, 1]] with r = 2 ** -.5: eigenvalues 1 + r and 1 - r, vectors
    # (1, 1) and (1, -1) over the root of 2; at width 1 both rows have one length
    emb = SVD(1).scorer(path_graph)
    torch.testing.assert_close(emb, Embeddings(torch.ones(2, 1), torch.ones(2, 1)))


def test_rows_have_length_one_on_average():
    item = SVD(7).scorer(random_graph(90, 60)).item
    torch.testing.assert_close(item.norm(dim=1).mean(), torch.tensor(1.0))


@pytest.mark.parametrize(("num_users", "num_items"), [(90, 60), (60, 90)])
def test_signs_and_order_are_fixed(num_users, num_items):
    graph = random_graph(num_users, num_items)
    item = SVD(7).scorer(graph).item
    assert torch.equal(item.amax(0), item.abs().amax(0))
    assert torch.equal(item.norm(dim=0).sort(descending=True).values, item.norm(dim=0))
    # another first vector ends in the same place but for rounding
    torch.testing.assert_close(SVD(7, seed=1).scorer(graph).item, item)


def test_same_seed_same_bits():
    graph = random_graph(90, 60)
    state = torch.get_rng_state()
    first, second = (SVD(7, seed=3).scorer(graph) for _ in range(2))
    assert torch.equal(first.item, second.item)
    assert torch.equal(first.user, second.user)
    assert torch.equal(torch.get_rng_state(), state)


def test_same_seed_same_bits_where_singular_values_are_equal():
    # 60 users in 2 equal camps: iterations end early and begin anew elsewhere
    same_camp = torch.arange(60).unsqueeze(1) % 2 == torch.arange(60) % 2
    graph = InteractionGraph(same_camp.nonzero().T, 60, 60)
    first, second = (SVD(2).scorer(graph).item for _ in range(2))
    assert torch.equal(first, second)
    torch.testing.assert_close(first @ first.T, same_camp.float())


def test_repeats_count_once_in_the_decomposition_and_twice_in_the_mean():
    edge_index = torch.tensor([[0, 0, 1], [0, 1, 1]])
    plain = SVD(2).scorer(InteractionGraph(edge_index, 2, 2))
    doubled = torch.cat([edge_index, edge_index[:, :1]], dim=1)
    emb = SVD(2).scorer(InteractionGraph(doubled, 2, 2))
    assert torch.equal(emb.item, plain.item)
    torch.testing.assert_close(emb.user[0], (2 * plain.item[0] + plain.item[1]) / 3)


def test_history_weights_move_users_and_not_items(path_graph):
    model, weight = SVD(2), torch.tensor([3.0, 1.0, 2.0])
    plain = model.scorer(path_graph)
    emb = model.scorer(path_graph, history_weight=weight)
    assert torch.equal(emb.item, plain.item)
    torch.testing.assert_close(emb.user[0], (3 * plain.item[0] + plain.item[1]) / 4)


def test_withheld_item_of_the_own_colour_comes_first(checkerboard):
    emb = SVD(2).scorer(checkerboard.graph)
    assert torch.equal(checkerboard.first_choice(emb), checkerboard.withheld)
    check_scorer(emb, 12, 12)


@pytest.mark.parametrize("width", [3, 12, 13])
@pytest.mark.parametrize("num_users", [12, 8])
def test_width_above_the_rank_is_the_rank_and_said(num_users, width, caplog):
    # what rows of two kinds span; above the numbers of users and items, too
    same_colour = torch.arange(num_users).unsqueeze(1) % 2 == torch.arange(12) % 2
    graph = InteractionGraph(same_colour.nonzero().T, num_users, 12)
    full = SVD(2).scorer(graph)
    assert "SVD:" not in caplog.text
    emb = SVD(width).scorer(graph)
    assert emb.item.shape == (12, 2)
    torch.testing.assert_close(emb.item @ emb.item.T, full.item @ full.item.T)
    message = (
        f"SVD: 2 wide, the rank of the train interactions ({width} were asked for)"
    )
    assert message in caplog.text


@pytest.mark.parametrize("num_nodes", [5, 60])
def test_nothing_to_decompose_is_refused(num_nodes):
    graph = InteractionGraph(torch.empty(2, 0, dtype=torch.int64), num_nodes, num_nodes)
    with pytest.raises(ValueError, match="'graph' must have train interactions"):
        SVD(1).scorer(graph)


def test_arguments():
    assert isinstance(SVD(), HasScorer)
    assert repr(SVD(8)) == "SVD(embedding_dim=8)"
    with pytest.raises(ValueError, match=r"'embedding_dim' must be >= 1 \(got 0\)"):
        SVD(0)
