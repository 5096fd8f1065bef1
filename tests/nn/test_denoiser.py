import math

import numpy as np
import pytest
import torch
from torch import nn

from ddrm_pyg.nn.denoiser import GateDenoiser, MLPDenoiser, TransformerDenoiser

KINDS = [MLPDenoiser, TransformerDenoiser, GateDenoiser]
every_kind = pytest.mark.parametrize("kind", KINDS)


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


@every_kind
def test_reset_draws_anew(kind):
    denoiser = kind(4, (5,))
    fixed = 0
    if kind is TransformerDenoiser:  # a norm starts as the identity
        fixed = 8
        with torch.no_grad():
            denoiser.norm.weight.fill_(3)
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        denoiser.reset_parameters()
        draws.append(nn.utils.parameters_to_vector(denoiser.parameters()))
    assert torch.equal(draws[0], draws[1])
    assert int((draws[0] == draws[2]).sum()) == fixed


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


def naive_mlp(layers, x, activation):
    """One row through a stack, from the weights alone."""
    weights = [layer for layer in layers if isinstance(layer, nn.Linear)]
    for k, layer in enumerate(weights):
        x = layer.weight.detach().double().numpy() @ x
        x = x + layer.bias.detach().double().numpy()
        x = activation(x) if k < len(weights) - 1 else x
    return x


def encoded(t, dim):
    angles = [t * 10_000 ** (-k / (dim // 2)) for k in range(dim // 2)]
    row = [math.cos(a) for a in angles] + [math.sin(a) for a in angles]
    return np.array(row + [0.0] * (dim % 2))


@pytest.mark.fidelity(
    "DDRM",
    "the Transformer of Table 3 as the paper words it",
    "attention written out, in NumPy",
    digits=5,
)
@pytest.mark.parametrize(("dim", "num_heads"), [(4, 2), (5, 2), (3, 1), (1, 4)])
def test_transformer_attends_over_the_entries_of_each_head(dim, num_heads, agrees):
    torch.manual_seed(0)
    denoiser = TransformerDenoiser(dim, (7, 6), 4, "tanh", num_heads).double()
    for parameter in denoiser.parameters():
        nn.init.normal_(parameter)
    x_t, cond = torch.randn(2, 3, dim, dtype=torch.float64)
    out = denoiser(x_t, cond, torch.tensor([0, 3, 5]))
    for row, c, t, output in zip(
        x_t.numpy(), cond.numpy(), (0, 3, 5), out.detach(), strict=True
    ):
        query = naive_mlp([denoiser.query], c, None)
        key = naive_mlp([denoiser.key], encoded(t, 4), None)
        value = naive_mlp([denoiser.value], row, None)
        size = len(query) // num_heads
        attended = np.zeros(len(query))
        for head in range(num_heads):
            for i in range(head * size, (head + 1) * size):
                others = range(head * size, (head + 1) * size)
                share = [math.exp(query[i] * key[j]) for j in others]
                attended[i] = sum(
                    s * value[j] for s, j in zip(share, others, strict=True)
                ) / sum(share)
        hidden = row + naive_mlp([denoiser.out], attended, None)
        spread = math.sqrt(hidden.var() + 1e-5)
        normal = (hidden - hidden.mean()) / spread
        normal = normal * denoiser.norm.weight.detach().numpy()
        normal = normal + denoiser.norm.bias.detach().numpy()
        expected = hidden + naive_mlp(denoiser.layers, normal, np.tanh)
        agrees(output, expected)


def learned_gate(*arguments):
    return GateDenoiser(*arguments, learn_time=True)


@pytest.mark.fidelity(
    "DDRM",
    "the gate of Table 3, and ours with a learned step",
    "its formula from the weights alone, in NumPy",
    digits=5,
)
@pytest.mark.parametrize("kind", [GateDenoiser, learned_gate])
@pytest.mark.parametrize("dim", [4, 5])
def test_gate_is_the_sigmoid_of_key_times_query(kind, dim, agrees):
    torch.manual_seed(0)
    denoiser = kind(dim, (7, 6)).double()
    for parameter in denoiser.parameters():
        nn.init.normal_(parameter)
    x_t, cond = torch.randn(2, 3, dim, dtype=torch.float64)
    out = denoiser(x_t, cond, torch.tensor([0, 3, 5]))
    for row, c, t, output in zip(
        x_t.numpy(), cond.numpy(), (0, 3, 5), out.detach(), strict=True
    ):
        time = encoded(t, dim)  # as it is, with nothing to learn
        if kind is learned_gate:
            time = naive_mlp([denoiser.time], time, None)
        key, value, query = (
            naive_mlp(stack, seen, np.tanh)
            for stack, seen in (
                (denoiser.key, row + time),
                (denoiser.value, row + time),
                (denoiser.query, c),
            )
        )
        gated = value / (1 + np.exp(-key * query))
        expected = naive_mlp(denoiser.layers, gated, np.tanh)
        agrees(output, expected)


def test_only_the_learned_gate_maps_the_step():
    assert [*GateDenoiser(4, (5,)).time.parameters()] == []
    ours, published = learned_gate(4, (5,)), GateDenoiser(4, (5,))
    with torch.no_grad():
        ours.time.weight.copy_(torch.eye(4))
        ours.time.bias.zero_()
    weights = {k: v for k, v in ours.state_dict().items() if not k.startswith("time.")}
    published.load_state_dict(weights)
    x_t, cond = torch.randn(2, 3, 4)
    t = torch.tensor([0, 3, 5])
    torch.testing.assert_close(ours(x_t, cond, t), published(x_t, cond, t))


@every_kind
def test_rows_step_and_condition_all_count_and_rows_stay_apart(kind):
    torch.manual_seed(0)
    denoiser = kind(8, (5,))
    x_t, cond = torch.randn(2, 6, 8)
    t = torch.arange(6)
    out = denoiser(x_t, cond, t)
    for changed in ((x_t + 1, cond, t), (x_t, cond + 1, t), (x_t, cond, t + 1)):
        assert ((denoiser(*changed) - out).abs().amax(1) > 1e-6).all()
    torch.testing.assert_close(denoiser(x_t[2:3], cond[2:3], t[2:3]), out[2:3])


@every_kind
def test_one_step_serves_all_rows(kind):
    denoiser = kind(8, (5,))
    x_t, cond = torch.randn(2, 6, 8)
    shared = denoiser(x_t, cond, torch.tensor([3]))
    each = denoiser(x_t, cond, torch.full((6,), 3))
    torch.testing.assert_close(shared, each)
    other = denoiser(x_t, cond, torch.tensor([2]))
    assert not torch.allclose(shared, other)


@every_kind
def test_double_precision_runs(kind):
    denoiser = kind(4, (5,)).double()
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
@pytest.mark.parametrize("kind", [MLPDenoiser, TransformerDenoiser])
def test_bad_arguments_are_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**{"embedding_dim": 4, "hidden_dims": (8,), **arguments})


def test_bad_arguments_of_the_transformers_are_refused():
    with pytest.raises(ValueError, match=r"'num_heads' must be >= 1 \(got 0\)"):
        TransformerDenoiser(4, (8,), num_heads=0)
    with pytest.raises(ValueError, match=r"must be >= 1 \(got 4, 4 and \(0,\)\)"):
        GateDenoiser(4, (0,))
    with pytest.raises(ValueError, match=r"'activation' must be .*'gelu'\)"):
        GateDenoiser(4, (8,), "gelu")
