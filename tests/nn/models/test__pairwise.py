import functools
import math

import pytest
import torch

from ddrm_pyg.datasets import SyntheticInteractions
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.loader import Triplets
from ddrm_pyg.losses import ReweightedLoss, TruncatedLoss, bce_loss, bpr_loss
from ddrm_pyg.nn.models import MF, SGL, LightGCN
from ddrm_pyg.nn.models._pairwise import PairwiseBackend
from ddrm_pyg.ranking import evaluate
from ddrm_pyg.testing import check_backend, check_recommender
from ddrm_pyg.testing import checkerboard as checkerboard_data
from ddrm_pyg.training import fit
from ddrm_pyg.typing import Backend, Recommender

BACKENDS = [MF, LightGCN]
# the published contrast would need more epochs than a test has
LIGHT_SGL = functools.partial(SGL, ssl_weight=0.01, temperature=0.5)
TRAINED = [*BACKENDS, pytest.param(LIGHT_SGL, id="SGL")]

# every rival that needs no model of its own, as constructor arguments
RIVALS = {
    "plain pairwise": dict,
    "plain pointwise": lambda: {"pair_loss": bce_loss},
    "T-CE pairwise": lambda: {
        "pair_loss": TruncatedLoss(bpr_loss, drop_rate=0.1, num_gradual=100)
    },
    "T-CE pointwise": lambda: {
        "pair_loss": TruncatedLoss(bce_loss, drop_rate=0.1, num_gradual=100)
    },
    "R-CE positive": lambda: {"pair_loss": ReweightedLoss(bpr_loss, exponent=0.25)},
    "R-CE difference": lambda: {
        "pair_loss": ReweightedLoss(bpr_loss, exponent=0.25, score="difference")
    },
    "R-CE pointwise": lambda: {"pair_loss": ReweightedLoss(bce_loss, exponent=0.25)},
    "WBPR": lambda: {"negatives": "popularity"},
}


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
    shown = f"{backend.__name__}(num_users=2, num_items=3, embedding_dim=4)"
    assert repr(backend(2, 3, 4)) == shown


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


def weigh_positives(pos_score, neg_score):
    return 10 * pos_score - neg_score


@pytest.mark.parametrize("backend", BACKENDS)
def test_pair_loss_is_a_choice(path_graph, batch, backend):
    model = filled(backend, l2=0, pair_loss=weigh_positives)
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
def test_negatives_option_reaches_the_loader(backend):
    # items 2 to 9 have no interaction
    graph = InteractionGraph(torch.tensor([[0, 1, 1], [0, 1, 1]]), 2, 10)
    generator = torch.Generator().manual_seed(0)
    model = backend(2, 10, negatives="popularity")
    (batch,) = model.batches(graph, batch_size=3, generator=generator)
    assert batch.neg_item.tolist() == (1 - batch.user).tolist()


@pytest.mark.parametrize("backend", BACKENDS)
def test_pointwise_loss_gets_positives_and_negatives_in_one_call(
    path_graph, batch, backend
):
    calls = []

    def spy(score, label):
        calls.append((score, label))
        return bce_loss(score, label)

    model = filled(backend, l2=0, pair_loss=spy)
    loss = only(model.losses(batch, path_graph, generator=None))
    ((score, label),) = calls
    emb, row = model(path_graph), torch.arange(2)
    table = emb.scores(batch.user)
    expected = torch.cat([table[row, batch.pos_item], table[row, batch.neg_item]])
    torch.testing.assert_close(score, expected)
    assert label.tolist() == [1, 1, 0, 0]
    assert loss.shape == (2,)
    torch.testing.assert_close(loss.mean(), bce_loss(score, label).mean())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("plain", [bpr_loss, bce_loss])
def test_penalty_is_neither_truncated_nor_reweighted(path_graph, batch, backend, plain):
    for wrap in (
        lambda loss: TruncatedLoss(loss, drop_rate=0.5),
        lambda loss: ReweightedLoss(loss, exponent=2),
    ):
        model, free = (filled(backend, l2=l2, pair_loss=wrap(plain)) for l2 in (0.5, 0))
        with_penalty, without = (
            only(m.losses(batch, path_graph, generator=None)) for m in (model, free)
        )
        penalty = model.penalty(batch, model(path_graph), generator=None)
        torch.testing.assert_close(with_penalty - without, penalty)


def test_pointwise_truncation_has_the_mean_over_kept_rows(path_graph, batch):
    # scores 8, 3 of positives and 6, 4 of negatives: the positive at 3 is dropped
    model = filled(MF, l2=0, pair_loss=TruncatedLoss(bce_loss, drop_rate=0.25))
    loss = only(model.losses(batch, path_graph, generator=None)).detach()
    kept = [math.log1p(math.exp(s)) for s in (-8, 6, 4)]
    assert float(loss.mean()) == pytest.approx(sum(kept) / 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_counter_of_a_loss_is_in_the_state_dict(path_graph, batch, backend):
    model = filled(backend, pair_loss=TruncatedLoss(bpr_loss, drop_rate=0.1))
    only(model.losses(batch, path_graph, generator=None))
    assert model.state_dict()["pair_loss.step"] == 1
    model.eval()
    only(model.losses(batch, path_graph, generator=None))
    assert model.state_dict()["pair_loss.step"] == 1


@pytest.mark.parametrize("plain", [bpr_loss, bce_loss])
def test_ramp_goes_on_where_a_killed_run_left_it(tmp_path, plain):
    data = checkerboard_data()

    def run(epochs, checkpoint=None):
        torch.manual_seed(0)
        loss = TruncatedLoss(plain, drop_rate=0.4, num_gradual=25)
        model = MF(40, 40, 4, pair_loss=loss)
        fit(
            model,
            data,
            epochs=epochs,
            batch_size=100,
            lr=0.01,
            eval_every=1,
            checkpoint=checkpoint,
        )
        return torch.cat(model())

    straight = run(5)
    checkpoint = tmp_path / "checkpoint.pt"
    run(2, checkpoint)
    assert torch.equal(run(5, checkpoint), straight)


@pytest.mark.parametrize("backend", TRAINED)
@pytest.mark.parametrize("rival", RIVALS)
def test_every_rival_trains_on_every_backend(backend, rival):
    data = checkerboard_data()
    torch.manual_seed(0)
    model = backend(40, 40, 8, **RIVALS[rival]())
    graph = InteractionGraph.from_data(data)
    check_backend(model, graph)
    check_recommender(model, data)
    fit(model, data, epochs=12, batch_size=100, lr=0.05, eval_every=12)
    # the right one of 21 unseen items
    assert evaluate(model.scorer(graph), data, k=(1,))["recall@1"] > 0.7


@pytest.fixture(scope="module")
def planted():
    return SyntheticInteractions(60, 80, 1200)[0]


@pytest.mark.parametrize("backend", TRAINED)
@pytest.mark.parametrize("rival", RIVALS)
def test_every_rival_learns_from_noisy_clicks(planted, backend, rival, share_above):
    graph = InteractionGraph.from_data(planted)
    torch.manual_seed(0)
    model = backend(60, 80, 8, **RIVALS[rival]())
    fit(model, planted, epochs=6, batch_size=128, lr=0.02, eval_every=6)
    assert share_above(model.scorer(graph), graph) > 0.6  # 0.5 without learning


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
def test_a_loss_of_neither_kind_is_refused(backend):
    with pytest.raises(TypeError, match="second parameter named 'neg_score'"):
        backend(2, 2, pair_loss=lambda pos, neg: pos - neg)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_users": 0}, r"'num_users' must be >= 1 \(got 0\)"),
        ({"num_items": 0}, r"'num_items' must be >= 1 \(got 0\)"),
        ({"embedding_dim": -1}, r"'embedding_dim' must be >= 1 \(got -1\)"),
        ({"l2": -0.1}, r"'l2' must be >= 0 \(got -0\.1\)"),
        ({"l2": float("nan")}, r"'l2' must be >= 0 \(got nan\)"),
        ({"init_std": -1}, r"'init_std' must be >= 0 \(got -1\)"),
        ({"users": "all"}, r"'users' must be one of .*\(got 'all'\)"),
        ({"negatives": "all"}, r"'negatives' must be one of .*\(got 'all'\)"),
    ],
)
def test_bad_arguments_are_refused(backend, arguments, message):
    with pytest.raises(ValueError, match=message):
        backend(**{"num_users": 2, "num_items": 2, **arguments})
