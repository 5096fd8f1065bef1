import math

import pytest
import torch
from torch.nn import functional as F

from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.loader import RowTable
from ddrm_pyg.nn.models import CDAE


@pytest.fixture
def graph():
    """User 0 owns 3 of 5 items, user 1 one, user 2 none, user 3 all of them."""
    owned = [(0, 0), (0, 2), (0, 3), (1, 4)] + [(3, i) for i in range(5)]
    return InteractionGraph(torch.tensor(owned).T, 4, 5)


def make(**options):
    torch.manual_seed(0)
    return CDAE(4, 5, 3, **options)


def loss_of(model, graph, user, seed=0):
    batch = RowTable(graph).rows(torch.tensor(user))
    generator = torch.Generator().manual_seed(seed)
    (loss,) = model.losses(batch, graph, generator=generator)
    return loss


def by_hand(model, row, user):
    hidden = model.activation(
        model.encoder.weight @ row + model.encoder.bias + model.user_table[user]
    )
    return model.decoder.weight @ hidden + model.decoder.bias


@pytest.mark.fidelity(
    "CDAE",
    "scores and the full loss",
    "the equations for a user, by hand",
    digits=5,
)
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_without_corruption_it_is_a_plain_auto_encoder(graph, activation, agrees):
    model = make(corruption=0.0, activation=activation)
    row = torch.tensor([1.0, 0, 1, 1, 0])
    logits = by_hand(model, row, 0)
    scores = model.scorer(graph).scores(torch.tensor([0]))
    agrees(scores[0], logits)
    share = logits.double().sigmoid()
    expected = -(row * share.log() + (1 - row) * (1 - share).log()).sum()
    agrees(loss_of(model, graph, [0])[0], expected)


def test_ranking_reads_the_uncorrupted_row(graph):
    model = make(corruption=0.9).train()
    expected = by_hand(model, torch.tensor([1.0, 0, 1, 1, 0]), 0)
    scores = model.scorer(graph).scores(torch.tensor([0]))
    torch.testing.assert_close(scores[0], expected)


def test_full_corruption_leaves_the_users_vector(graph):
    model = make(corruption=1.0)
    logits = by_hand(model, torch.zeros(5), 0)
    row = torch.tensor([1.0, 0, 1, 1, 0])
    expected = F.binary_cross_entropy_with_logits(logits, row, reduction="sum")
    torch.testing.assert_close(loss_of(model, graph, [0])[0], expected)


def test_corruption_keeps_the_mean_row_and_drops_interactions_only(graph):
    model = make(corruption=0.4, activation="relu")
    with torch.no_grad():
        # the hidden layer counts the row, the decoder copies the count
        for parameter in model.parameters():
            parameter.zero_()
        model.encoder.weight.fill_(1)
        model.encoder.bias.fill_(1)
    seen = []
    model.decoder.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    for seed in range(2000):
        loss_of(model, graph, [0], seed)
    count = torch.cat(seen)[:, 0] - 1
    assert float(count.mean()) == pytest.approx(3, abs=0.15)
    kept = (count * 0.6).round().unique().tolist()
    assert kept == [0, 1, 2, 3]


@pytest.mark.parametrize(("loss", "terms"), [("full", [5, 5]), ("sampled", [18, 6])])
def test_zero_weights_cost_log_two_a_term(graph, loss, terms):
    model = make(loss=loss, num_negatives=5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert model.scorer(graph).scores(torch.tensor([0])).sigmoid().unique() == 0.5
    costs = loss_of(model, graph, [0, 1])
    assert costs.tolist() == pytest.approx([n * math.log(2) for n in terms])


def test_sampled_loss_is_of_positives_and_of_negatives_only(graph):
    model = make(loss="sampled", num_negatives=2, corruption=0.0)
    logits = by_hand(model, torch.tensor([1.0, 0, 1, 1, 0]), 0).detach()
    positive = F.softplus(-logits[[0, 2, 3]]).sum()
    # six draws from items 1 and 4
    possible = [
        float(positive + n * F.softplus(logits[1]) + (6 - n) * F.softplus(logits[4]))
        for n in range(7)
    ]
    for seed in range(10):
        (cost,) = loss_of(model, graph, [0], seed).tolist()
        assert min(abs(cost - value) for value in possible) < 1e-5


def test_an_owner_of_everything_has_positives_only(graph):
    model = make(loss="sampled", corruption=0.0)
    logits = by_hand(model, torch.ones(5), 3)
    both = loss_of(model, graph, [1, 3])
    torch.testing.assert_close(both[1], F.softplus(-logits).sum())


def test_a_repeated_pair_is_one_entry():
    once = InteractionGraph(torch.tensor([[0, 0], [1, 2]]), 4, 5)
    twice = InteractionGraph(torch.tensor([[0, 0, 0], [1, 2, 1]]), 4, 5)
    for loss in ("full", "sampled"):
        model = make(loss=loss)
        assert torch.equal(loss_of(model, once, [0]), loss_of(model, twice, [0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_users": 0}, r"'num_users' must be >= 1 \(got 0\)"),
        ({"num_items": 0}, r"'num_items' must be >= 1 \(got 0\)"),
        ({"embedding_dim": 0}, r"'embedding_dim' must be >= 1 \(got 0\)"),
        ({"num_negatives": 0}, r"'num_negatives' must be >= 1 \(got 0\)"),
        ({"corruption": 1.5}, r"'corruption' must lie in \[0, 1\] \(got 1.5\)"),
        ({"loss": "bpr"}, r"'loss' must be one of .*\(got 'bpr'\)"),
        ({"activation": "sin"}, r"'activation' must be one of .*\(got 'sin'\)"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CDAE(**{"num_users": 2, "num_items": 3, **options})


def test_users_of_another_graph_are_refused(graph):
    with pytest.raises(ValueError, match=r"'graph' must have 3 users \(got 4\)"):
        CDAE(3, 5).scorer(graph)
