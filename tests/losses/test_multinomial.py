import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from ddrm_pyg.losses.multinomial import gaussian_kl, multinomial_nll


def test_negative_log_likelihood_by_hand():
    logits = torch.tensor([[1.0, 0.0, 0.0, -1.0]])
    row = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    assert multinomial_nll(logits, row).tolist() == pytest.approx([2.253047])


def test_limits_of_the_likelihood():
    logits, row = torch.randn(3, 5), (torch.rand(3, 5) < 0.5).float()
    torch.testing.assert_close(
        multinomial_nll(logits + torch.tensor([[7.0], [-3.0], [0.0]]), row),
        multinomial_nll(logits, row),
    )
    torch.testing.assert_close(
        multinomial_nll(logits, 2.5 * row), 2.5 * multinomial_nll(logits, row)
    )
    uniform = multinomial_nll(torch.zeros(3, 5), row)
    torch.testing.assert_close(uniform, row.sum(1) * math.log(5))
    assert multinomial_nll(logits, torch.zeros(3, 5)).tolist() == [0, 0, 0]


def test_divergence_by_hand_and_by_torch():
    mean, log_variance = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, math.log(4)]])
    assert gaussian_kl(mean, log_variance).tolist() == pytest.approx([1.306853])
    mean, log_variance = torch.randn(2, 4, 3)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(gaussian_kl(mean, log_variance), expected.sum(-1))
    assert gaussian_kl(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0
    assert (gaussian_kl(mean, log_variance) > 0).all()
