import math

import pytest
import torch

from ddrm_pyg.losses import ReweightedLoss, TruncatedLoss, bce_loss, bpr_loss

SCORE = torch.tensor([2.0, 0.0, -1.0, 1.0])
LABEL = torch.tensor([1.0, 1.0, 1.0, 0.0])
POS = torch.tensor([2.0, 0.0, -1.0, 0.5])
NEG = torch.tensor([0.0, 0.0, 1.0, -0.5])
KINDS = [
    pytest.param(bce_loss, LABEL, "positive", id="pointwise"),
    pytest.param(bpr_loss, NEG, "positive", id="positive"),
    pytest.param(bpr_loss, NEG, "difference", id="difference"),
]


@pytest.mark.fidelity("R-CE", "pointwise", "values by hand", digits=6)
@pytest.mark.parametrize(
    ("exponent", "mean"),
    [(0, 0.861650), (0.25, 0.649321), (0.5, 0.492839), (1.0, 0.291188)],
)
def test_pointwise_hand_values(exponent, mean, agrees):
    loss = ReweightedLoss(bce_loss, exponent=exponent)(SCORE, LABEL)
    agrees(loss.mean(), mean)


@pytest.mark.fidelity(
    "R-CE", "pairwise, on BPR, in both forms", "values by hand", digits=6
)
@pytest.mark.parametrize(
    ("score", "mean"), [("positive", 0.489855), ("difference", 0.402859)]
)
def test_pairwise_hand_values(score, mean, agrees):
    loss = ReweightedLoss(bpr_loss, exponent=0.5, score=score)(POS, NEG)
    agrees(loss.mean(), mean)


@pytest.mark.parametrize(("loss", "second", "score"), KINDS)
def test_exponent_0_is_the_plain_loss(loss, second, score):
    weighed = ReweightedLoss(loss, exponent=0, score=score)(POS, second)
    assert torch.equal(weighed, loss(POS, second))


def test_difference_weighs_by_the_loss_itself():
    loss = bpr_loss(POS, NEG)
    weighed = ReweightedLoss(bpr_loss, exponent=0.7, score="difference")
    torch.testing.assert_close(weighed(POS, NEG), (-0.7 * loss).exp() * loss)
    # and does not change when all scores of a user shift
    torch.testing.assert_close(weighed(POS + 3, NEG + 3), weighed(POS, NEG))


@pytest.mark.parametrize("score", ["positive", "difference"])
def test_the_least_believed_weigh_least(score):
    loss = bpr_loss(POS, NEG)
    weight = ReweightedLoss(bpr_loss, exponent=0.5, score=score)(POS, NEG) / loss
    assert weight.argsort().tolist()[0] == int(loss.argmax())


@pytest.mark.parametrize(("loss", "second", "score"), KINDS)
def test_no_gradient_flows_through_the_weights(loss, second, score):
    first = POS.clone().requires_grad_()
    (plain,) = torch.autograd.grad(loss(first, second).sum(), first)
    weighed = ReweightedLoss(loss, exponent=0.5, score=score)(first, second)
    weight = (weighed / loss(first, second)).detach()
    (gradient,) = torch.autograd.grad(weighed.sum(), first)
    torch.testing.assert_close(gradient, weight * plain)


def test_gradient_of_a_positive_is_largest_where_belief_is_b_over_1_plus_b():
    belief = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    score = belief.logit().requires_grad_()
    weighed = ReweightedLoss(bce_loss, exponent=0.25)
    weighed(score, torch.ones_like(score)).sum().backward()
    torch.testing.assert_close(score.grad, -(belief**0.25) * (1 - belief))
    assert float(belief[score.grad.argmin()]) == pytest.approx(0.2)


def test_tiny_beliefs_to_a_small_power_do_not_vanish():
    # sigmoid(-200) is 0 in float32, its root is not
    score = torch.tensor([-200.0, 200.0])
    loss = ReweightedLoss(bce_loss, exponent=0.05)(score, torch.tensor([1.0, 0.0]))
    assert loss.tolist() == pytest.approx([200 * math.exp(-10)] * 2)


def test_rows_may_come_in_any_order():
    order = torch.tensor([2, 0, 3, 1])
    weighed = ReweightedLoss(bpr_loss, exponent=0.5)
    again = weighed(POS[order], NEG[order])
    torch.testing.assert_close(again, weighed(POS, NEG)[order])


def test_can_be_called_by_name_and_nested():
    weighed = ReweightedLoss(bce_loss, exponent=0.5)
    loss = weighed(SCORE, LABEL)
    assert torch.equal(weighed(label=LABEL, score=SCORE), loss)
    inner = TruncatedLoss(bce_loss, drop_rate=0)
    assert torch.equal(ReweightedLoss(inner, exponent=0.5)(SCORE, LABEL), loss)
    assert repr(weighed) == "ReweightedLoss(exponent=0.5, score='positive')"
    assert weighed.state_dict() == {}


@pytest.mark.parametrize(
    ("loss", "arguments", "message"),
    [
        (bpr_loss, {"exponent": -1}, r"'exponent' must be .*>= 0 \(got -1\)"),
        (bpr_loss, {"exponent": math.nan}, r"'exponent' must be .* \(got nan\)"),
        (
            bpr_loss,
            {"score": "both"},
            r"'score' must be 'positive' or 'difference' \(got 'both'\)",
        ),
        (
            bce_loss,
            {"score": "difference"},
            r"'score' must be 'positive' around a pointwise .*\(got 'difference'\)",
        ),
    ],
)
def test_bad_arguments_are_refused(loss, arguments, message):
    with pytest.raises(ValueError, match=message):
        ReweightedLoss(loss, **{"exponent": 1, **arguments})
