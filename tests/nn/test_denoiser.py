import math

import pytest
import torch
from torch import nn

from ddrm_pyg.nn.denoiser import MLPDenoiser


def linear_layers(module):
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def kinds(denoiser):
    return [type(layer) for layer in denoiser.layers]


@pytest.mark.parametrize(
    ("hidden_dims", "shapes"),
    [
        ((1000, 300, 1000), [(138, 1000), (1000, 300), (300, 1000), (1000, 64)]),
        ((16,), [(138, 16), (16, 64)]),
        ((), [(138, 64)]),
    ],
)
def test_widths_run_from_two_vectors_and_a_step_to_one_vector(hidden_dims, shapes):
    denoiser = MLPDenoiser(64, hidden_dims)
    layers = [(x.in_features, x.out_features) for x in linear_layers(denoiser.layers)]
    assert layers == shapes
    assert (denoiser.time.in_features, denoiser.time.out_features) == (10, 10)


def test_an_activation_follows_every_layer_but_the_last():
    assert kinds(MLPDenoiser(4, (5, 6))) == [
        nn.Linear,
        nn.ReLU,
        nn.Linear,
        nn.ReLU,
        nn.Linear,
    ]
    assert kinds(MLPDenoiser(4, (5,), activation="sigmoid"))[1] is nn.Sigmoid
    assert kinds(MLPDenoiser(4, (5,), activation="tanh"))[1] is nn.Tanh


def test_initial_weights_have_the_published_spread():
    torch.manual_seed(0)
    denoiser = MLPDenoiser(64, (1000, 300, 1000))
    for layer in linear_layers(denoiser.layers):
        std = math.sqrt(2 / (layer.in_features + layer.out_features))
        # five standard errors
        error = 5 / math.sqrt(2 * layer.weight.numel())
        assert float(layer.weight.detach().std()) == pytest.approx(std, rel=error)
        assert (
            abs(float(layer.weight.detach().mean()))
            < 5 * std / layer.weight.numel() ** 0.5
        )
    bias = torch.cat([layer.bias.detach() for layer in linear_layers(denoiser)])
    assert float(bias.std()) == pytest.approx(1e-3, rel=0.08)
    time = torch.stack([MLPDenoiser(2, (1,)).time.weight.detach() for _ in range(50)])
    assert float(time.std()) == pytest.approx(math.sqrt(2 / 20), rel=0.05)


def test_reset_draws_anew():
    denoiser = MLPDenoiser(4, (5,))
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        denoiser.reset_parameters()
        draws.append(nn.utils.parameters_to_vector(denoiser.parameters()))
    assert torch.equal(draws[0], draws[1])
    assert not (draws[0] == draws[2]).any()


def test_forward_by_hand():
    # input [x_t | time | cond]: each group has its own weight, so the order shows
    denoiser = MLPDenoiser(1, (2,), time_dim=2)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.zero_()
        denoiser.time.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        denoiser.layers[0].weight.copy_(
            torch.tensor([[1.0, 10.0, 100.0, 1000.0], [-1.0, 0.0, 0.0, 0.0]])
        )
        denoiser.layers[2].weight.copy_(torch.tensor([[1.0, 5.0]]))
    x_t, cond = torch.tensor([[2.0], [-3.0]]), torch.tensor([[0.5], [0.25]])
    t = torch.tensor([0, 3])
    out = denoiser(x_t, cond, t)
    second = -3 + 10 * math.cos(3) + 100 * math.sin(3) + 250
    expected = [2 + 10 + 500, second + 5 * 3]
    assert out.flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_one_step_serves_all_rows():
    denoiser = MLPDenoiser(4, (5,))
    x_t, cond = torch.randn(2, 6, 4)
    shared = denoiser(x_t, cond, torch.tensor([3]))
    each = denoiser(x_t, cond, torch.full((6,), 3))
    torch.testing.assert_close(shared, each)
    other = denoiser(x_t, cond, torch.tensor([2]))
    assert not torch.allclose(shared, other)


def test_double_precision_runs():
    denoiser = MLPDenoiser(4, (5,)).double()
    x_t, cond = torch.randn(2, 6, 4, dtype=torch.float64)
    assert denoiser(x_t, cond, torch.tensor([3])).dtype == torch.float64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embedding_dim": 0}, r"must be >= 1 \(got 0, 10 and \(8,\)\)"),
        ({"hidden_dims": (8, 0)}, r"must be >= 1 \(got 4, 10 and \(8, 0\)\)"),
        ({"time_dim": 0}, r"must be >= 1 \(got 4, 0 and \(8,\)\)"),
        (
            {"activation": "gelu"},
            r"'activation' must be one of \['relu', 'si.*'gelu'\)",
        ),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MLPDenoiser(**{"embedding_dim": 4, "hidden_dims": (8,), **arguments})
