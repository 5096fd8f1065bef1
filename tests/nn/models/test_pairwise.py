import math

import pytest
import torch

from ddrm_pyg.loader import Triplets
from ddrm_pyg.nn.models import MF, LightGCN
from ddrm_pyg.nn.models._pairwise import PairwiseBackend
from ddrm_pyg.typing import Backend, Recommender

BACKENDS = [MF, LightGCN]


@pytest.fixture
def batch():
    return Triplets(torch.tensor([1, 0]), torch.tensor([1, 0]), torch.tensor([0, 1]))


def filled(backend, **options):
    model = backend(2, 2, 1, **options)
    with torch.no_grad():
        model.user_table.copy_(torch.tensor([[1.0], [2.0]]))
        model.item_table.copy_(torch.tensor([[3.0], [4.0]]))
    return model


def only(iterator):
    (value,) = iterator
    return value


@pytest.mark.parametrize("backend", BACKENDS)
def test_is_what_the_protocols_ask(backend):
    assert isinstance(backend(2, 3), Recommender)
    assert isinstance(backend(2, 3), Backend)
    assert repr(backend(2, 3, 4)) == f"{backend.__name__}(2, 3, embedding_dim=4)"


def test_loss_per_triplet_by_hand(path_graph, batch):
    # scores 2 * 4 against 2 * 3, and 1 * 3 against 1 * 4
    loss = only(filled(MF, l2=0).losses(batch, path_graph, generator=None))
    expected = [math.log1p(math.exp(-2)), math.log1p(math.exp(1))]
    assert loss.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_penalty_is_half_the_squares_of_the_tables_rows(path_graph, batch, backend):
    model = filled(backend, l2=0.5)
    penalty = model.penalty(batch, model(path_graph), generator=None)
    assert penalty.tolist() == [0.25 * (4 + 16 + 9), 0.25 * (1 + 9 + 16)]
    free = filled(backend, l2=0)
    with_penalty, without = (
        only(m.losses(batch, path_graph, generator=None)) for m in (model, free)
    )
    torch.testing.assert_close(with_penalty - without, penalty)


@pytest.mark.parametrize("backend", BACKENDS)
def test_pair_loss_is_a_choice(path_graph, batch, backend):
    model = filled(backend, l2=0, pair_loss=lambda pos, neg: 10 * pos - neg)
    emb = model(path_graph)
    score = emb.scores(batch.user)
    row = torch.arange(2)
    expected = 10 * score[row, batch.pos_item] - score[row, batch.neg_item]
    loss = only(model.losses(batch, path_graph, generator=None))
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_tables_start_normal_and_repeat_with_the_seed(backend):
    torch.manual_seed(0)
    model = backend(300, 200, 40, init_std=0.3)
    for table, size in ((model.user_table.data, 300), (model.item_table.data, 200)):
        assert table.shape == (size, 40)
        assert float(table.std()) == pytest.approx(0.3, rel=0.04)
        assert abs(float(table.mean())) < 5 * 0.3 / table.numel() ** 0.5
    before = model.user_table.clone()
    model.reset_parameters()
    assert not torch.equal(model.user_table, before)
    torch.manual_seed(0)
    model.reset_parameters()
    assert torch.equal(model.user_table, before)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_epoch_visits_every_interaction(checkerboard, backend):
    generator = torch.Generator().manual_seed(0)
    batches = backend(12, 12).batches(
        checkerboard.graph, batch_size=25, generator=generator
    )
    batches = list(batches)
    assert [b.user.numel() for b in batches] == [25, 25, 10]
    visited = torch.cat([torch.stack([b.user, b.pos_item]) for b in batches], dim=1)
    assert sorted(visited.T.tolist()) == checkerboard.graph.edge_index.T.tolist()


@pytest.mark.parametrize("backend", BACKENDS)
def test_users_option_reaches_the_loader(checkerboard, backend):
    generator = torch.Generator().manual_seed(0)
    model = backend(12, 12, users="uniform")
    (batch,) = model.batches(checkerboard.graph, batch_size=60, generator=generator)
    drawn = torch.stack([batch.user, batch.pos_item])
    assert drawn.unique(dim=1).size(1) < 60  # with replacement


@pytest.mark.parametrize("backend", BACKENDS)
def test_scorer_is_the_embedding(path_graph, backend):
    model = filled(backend)
    user = torch.tensor([1, 0])
    expected = model(path_graph).scores(user)
    torch.testing.assert_close(model.scorer(path_graph).scores(user), expected)


def test_base_class_leaves_the_embedding_to_others(path_graph):
    base = PairwiseBackend(2, 2, 1, l2=0, init_std=0.1, users="interactions")
    with pytest.raises(NotImplementedError):
        base(path_graph)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_users": 0}, r"'num_users' must be >= 1 \(got 0\)"),
        ({"num_items": 0}, r"'num_items' must be >= 1 \(got 0\)"),
        ({"embedding_dim": -1}, r"'embedding_dim' must be >= 1 \(got -1\)"),
        ({"l2": -0.1}, r"'l2' must be >= 0 \(got -0\.1\)"),
        ({"l2": float("nan")}, r"'l2' must be >= 0 \(got nan\)"),
    ],
)
def test_bad_arguments_are_refused(backend, arguments, message):
    with pytest.raises(ValueError, match=message):
        backend(**{"num_users": 2, "num_items": 2, **arguments})
