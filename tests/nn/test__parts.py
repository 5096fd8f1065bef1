"""Layers and draws that networks share."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ddrm_pyg.nn._parts import draw, drop, mlp, reset_linear


def test_dropping_keeps_the_mean():
    x = torch.full((200_000,), 3.0)
    for rate in (0.0, 0.3, 0.9):
        dropped = drop(x, rate, torch.Generator().manual_seed(0))
        assert float((dropped == 0).float().mean()) == pytest.approx(rate, abs=0.01)
        assert float(dropped.mean()) == pytest.approx(3, rel=0.05)
    assert drop(x, 0.0, None) is x
    assert (drop(x, 1.0, None) == 0).all()


def test_draws_come_from_the_generator_in_the_shape_asked_for():
    like = torch.empty(2, 3)
    drawn = draw(torch.randn, like, torch.Generator().manual_seed(1))
    expected = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(drawn, expected)
    torch.manual_seed(1)
    assert torch.equal(draw(torch.randn, like, None), expected)


def test_mlp_has_no_activation_at_the_end():
    network = mlp([3, 4, 2], "relu")
    x = torch.randn(5, 3)
    first, _, last = network
    assert torch.equal(network(x), last(F.relu(first(x))))
    with pytest.raises(ValueError, match=r"widths must be >= 1 \(got \(3, 0, 2\)\)"):
        mlp([3, 0, 2])
    with pytest.raises(ValueError, match=r"'activation' must be one of .*\(got 'sin'"):
        mlp([3, 2], "sin")
    with pytest.raises(ValueError, match=r"'hidden_dims' must be <= 1048576 \(got 1"):
        mlp([3, 10**8, 2])


def test_weights_start_with_the_published_spread():
    layer = nn.Linear(300, 500)
    torch.manual_seed(0)
    reset_linear(nn.Sequential(layer))
    assert float(layer.weight.std()) == pytest.approx((2 / 800) ** 0.5, rel=0.02)
    assert float(layer.bias.std()) == pytest.approx(1e-3, rel=0.2)
