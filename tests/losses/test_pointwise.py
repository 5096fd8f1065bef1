import functools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ddrm_pyg.losses import ReweightedLoss, TruncatedLoss, bce_loss, bpr_loss
from ddrm_pyg.losses.pointwise import is_pointwise, loss_signature

SCORE = torch.tensor([2.0, 0.0, -1.0, 1.0])
LABEL = torch.tensor([1.0, 1.0, 1.0, 0.0])


def test_hand_values_per_row():
    loss = bce_loss(SCORE, LABEL)
    assert loss.tolist() == pytest.approx([0.126928, 0.693147, 1.313262, 1.313262])
    assert float(loss.mean()) == pytest.approx(0.861650, abs=1e-6)


def test_gradient_is_the_probability_less_the_label():
    score = torch.tensor([math.log(3), math.log(3)], requires_grad=True)
    bce_loss(score, torch.tensor([1.0, 0.0])).sum().backward()
    torch.testing.assert_close(score.grad, torch.tensor([-0.25, 0.75]))


def test_extreme_scores_stay_finite():
    score = torch.tensor([-1e4, 1e4, 1e4, -1e4])
    assert bce_loss(score, LABEL).tolist() == [1e4, 0, 0, 0]


class Hinge(nn.Module):
    def forward(self, score, label):
        return F.relu(1 - (2 * label - 1) * score)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (bpr_loss, False),
        (bce_loss, True),
        (lambda pos_score, neg_score, margin=1: neg_score - pos_score + margin, False),
        (functools.partial(bpr_loss), False),
        (Hinge(), True),
        (TruncatedLoss(bce_loss, drop_rate=0.1), True),
        (ReweightedLoss(TruncatedLoss(bpr_loss, drop_rate=0.1), exponent=1), False),
    ],
)
def test_the_second_parameter_tells_the_kind(loss, expected):
    assert is_pointwise(loss) is expected


def test_wrappers_show_the_signature_of_what_they_wrap():
    truncated = TruncatedLoss(bce_loss, drop_rate=0.1)
    assert list(loss_signature(truncated).parameters) == ["score", "label"]
    reweighted = ReweightedLoss(bpr_loss, exponent=1)
    assert list(loss_signature(reweighted).parameters) == ["pos_score", "neg_score"]


@pytest.mark.parametrize(
    "loss",
    [
        lambda pos, neg: pos - neg,
        F.binary_cross_entropy_with_logits,
        lambda neg_score: neg_score,
        torch.sub,
    ],
)
def test_what_is_neither_is_refused(loss):
    message = "must have a second parameter named 'neg_score' .* or 'label'"
    for wrap in (
        is_pointwise,
        functools.partial(TruncatedLoss, drop_rate=0.1),
        functools.partial(ReweightedLoss, exponent=1),
    ):
        with pytest.raises(TypeError, match=message):
            wrap(loss)
