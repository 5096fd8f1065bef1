import math

import torch

from ddrm_pyg.losses import bpr_loss


def test_hand_values_per_triplet():
    # -log sigmoid(log 3) = log(4 / 3); equal scores cost log 2
    pos, neg = torch.tensor([0.0, math.log(3), -1.0]), torch.tensor([0.0, 0.0, -1.0])
    expected = [math.log(2), math.log(4 / 3), math.log(2)]
    torch.testing.assert_close(bpr_loss(pos, neg), torch.tensor(expected))


def test_gradient_is_minus_the_probability_of_the_wrong_order():
    pos = torch.tensor([math.log(3), -math.log(3)], requires_grad=True)
    neg = torch.zeros(2, requires_grad=True)
    bpr_loss(pos, neg).sum().backward()
    torch.testing.assert_close(pos.grad, torch.tensor([-0.25, -0.75]))
    torch.testing.assert_close(neg.grad, torch.tensor([0.25, 0.75]))


def test_extreme_scores_stay_finite():
    pos, neg = torch.tensor([-1e4, 1e4]), torch.tensor([1e4, -1e4])
    assert bpr_loss(pos, neg).tolist() == [2e4, 0.0]
