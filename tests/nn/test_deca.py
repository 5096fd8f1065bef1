import copy
import functools
import math

import pytest
import torch
from torch import nn

from ddrm_pyg.datasets import SyntheticInteractions
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.graph.sampling import draw_negatives
from ddrm_pyg.loader import Triplets
from ddrm_pyg.losses import TruncatedLoss, bce_loss, bpr_loss
from ddrm_pyg.nn.deca import (
    DeCA,
    agreement_loss,
    denoise_negatives_loss,
    denoise_positives_loss,
)
from ddrm_pyg.nn.models import MF, SGL, LightGCN
from ddrm_pyg.ranking import evaluate
from ddrm_pyg.testing import check_recommender
from ddrm_pyg.testing import checkerboard as checkerboard_data
from ddrm_pyg.training import fit
from ddrm_pyg.typing import Recommender

BACKENDS = [MF, LightGCN]
# the published contrast would need more epochs than a test has
LIGHT_SGL = functools.partial(SGL, ssl_weight=0.01, temperature=0.5)
TRAINED = [*BACKENDS, pytest.param(LIGHT_SGL, id="SGL")]
F, G, H, H_PRIME = (torch.tensor(p) for p in (0.8, 0.6, 0.3, 0.7))
LABEL = torch.tensor([1.0, 0.0])


@pytest.fixture
def batch():
    return Triplets(torch.tensor([1, 0]), torch.tensor([1, 0]), torch.tensor([0, 1]))


def only(iterator):
    (value,) = iterator
    return value


def set_scores(model, logit):
    """Make every score of a model of width 1 the same."""
    with torch.no_grad():
        model.user_table.fill_(1.0)
        model.item_table.fill_(logit)


@pytest.mark.fidelity("DeCA", "D, DP and DN", "values by hand", digits=5)
@pytest.mark.parametrize(
    ("alpha", "agreement", "terms"),
    [
        (0, 0.091518, (0.332306, 8.162850, 2.376846, 1.054669)),
        (0.5, 0.098080, (0.338868, 8.169412, 2.383409, 1.061232)),
        (1, 0.104642, (0.345430, 8.175974, 2.389971, 1.067794)),
    ],
)
def test_hand_values(path_graph, batch, alpha, agreement, terms, agrees):
    d = agreement_loss(F, G, alpha=alpha)
    agrees(d, agreement)
    dp = denoise_positives_loss(F, H, LABEL, c1=10)
    dn = denoise_negatives_loss(F, H_PRIME, LABEL, c2=10)
    assert (d + torch.cat([dp, dn])).tolist() == pytest.approx(terms, abs=2e-6)

    # and the same from end to end, both rows of a triplet together
    models = [MF(2, 2, 1, l2=0), MF(2, 2, 1)]
    deca = DeCA(*models, c1=10, c2=10, alpha=alpha, aux_dim=1)
    for model, p in zip(
        (*models, deca.clicked_if_disliked, deca.clicked_if_liked),
        (F, G, H, H_PRIME),
        strict=True,
    ):
        set_scores(model, p.logit())
    for expected in (sum(terms[:2]), sum(terms[2:])):
        loss = only(deca.losses(batch, path_graph, generator=None))
        assert loss.tolist() == pytest.approx([expected] * 2, abs=1e-5)


def test_agreement_is_0_for_equal_models_and_symmetric_at_one_half():
    f, g = torch.rand(2, 99, generator=torch.Generator().manual_seed(0))
    for alpha in (0, 0.3, 1):
        assert torch.equal(agreement_loss(f, f, alpha=alpha), torch.zeros(99))
        assert (agreement_loss(f, g, alpha=alpha) > 0).all()
    torch.testing.assert_close(
        agreement_loss(f, g, alpha=0.5), agreement_loss(g, f, alpha=0.5)
    )


def test_probabilities_of_0_and_1_stay_finite():
    f, h = torch.tensor([0.0, 1.0, 0.0, 1.0]), torch.tensor([0.0, 0.0, 1.0, 1.0])
    for label in (torch.zeros(4), torch.ones(4)):
        assert torch.isfinite(agreement_loss(f, h, alpha=0.5)).all()
        assert torch.isfinite(denoise_positives_loss(f, h, label, c1=10)).all()
        assert torch.isfinite(denoise_negatives_loss(f, h, label, c2=10)).all()


def test_gradients_by_hand():
    for loss, expected in (
        (
            lambda f: denoise_positives_loss(f, H, LABEL, c1=10),
            [math.log(0.3), math.log(0.7) + 10],
        ),
        (
            lambda f: denoise_negatives_loss(f, H_PRIME, LABEL, c2=10),
            [-math.log(0.7) - 10, -math.log(0.3)],
        ),
    ):
        f = torch.tensor([0.8, 0.8], requires_grad=True)
        loss(f).sum().backward()
        assert f.grad.tolist() == pytest.approx(expected, abs=1e-4)


def test_best_h_is_the_share_of_positives_among_the_disliked():
    f = torch.tensor([0.9, 0.2, 0.4, 0.1, 0.5])
    label = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0])
    best = (1 - f)[:2].sum() / (1 - f).sum()
    grid = torch.linspace(0.01, 0.99, 981)
    loss = denoise_positives_loss(f, grid.unsqueeze(1), label, c1=10).sum(1)
    assert float(grid[loss.argmin()]) == pytest.approx(float(best), abs=2e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_disagreement_the_rest_is_left(path_graph, batch, backend):
    target = backend(2, 2, 4, l2=0.5)
    deca = DeCA(target, copy.deepcopy(target), c1=7, c2=3, alpha=0.3)
    emb, row = target(path_graph), torch.arange(2)

    def probability(emb, item):
        return emb.scores(batch.user)[row, item].sigmoid()

    penalty = target.penalty(batch, emb, generator=None)
    f, f_neg = (probability(emb, item) for item in batch[1:])
    h, h_neg = (probability(deca.clicked_if_disliked(), item) for item in batch[1:])
    plain = -(1 - f) * (h + 1e-5).log() - (1 - f_neg) * (1 - h_neg + 1e-5).log()
    loss = only(deca.losses(batch, path_graph, generator=None))
    torch.testing.assert_close(loss, plain + 7 * f_neg + penalty)
    h, h_neg = (probability(deca.clicked_if_liked(), item) for item in batch[1:])
    plain = -f * (h + 1e-5).log() - f_neg * (1 - h_neg + 1e-5).log()
    loss = only(deca.losses(batch, path_graph, generator=None))
    torch.testing.assert_close(loss, plain + 3 * (1 - f) + penalty)


@pytest.mark.fidelity(
    "DeCA",
    "several negatives of a positive",
    "one negative at a time, added up",
    digits=5,
)
@pytest.mark.parametrize("negatives", ["uniform", "popularity"])
def test_losses_of_more_negatives_add_up(checkerboard, negatives, agrees):
    graph = checkerboard.graph
    torch.manual_seed(0)
    deca = DeCA(MF(12, 12, 4, l2=0, negatives=negatives), c1=7, c2=3, alpha=0.3)
    more = copy.deepcopy(deca)
    more.num_negatives = 3
    own = torch.Generator().manual_seed(5)
    (batch,) = deca.batches(graph, batch_size=60, generator=own)
    own.manual_seed(5)
    drawn = [
        draw_negatives(graph, batch.user, generator=own, negatives=negatives)
        for _ in range(2)
    ]
    own.manual_seed(5)
    for _ in range(2):  # DP, then DN
        step = deca.step.clone()
        total = only(more.losses(batch, graph, generator=own.manual_seed(5)))
        parts = []
        for item in (batch.neg_item, *drawn):
            deca.step.copy_(step)
            parts.append(
                only(deca.losses(batch._replace(neg_item=item), graph, generator=own))
            )
        # each part has the positive's loss, too
        deca.step.copy_(step)
        f, g, h = (
            e.scores(batch.user)[torch.arange(60), batch.pos_item].sigmoid()
            for e in (
                deca.backend(graph),
                deca.auxiliary(graph),
                (deca.clicked_if_disliked, deca.clicked_if_liked)[int(step)](graph),
            )
        )
        one = torch.ones(())
        positive = agreement_loss(f, g, alpha=0.3) + (
            denoise_positives_loss(f, h, one, c1=7)
            if int(step) == 0
            else denoise_negatives_loss(f, h, one, c2=3)
        )
        agrees(total, sum(parts) - 2 * positive)
        deca.step.copy_(step + 1)


def has_gradient(model):
    return [parameter.grad is not None for parameter in model.parameters()]


@pytest.mark.parametrize("pretrained", [False, True])
def test_tasks_alternate_and_each_leaves_the_others_model_alone(
    path_graph, batch, pretrained
):
    auxiliary = MF(2, 2)(path_graph) if pretrained else None
    deca = DeCA(MF(2, 2), auxiliary, pretrained)
    for step in range(4):
        deca.zero_grad()
        only(deca.losses(batch, path_graph, generator=None)).mean().backward()
        assert all(has_gradient(deca.backend))
        assert has_gradient(deca.clicked_if_disliked) == [step % 2 == 0] * 2
        assert has_gradient(deca.clicked_if_liked) == [step % 2 == 1] * 2
        if not pretrained:
            assert all(has_gradient(deca.auxiliary))
    assert deca.step == 4
    deca.eval()
    for _ in range(3):
        only(deca.losses(batch, path_graph, generator=None))
    assert deca.step == 4


def test_pretrained_auxiliary_is_frozen(checkerboard):
    emb = Embeddings(*(torch.rand(12, 3, requires_grad=True) for _ in range(2)))
    deca = DeCA(MF(12, 12), emb, pretrained=True)
    before = [table.clone() for table in emb]
    optimizer = torch.optim.Adam(deca.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(0)
    for batch in deca.batches(checkerboard.graph, batch_size=20, generator=generator):
        optimizer.zero_grad()
        only(
            deca.losses(batch, checkerboard.graph, generator=generator)
        ).mean().backward()
        optimizer.step()
    assert emb.user.grad is None
    assert emb.item.grad is None
    assert torch.equal(deca.aux_user, before[0])
    assert torch.equal(deca.aux_item, before[1])
    assert not any("aux" in name for name in deca.state_dict())


def test_penalty_and_batches_are_the_backends_and_its_pair_loss_is_not_used(
    path_graph, batch
):
    def unused(pos_score, neg_score):
        raise AssertionError

    plain, penalised = (MF(2, 2, 4, l2=l2, pair_loss=unused) for l2 in (0, 0.5))
    penalised.load_state_dict(plain.state_dict())
    deca = DeCA(plain)
    free = only(deca.losses(batch, path_graph, generator=None))
    deca.backend = penalised
    deca.step.zero_()
    loss = only(deca.losses(batch, path_graph, generator=None))
    penalty = penalised.penalty(batch, penalised(path_graph), generator=None)
    torch.testing.assert_close(loss - free, penalty)

    graph = InteractionGraph(torch.tensor([[0, 1, 1], [0, 1, 1]]), 2, 10)
    deca = DeCA(MF(2, 10, negatives="popularity"))
    generator = torch.Generator().manual_seed(0)
    (drawn,) = deca.batches(graph, batch_size=3, generator=generator)
    assert drawn.neg_item.tolist() == (1 - drawn.user).tolist()


class Bare(nn.Module):
    """No more than the Backend protocol and the two sizes."""

    num_users, num_items = 12, 12

    def __init__(self):
        super().__init__()
        self.user = nn.Parameter(torch.randn(12, 4) / 10)
        self.item = nn.Parameter(torch.randn(12, 4) / 10)

    def forward(self, graph):
        return Embeddings(self.user, self.item)

    def penalty(self, batch, emb, *, generator):
        return torch.zeros_like(batch.user, dtype=torch.float32)


def test_a_bare_backend_is_enough(checkerboard):
    backend = Bare()
    deca = DeCA(backend, Bare())
    assert isinstance(deca, Recommender)
    generator = torch.Generator().manual_seed(0)
    (batch,) = deca.batches(checkerboard.graph, batch_size=60, generator=generator)
    assert only(deca.losses(batch, checkerboard.graph, generator=generator)).shape == (
        60,
    )
    scorer = deca.scorer(checkerboard.graph)
    assert torch.equal(scorer.user, backend.user)


def test_scorer_is_the_backends(path_graph):
    backend = LightGCN(2, 2, 4)
    for mine, theirs in zip(
        DeCA(backend).scorer(path_graph), backend.scorer(path_graph), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_parameter_groups_hold_every_parameter_once():
    backend = MF(2, 3)
    backend.parameter_groups = lambda: [{"params": [*backend.parameters()], "lr": 7}]
    for deca in (DeCA(backend), DeCA(MF(2, 3)), DeCA(MF(2, 3), LightGCN(2, 3))):
        groups = deca.parameter_groups()
        grouped = [id(p) for group in groups for p in group["params"]]
        assert sorted(grouped) == sorted(map(id, deca.parameters()))
    assert DeCA(backend).parameter_groups()[0]["lr"] == 7


def test_rows_may_come_in_any_order(checkerboard):
    deca = DeCA(LightGCN(12, 12)).eval()
    generator = torch.Generator().manual_seed(0)
    (batch,) = deca.batches(checkerboard.graph, batch_size=60, generator=generator)
    order = torch.randperm(60, generator=generator)
    permuted = Triplets(*(column[order] for column in batch))
    loss, again = (
        only(deca.losses(b, checkerboard.graph, generator=generator))
        for b in (batch, permuted)
    )
    torch.testing.assert_close(again, loss[order])


SETTINGS = {"epochs": 12, "batch_size": 100, "lr": 0.05, "eval_every": 12}


def learned(target, backend, data):
    return DeCA(target, c1=10, c2=10)


def own_architecture(target, backend, data):
    return DeCA(target, backend(40, 40, 8), c1=10, c2=10)


def pretrained(target, backend, data):
    other = backend(40, 40, 8, pair_loss=bce_loss)
    assert not torch.equal(target.user_table, other.user_table)
    fit(other, data, seed=1, **SETTINGS)
    auxiliary = other.scorer(InteractionGraph.from_data(data))
    return DeCA(target, auxiliary, pretrained=True, c1=10, c2=10)


@pytest.mark.parametrize("backend", TRAINED)
@pytest.mark.parametrize(
    ("make", "negatives"),
    [
        (learned, "uniform"),
        (learned, "popularity"),
        (own_architecture, "uniform"),
        (pretrained, "uniform"),
    ],
)
def test_every_combination_trains(backend, make, negatives):
    data = checkerboard_data()
    torch.manual_seed(0)
    deca = make(backend(40, 40, 8, negatives=negatives), backend, data)
    check_recommender(deca, data)
    fit(deca, data, seed=0, **SETTINGS)
    scorer = deca.scorer(InteractionGraph.from_data(data))
    # the right one of 21 unseen items
    assert evaluate(scorer, data, k=(1,))["recall@1"] > 0.7


@pytest.mark.parametrize("backend", TRAINED)
def test_learns_from_noisy_clicks(backend, share_above):
    data = SyntheticInteractions(60, 80, 1200)[0]
    graph = InteractionGraph.from_data(data)
    torch.manual_seed(0)
    deca = DeCA(backend(60, 80, 8), c1=10, c2=10)
    fit(deca, data, epochs=6, batch_size=128, lr=0.02, eval_every=6)
    assert share_above(deca.scorer(graph), graph) > 0.6  # 0.5 without learning


def test_a_resumed_run_goes_on_with_the_same_task(tmp_path):
    data = checkerboard_data()

    def run(epochs, checkpoint=None):
        torch.manual_seed(0)
        loss = TruncatedLoss(bpr_loss, drop_rate=0.1)
        deca = DeCA(MF(40, 40, 4, pair_loss=loss))
        # 7 batches an epoch: every other epoch starts with DN
        fit(
            deca,
            data,
            epochs=epochs,
            batch_size=109,
            lr=0.01,
            eval_every=1,
            checkpoint=checkpoint,
        )
        return deca.state_dict()

    straight = run(4)
    checkpoint = tmp_path / "checkpoint.pt"
    run(1, checkpoint)
    resumed = run(4, checkpoint)
    assert all(torch.equal(value, resumed[key]) for key, value in straight.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"c1": -1}, r"'c1' must be >= 0 \(got -1\)"),
        ({"c2": math.inf}, r"'c2' must be finite in float32, .* \(got inf\)"),
        ({"alpha": 1.5}, r"'alpha' must lie in \[0, 1\] \(got 1\.5\)"),
        ({"aux_dim": 0}, r"'aux_dim' must be >= 1 \(got 0\)"),
        ({"num_negatives": 0}, r"'num_negatives' must be >= 1 \(got 0\)"),
        (
            {"auxiliary": MF(2, 4)},
            r"'auxiliary' must have the backend's \(2, 3\) .* \(got \(2, 4\)\)",
        ),
        (
            {"auxiliary": (torch.rand(2, 3), torch.rand(4, 3)), "pretrained": True},
            r"auxiliary: 'item' must have one row per item of the graph, 3 \(got 4\)",
        ),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DeCA(MF(2, 3), **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((nn.Linear(2, 3),), r"'backend' must be .*'num_items' \(got Linear\)"),
        ((MF(2, 3), "mf"), r"'auxiliary' must be a torch.nn.Module .* \(got str\)"),
        ((MF(2, 3), None, True), r"'auxiliary' must be the embe.* \(got NoneType\)"),
        ((MF(2, 3), MF(2, 3), True), r"'auxiliary' must be the embed.* \(got MF\)"),
    ],
)
def test_bad_models_are_refused(arguments, message):
    with pytest.raises(TypeError, match=message):
        DeCA(*arguments)
