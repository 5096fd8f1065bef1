import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from ddrm_pyg import testing
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn import ddrm as module
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender
from ddrm_pyg.nn.denoiser import GateDenoiser, MLPDenoiser, TransformerDenoiser
from ddrm_pyg.typing import Recommender, Scorer

SCHEDULE = {"noise_scale": 0.5, "noise_min": 0.1, "noise_max": 0.7}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make(seed=0, **options):
    """A small DDRM with visible noise."""
    torch.manual_seed(seed)
    options = {"num_train_timesteps": 4, **SCHEDULE, **options}
    return DDRM(
        options.pop("embedding_dim", 3), options.pop("hidden_dims", (6,)), **options
    )


class Echo(nn.Module):
    """Returns the noisy rows it is given."""

    def forward(self, x_t, cond, t):
        return x_t


def vectors(num_users, num_items, dim=3, seed=1):
    generator = seeded(seed)
    return Embeddings(
        torch.randn(num_users, dim, generator=generator),
        torch.randn(num_items, dim, generator=generator),
    )


def triplet(size=5, seed=2):
    return tuple(torch.randn(size, 3, generator=seeded(seed + k)) for k in range(3))


def gradient(loss, model):
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()]).clone()


@pytest.fixture
def graph():
    """User 2 owns nothing; item 3 belongs to nobody."""
    return InteractionGraph(torch.tensor([[1, 0, 0, 3], [2, 1, 0, 0]]), 4, 4)


# the loss, equation by equation, in float64 and plain Python


def naive_denoiser(denoiser, x_t, cond, t):
    """Eq. 15: one row through the layers, from the weights alone."""
    weights = {k: v.double().numpy() for k, v in denoiser.state_dict().items()}
    half = denoiser.time_dim // 2
    angles = [t * 10_000 ** (-k / half) for k in range(half)]
    encoded = [math.cos(a) for a in angles] + [math.sin(a) for a in angles]
    time = weights["time.weight"] @ encoded + weights["time.bias"]
    row = np.concatenate([x_t, time, cond])
    hidden = np.maximum(weights["layers.0.weight"] @ row + weights["layers.0.bias"], 0)
    return weights["layers.2.weight"] @ hidden + weights["layers.2.bias"]


def naive_kept(t, fix_first_beta):
    """Eq. 8: the share of the signal's variance left after steps 0 ... t of 4."""
    noise = [0.05, 0.15, 0.25, 0.35]
    if not fix_first_beta:
        return 1 - noise[t]
    return (1 - 1e-5) * (1 - noise[t]) / (1 - noise[0])


def naive_loss(model, user, item, negative, draws, fix_first_beta):
    t, user_noise, item_noise = (draw.numpy() for draw in draws)
    user, item, negative = (x.double().numpy() for x in (user, item, negative))
    losses = []
    for b in range(len(user)):
        kept = naive_kept(t[b], fix_first_beta)
        # Eqs. 6-7: both sides noised to the same step
        user_t = kept**0.5 * user[b] + (1 - kept) ** 0.5 * user_noise[b]
        item_t = kept**0.5 * item[b] + (1 - kept) ** 0.5 * item_noise[b]
        # Eqs. 15-17: each reconstructed under the other side's clean vector
        user_hat = naive_denoiser(model.user_denoiser, user_t, item[b], t[b])
        item_hat = naive_denoiser(model.item_denoiser, item_t, user[b], t[b])
        # Eq. 18: squared errors, averaged over the dimensions and both sides
        reconstruction = np.mean((user_hat - user[b]) ** 2) / 2
        reconstruction += np.mean((item_hat - item[b]) ** 2) / 2
        # Eq. 19: BPR against the clean negative
        margin = user_hat @ item_hat - user_hat @ negative[b]
        recommendation = math.log1p(math.exp(-margin))
        # Eq. 20: the balance; Eqs. 21-22: the weight of a doubtful pair
        share = model.reconstruction_weight
        balanced = (1 - share) * recommendation + share * reconstruction
        weight = (1 / (1 + math.exp(-(user_hat @ item_hat)))) ** model.gamma
        losses.append(weight * balanced)
    return torch.tensor(losses)


def replayed_draws(seed, size, num_steps):
    """What the loss draws, in its order: steps, user noise, item noise."""
    generator = seeded(seed)
    return (
        torch.randint(num_steps, (size,), generator=generator),
        torch.randn(size, 3, generator=generator),
        torch.randn(size, 3, generator=generator),
    )


@pytest.mark.fidelity(
    "DDRM",
    "the loss, Eqs. 6-7 and 15-22",
    "the equations, row by row in float64",
    digits=4,
)
@pytest.mark.parametrize("reconstruction_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 0.8])
@pytest.mark.parametrize("fix_first_beta", [True, False])
def test_loss_is_equations_18_to_22(
    reconstruction_weight, gamma, fix_first_beta, agrees
):
    model = make(
        dropout=0.0,
        reconstruction_weight=reconstruction_weight,
        gamma=gamma,
        fix_first_beta=fix_first_beta,
    )
    draws = replayed_draws(11, 20, 4)
    assert set(draws[0].tolist()) == {0, 1, 2, 3}
    user, item, negative = triplet(20)
    loss = model.loss(user, item, negative, generator=seeded(11))
    expected = naive_loss(model, user, item, negative, draws, fix_first_beta)
    agrees(loss, expected)


def test_extreme_balances_leave_out_the_other_loss():
    user, item, negative = triplet()
    other = torch.flip(negative, [0])
    for share, reacts in ((1.0, False), (0.0, True)):
        model = make(dropout=0.0, reconstruction_weight=share)
        one, two = (
            model.loss(user, item, n, generator=seeded()) for n in (negative, other)
        )
        assert torch.allclose(one, two) is not reacts


def test_balance_interpolates_between_the_two_losses():
    user, item, negative = triplet()
    recommendation, reconstruction, mixed = (
        make(dropout=0.0, reconstruction_weight=share).loss(
            user, item, negative, generator=seeded()
        )
        for share in (0.0, 1.0, 0.25)
    )
    torch.testing.assert_close(mixed, 0.75 * recommendation + 0.25 * reconstruction)


def test_weights_of_equation_21_carry_no_gradient():
    user, item, negative = triplet()
    plain, weighted = make(dropout=0.0), make(dropout=0.0, gamma=0.7)
    for b in range(len(user)):
        base = plain.loss(user, item, negative, generator=seeded())[b]
        loss = weighted.loss(user, item, negative, generator=seeded())[b]
        weight = float(loss.detach() / base.detach())
        assert 0.01 < weight < 0.99
        slope = gradient(base, plain)
        assert slope.norm() > 0.01
        expected = weight * slope
        torch.testing.assert_close(
            gradient(loss, weighted), expected, rtol=1e-4, atol=1e-6
        )


def test_loss_reaches_both_denoisers():
    for share in (0.0, 1.0):
        model = make(reconstruction_weight=share)
        gradient(model.loss(*triplet(), generator=seeded()).mean(), model)
        for parameter in model.parameters():
            assert parameter.grad.abs().sum() > 0


def test_autocast_reaches_the_networks_and_not_the_loss():
    model, batch = make(dropout=0.0), triplet(64)
    full = model.loss(*batch, generator=seeded())
    with torch.autocast("cpu", torch.bfloat16):
        half = model.loss(*batch, generator=seeded())
    assert half.dtype == torch.float32
    assert not torch.equal(half, full)
    # bf16 keeps 8 bits; a sum of D products in bf16 would be coarser still
    torch.testing.assert_close(half, full, rtol=0.05, atol=0.02)
    seen = half.detach().view(torch.int32) & 0xFFFF
    assert (seen != 0).any()  # not all values are those of bf16


def test_loss_belongs_to_its_generator():
    model, batch = make(), triplet()
    state = torch.get_rng_state()
    first, again, other = (
        model.loss(*batch, generator=seeded(seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_acts_on_noisy_vectors_in_training_only():
    rows = torch.ones(4000, 3)
    model = make(dropout=0.25, noise_scale=1e-6)  # next to no noise
    t = torch.zeros(4000, dtype=torch.int64)
    seen = model._reconstruct(Echo(), rows, rows, t, seeded())
    dropped = seen.abs() < 0.5
    # five standard errors; survivors make up for the rest
    assert float(dropped.float().mean()) == pytest.approx(0.25, abs=0.02)
    assert float(seen[~dropped].mean()) == pytest.approx(1 / 0.75, abs=1e-3)
    seen = model.eval()._reconstruct(Echo(), rows, rows, t, seeded())
    assert (seen.abs() > 0.5).all()


# generation


def naive_generate(model, history, cond, noise, step_noise=None):
    """Algorithm 2, row by row; Eq. 13 with noise of the steps ``[T', B, D]``."""
    kept = [naive_kept(t, True) for t in range(4)]
    beta = [1e-5, *(1 - kept[t] / kept[t - 1] for t in range(1, 4))]
    rows = []
    for b, (x, guide, eps) in enumerate(zip(history, cond, noise, strict=True)):
        start = model.num_start_steps
        if start > 0:
            x = kept[start - 1] ** 0.5 * x + (1 - kept[start - 1]) ** 0.5 * eps
        for step in reversed(range(model.num_inference_steps)):
            t = min(step, 3)
            hat = naive_denoiser(model.item_denoiser, x, guide, step)
            before = kept[t - 1] if t > 0 else 1
            c1 = before**0.5 * beta[t] / (1 - kept[t])
            c2 = (1 - beta[t]) ** 0.5 * (1 - before) / (1 - kept[t])
            x = c1 * hat + c2 * x
            if step_noise is not None and step > 0:
                variance = beta[t] * (1 - before) / (1 - kept[t])
                x = x + variance**0.5 * step_noise[step][b]
        rows.append(x)
    return torch.tensor(np.stack(rows))


@pytest.mark.fidelity(
    "DDRM",
    "generation, Algorithm 2 and Eqs. 8, 12, 23",
    "the algorithm, row by row in float64",
    digits=4,
)
@pytest.mark.parametrize(
    ("num_start_steps", "num_inference_steps"), [(None, None), (2, 3), (4, 7), (0, 2)]
)
def test_forward_is_algorithm_2(graph, num_start_steps, num_inference_steps, agrees):
    model = make(
        sampler="posterior",
        num_start_steps=num_start_steps,
        num_inference_steps=num_inference_steps,
    )
    emb = vectors(4, 4)
    out = model(*emb, graph, generator=seeded(9))
    item = emb.item.double()
    history = torch.stack(
        [(item[0] + item[1]) / 2, item[2], item.new_zeros(3), item[0]]
    )
    history[2] = (2 * item[0] + item[1] + item[2]) / 4  # the cold user
    noise = torch.randn(4, 3, generator=seeded(9)).numpy()
    expected = naive_generate(model, history.numpy(), emb.user.double().numpy(), noise)
    agrees(out.user, expected)
    assert torch.equal(out.item, emb.item)


@pytest.mark.fidelity(
    "DDRM",
    "sampling noise, Eq. 13 (off by default)",
    "the algorithm with noise, row by row in float64",
    digits=4,
)
@pytest.mark.parametrize("steps", [1, 4, 6])
def test_sampling_noise_is_drawn_for_each_step_but_the_last(
    graph, monkeypatch, steps, agrees
):
    arguments = {"sampler": "posterior", "num_inference_steps": steps}
    model = make(**arguments, sampling_noise=True)
    emb = vectors(4, 4)
    out = model(*emb, graph, generator=seeded(9))
    own = seeded(9)
    draws = [torch.randn(4, 3, generator=own) for _ in range(steps)]
    expected = naive_generate(
        model,
        graph.history_mean(emb.item).double().numpy(),
        emb.user.double().numpy(),
        draws[0].double().numpy(),
        [None, *(noise.double().numpy() for noise in reversed(draws[1:]))],
    )
    agrees(out.user, expected)
    # whatever the chunks
    monkeypatch.setattr(module, "_CHUNK", 3)
    chunked = model(*emb, graph, generator=seeded(9)).user
    torch.testing.assert_close(chunked, out.user)
    # and a given noise is all there is
    history, noise = graph.history_mean(emb.item), draws[0]
    assert torch.equal(
        model.generate(history, emb.user, noise=noise),
        make(**arguments).generate(history, emb.user, noise=noise),
    )


def test_sampling_noise_reaches_both_node_types(graph):
    noisy, plain = (
        make(sampling_noise=on, sampler="posterior") for on in (True, False)
    )
    for left, right in zip(
        noisy.denoise(*vectors(4, 4), graph, generator=seeded()),
        plain.denoise(*vectors(4, 4), graph, generator=seeded()),
        strict=True,
    ):
        assert (left != right).any(1).all()


def test_without_noise_the_network_is_applied_again_and_again(graph):
    model = make(noise_scale=0, sampler="posterior", num_inference_steps=3)
    emb = vectors(4, 4)
    x = graph.history_mean(emb.item)
    with torch.no_grad():
        for step in (2, 1, 0):
            x = model.item_denoiser(x, emb.user, torch.tensor([step]))
    assert torch.equal(model(*emb, graph).user, x)


def test_one_pass_without_noise_is_the_item_denoiser_on_the_history(graph):
    model = make(num_start_steps=0, num_inference_steps=1)
    emb = vectors(4, 4)
    out = model(*emb, graph)
    history = graph.history_mean(emb.item)
    with torch.no_grad():
        expected = model.item_denoiser(history, emb.user, torch.tensor([0]))
    assert torch.equal(out.user, expected)
    assert torch.equal(out.user, model(*emb, graph, generator=seeded(1)).user)


def test_passes_default_to_six_or_a_fifth_of_the_steps():
    model = make()
    assert (model.num_inference_steps, model.num_start_steps) == (1, 4)
    assert make(num_train_timesteps=50).num_inference_steps == 6
    assert make(num_train_timesteps=20).num_inference_steps == 4
    long = {"num_train_timesteps": 20}
    assert make(**long, num_start_steps=10).num_inference_steps == 2
    assert make(**long, num_start_steps=0).num_inference_steps == 1
    assert make(**long, num_start_steps=0, start="noise").num_inference_steps == 4
    assert make(sampler="posterior", num_train_timesteps=9).num_inference_steps == 9


@pytest.mark.parametrize("verb", ["forward", "denoise"])
@pytest.mark.parametrize("steps", [4, 3])
def test_skipping_nothing_is_the_published_walk_to_the_bit(graph, verb, steps):
    skip, full = (
        make(sampler=sampler, num_inference_steps=steps, num_start_steps=steps)
        for sampler in ("skip", "posterior")
    )
    for left, right in zip(
        *(
            getattr(m, verb)(*vectors(4, 4), graph, generator=seeded())
            for m in (skip, full)
        ),
        strict=True,
    ):
        assert torch.equal(left, right)


def test_two_of_four_steps_by_hand():
    model = make(sampler="skip", num_inference_steps=2)
    history, user = vectors(5, 5)
    noise = torch.randn(5, 3, generator=seeded(9)).numpy()
    low, high = naive_kept(1, True), naive_kept(3, True)
    expected = []
    for x, guide, eps in zip(
        history.double().numpy(), user.double().numpy(), noise, strict=True
    ):
        x = high**0.5 * x + (1 - high) ** 0.5 * eps
        hat = naive_denoiser(model.item_denoiser, x, guide, 3)
        # Eq. 12 with the variance of both steps at once: 1 - beta = high / low
        x = (
            low**0.5 * (1 - high / low) * hat + (high / low) ** 0.5 * (1 - low) * x
        ) / (1 - high)
        expected.append(naive_denoiser(model.item_denoiser, x, guide, 1))
    out = model.generate(history, user, generator=seeded(9))
    torch.testing.assert_close(
        out.double(), torch.tensor(np.stack(expected)), rtol=1e-4, atol=1e-5
    )


def test_the_limit_of_skipping_is_one_pass_without_noise(graph):
    one, limit = (
        make(num_start_steps=0, **options)
        for options in ({"sampler": "posterior", "num_inference_steps": 1}, {})
    )
    emb = vectors(4, 4)
    assert torch.equal(one(*emb, graph).user, limit(*emb, graph).user)


def test_forward_is_inference_in_every_mode(graph):
    model = make(dropout=0.9)
    emb = vectors(4, 4)
    for table in emb:
        table.requires_grad_()
    in_train = model.train()(*emb, graph, generator=seeded())
    in_eval = model.eval()(*emb, graph, generator=seeded())
    for left, right in zip(in_train, in_eval, strict=True):
        assert torch.equal(left, right)
        assert not left.requires_grad
        assert left.grad_fn is None


@pytest.mark.parametrize("verb", ["forward", "denoise"])
def test_inputs_stay_as_they_are(graph, verb):
    model = make()
    layers = nn.Embedding(4, 3), nn.Embedding(4, 3)
    before = [layer.weight.detach().clone() for layer in layers]
    edges = graph.edge_index.clone()
    getattr(model, verb)(*(layer.weight for layer in layers), graph)
    for layer, bits in zip(layers, before, strict=True):
        assert torch.equal(layer.weight, bits)
        assert layer.weight.requires_grad
        assert layer.weight.grad is None
    assert torch.equal(graph.edge_index, edges)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("chunk", [1, 3, 4])
@pytest.mark.parametrize("verb", ["forward", "denoise"])
def test_chunks_change_nothing(graph, monkeypatch, chunk, verb):
    model, emb = make(), vectors(4, 4)
    whole = getattr(model, verb)(*emb, graph, generator=seeded())
    monkeypatch.setattr(module, "_CHUNK", chunk)
    in_chunks = getattr(model, verb)(*emb, graph, generator=seeded())
    for left, right in zip(whole, in_chunks, strict=True):
        # a matrix product of another height may round differently
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-6)


def test_forward_belongs_to_its_generator(graph):
    model, emb = make(), vectors(4, 4)
    state = torch.get_rng_state()
    first, again, other = (
        model(*emb, graph, generator=seeded(seed)).user for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("verb", ["forward", "denoise"])
def test_edge_index_is_as_good_as_a_graph(graph, verb):
    model, emb = make(), vectors(4, 4)
    forms = [graph, graph.edge_index]
    ours, theirs = (getattr(model, verb)(*emb, f, generator=seeded()) for f in forms)
    for left, right in zip(ours, theirs, strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("verb", ["forward", "denoise"])
def test_sparse_tensor_is_as_good_as_a_graph(graph, verb):
    torch_sparse = pytest.importorskip(
        "torch_sparse", reason="needs the extra [sparse]"
    )
    model, emb = make(), vectors(4, 4)
    user, item = graph.edge_index
    adj_t = torch_sparse.SparseTensor(row=item, col=user, sparse_sizes=(4, 4))
    ours, theirs = (
        getattr(model, verb)(*emb, form, generator=seeded()) for form in (graph, adj_t)
    )
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left, right)


def test_history_weight_moves_the_start(graph):
    model, emb = make(num_start_steps=0), vectors(4, 4)
    weight = torch.tensor([1.0, 0.0, 1.0, 1.0])  # user 0 keeps item 0 alone, as user 3
    out = model(*emb, graph, history_weight=weight)
    alike = model.generate(emb.item[[0]], emb.user[[0]])
    torch.testing.assert_close(out.user[[0]], alike)
    assert not torch.allclose(out.user[0], model(*emb, graph).user[0])


def test_generate_lets_the_history_stand_in_for_the_user():
    model = make()
    history = vectors(6, 2).user.requires_grad_()
    out = model.generate(history, generator=seeded())
    expected = model.generate(history, history, generator=seeded())
    assert out.shape == (6, 3)
    assert torch.equal(out, expected)
    assert not out.requires_grad
    other = model.generate(history, torch.zeros(6, 3), generator=seeded())
    assert not torch.allclose(out, other)


def test_generate_is_what_forward_does_with_the_history(graph):
    model, emb = make(), vectors(4, 4)
    history = graph.history_mean(emb.item)
    out = model.generate(history, emb.user, generator=seeded(3))
    assert torch.equal(out, model(*emb, graph, generator=seeded(3)).user)


@pytest.mark.parametrize("start", ["history", "noise"])
def test_noise_may_be_given_instead_of_drawn(start):
    model = make(start=start)
    history, user = vectors(5, 5)
    noise = torch.randn(5, 3, generator=seeded(9))
    out = model.generate(history, user, noise=noise)
    assert torch.equal(out, model.generate(history, user, generator=seeded(9)))
    # a row is its own: neither the others nor their order count
    (alone,) = model.generate(history[[3]], user[[3]], noise=noise[[3]])
    torch.testing.assert_close(alone, out[3])


@pytest.mark.parametrize(
    ("options", "draws"),
    [({}, True), ({"num_start_steps": 0}, False), ({"start": "noise"}, True)],
)
def test_generate_draws_where_something_is_noised(options, draws):
    generator = seeded(4)
    before = generator.get_state()
    make(**options).generate(torch.randn(5, 3), generator=generator)
    assert torch.equal(generator.get_state(), before) is not draws


def test_forward_draws_always_so_that_what_follows_keeps_its_noise(graph):
    generator, drawn = seeded(4), seeded(4)
    make(num_start_steps=0)(*vectors(4, 4), graph, generator=generator)
    torch.randn(4, 3, generator=drawn)
    assert torch.equal(generator.get_state(), drawn.get_state())


def test_noise_and_generator_exclude_each_other():
    rows = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="'noise' and 'generator' exclude each other"):
        make().generate(rows, noise=rows, generator=seeded())
    with pytest.raises(ValueError, match="'noise' must have one row per 'history_emb'"):
        make().generate(rows, noise=torch.zeros(1, 3))


class _Generation(nn.Module):
    def __init__(self, ddrm):
        super().__init__()
        self.ddrm = ddrm

    def forward(self, history_emb):
        return self.ddrm.generate(history_emb, noise=torch.zeros_like(history_emb))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"denoiser": "transformer"}, {"num_start_steps": 0}]
)
def test_generate_exports_for_any_number_of_rows(options, strict):
    eager = _Generation(make(**options).eval())
    program = torch.export.export(
        eager,
        (torch.zeros(2, 3),),
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        strict=strict,
    )
    assert not any("rand" in str(node.target) for node in program.graph.nodes)
    for size in (1, 2, 7, 300, module._CHUNK + 1):
        rows = vectors(size, 1).user
        torch.testing.assert_close(program.module()(rows), eager(rows))


def test_denoise_conditions_each_side_on_the_other(graph):
    model = make(num_start_steps=0, num_inference_steps=1)
    emb = vectors(4, 4)
    user, item = emb
    out = model.denoise(user, item, graph)
    mean_item = (2 * item[0] + item[1] + item[2]) / 4
    mean_user = (user[1] + 2 * user[0] + user[3]) / 4
    of_user = torch.stack([(item[0] + item[1]) / 2, item[2], mean_item, item[0]])
    of_item = torch.stack([(user[0] + user[3]) / 2, user[0], user[1], mean_user])
    step = torch.tensor([0])
    with torch.no_grad():
        torch.testing.assert_close(out.user, model.user_denoiser(user, of_user, step))
        torch.testing.assert_close(out.item, model.item_denoiser(item, of_item, step))


def test_denoise_keeps_shapes_and_carries_no_gradient():
    graph = InteractionGraph(torch.tensor([[0, 1], [4, 2]]), 3, 5)
    emb = vectors(3, 5)
    out = make(dropout=0.9).train().denoise(emb.user.requires_grad_(), emb.item, graph)
    assert (out.user.shape, out.item.shape) == ((3, 3), (5, 3))
    assert not out.user.requires_grad


def test_double_precision_runs(graph):
    emb = Embeddings(*(table.double() for table in vectors(4, 4)))
    out = make().double()(*emb, graph, generator=seeded())
    assert out.user.dtype == torch.float64
    single = make()(*vectors(4, 4), graph, generator=seeded())
    torch.testing.assert_close(out.user.float(), single.user, rtol=1e-4, atol=1e-5)


def test_denoisers_have_the_published_widths():
    model = DDRM()
    for denoiser in (model.user_denoiser, model.item_denoiser):
        widths = [(x.in_features, x.out_features) for x in denoiser.layers[::2]]
        assert widths == [(138, 1000), (1000, 300), (300, 1000), (1000, 64)]
    assert model.diffusion.num_steps == 50


def test_reset_draws_both_denoisers_anew():
    model = make()
    before = [p.clone() for p in model.parameters()]
    model.reset_parameters()
    for old, new in zip(before, model.parameters(), strict=True):
        assert not torch.equal(old, new)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"num_train_timesteps": 0},
            r"'num_train_timesteps' must be >= 1 \(got 0\)",
        ),
        (
            {"num_inference_steps": 0},
            r"'num_inference_steps' must be >= 1 \(got 0\)",
        ),
        ({"num_train_timesteps": 50.0}, r"must be an integer \(got 50\.0\)"),
        (
            {"num_start_steps": -1},
            r"'num_start_steps' must be >= 0 \(got -1\)",
        ),
        ({"num_start_steps": 5}, r"'num_start_steps' must be <= 'num_train.*\(got 5\)"),
        ({"denoiser": "unet"}, r"'denoiser' must be one of .*\(got 'unet'\)"),
        ({"attention": "soft"}, r"'attention' must be one of .*\(got 'soft'\)"),
        (
            {"denoiser": "transformer", "attention": "gate", "dropout": 0.5},
            r"'dropout' must be 0 with attention='gate' \(got 0\.5\)",
        ),
        ({"start": "user"}, r"'start' must be one of .*\(got 'user'\)"),
        ({"dynamic_scale": True, "noise_max": 1.0}, r"and < 0\.5 with .*\(got 0\.5\)"),
        ({"dynamic_scale": True, "noise_scale": 0}, r"must be > 0 and .*\(got 0\)"),
        ({"sampler": "ddim"}, r"'sampler' must be one of .*\(got 'ddim'\)"),
        (
            {"sampler": "skip", "num_inference_steps": 5},
            r"must be <= 4, the steps that sampler='skip' .* \(got 5\)",
        ),
        (
            {"sampler": "skip", "num_start_steps": 0, "num_inference_steps": 2},
            r"must be <= 1, the steps that sampler='skip' .* \(got 2\)",
        ),
        ({"reconstruction_weight": 1.1}, r"'reconstruction_weight' .*\(got 1\.1\)"),
        ({"dropout": -0.1}, r"'dropout' must lie in \[0, 1\] \(got -0\.1\)"),
        ({"gamma": -1}, r"'gamma' must be >= 0 \(got -1\)"),
        ({"gamma": float("nan")}, r"'gamma' must be >= 0 \(got nan\)"),
        ({"embedding_dim": 0}, r"must be >= 1 \(got 0, 10 and \(6,\)\)"),
        ({"noise_min": 0.0}, r"must rise within \(0, 1\) \(got 0 and "),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


@pytest.mark.parametrize("verb", ["forward", "denoise"])
@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (vectors(5, 4), r"'graph' must have 5 users and 4 items \(got 4 and 4\)"),
        (vectors(4, 4, dim=2), r"'embeddings' must be 3 wide, as 'ddrm' is \(got 2\)"),
        (
            Embeddings(torch.ones(4, 3), torch.ones(4, 2)),
            r"'user' and 'item' must be equally wide \(got 3 and 2\)",
        ),
        (
            Embeddings(
                torch.ones(4, 3), torch.full((4, 3), 1e300, dtype=torch.float64)
            ),
            r"'item' must be finite \(got inf at row 0, column 0\)",
        ),
        (
            Embeddings(torch.full((4, 3), torch.nan), torch.ones(4, 3)),
            r"'user' must be finite \(got nan at row 0, column 0\)",
        ),
    ],
)
def test_vectors_that_do_not_fit_are_refused(graph, verb, tables, message):
    with pytest.raises(ValueError, match=message):
        getattr(make(), verb)(*tables, graph)


@pytest.mark.parametrize(
    ("verb", "shapes", "message"),
    [
        ("loss", [(4, 3), (4, 2), (4, 3)], r"'item_emb' must be [B, 3] (got [4, 2])"),
        ("loss", [(4, 3), (4, 3), (3,)], r"'neg_item_emb' must be [B, 3] (got [3])"),
        ("generate", [(4, 2)], r"'history_emb' must be [B, 3] (got [4, 2])"),
        ("generate", [(4, 3), (4, 2)], r"'user_emb' must be [B, 3] (got [4, 2])"),
        ("loss", [(4, 3), (1, 3), (4, 3)], "one row per 'user_emb', 4 (got 1)"),
        ("generate", [()], "'history_emb' must be [B, 3] (got [])"),
        ("loss", [(4, 3)] * 3 + [(1, 3)], "'history_emb' must have one row per 'user"),
        ("generate", [(4, 3), (1, 3)], "one row per 'history_emb', 4 (got 1)"),
    ],
)
def test_rows_of_another_width_are_refused(verb, shapes, message):
    rows = [torch.ones(shape) for shape in shapes]
    rest = {"history_emb": rows.pop()} if len(rows) == 4 else {}
    with pytest.raises(ValueError, match=re.escape(message)):
        getattr(make(), verb)(*rows, **rest)


# the variants of Table 3 and Figure 5


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({}, MLPDenoiser),
        ({"denoiser": "transformer"}, TransformerDenoiser),
        ({"denoiser": "transformer", "attention": "gate"}, GateDenoiser),
        ({"denoiser": "transformer", "attention": "learned-gate"}, GateDenoiser),
    ],
)
def test_both_networks_are_of_the_chosen_kind(arguments, kind):
    model = make(activation="tanh", **arguments)
    assert type(model.user_denoiser) is type(model.item_denoiser) is kind
    assert isinstance(model.item_denoiser.layers[1], nn.Tanh)


@pytest.mark.parametrize(
    ("arguments", "dropout", "maps_time"),
    [
        ({}, 0.5, True),
        ({"attention": "gate"}, 0.5, True),  # of a transformer only
        ({"denoiser": "transformer"}, 0.5, None),
        ({"denoiser": "transformer", "attention": "learned-gate"}, 0.5, True),
        ({"denoiser": "transformer", "attention": "gate"}, 0.0, False),
    ],
)
def test_the_authors_gate_drops_nothing_and_has_fixed_sinusoids(
    arguments, dropout, maps_time
):
    model = make(activation="tanh", **arguments)
    assert model.dropout == dropout
    if maps_time is not None:
        assert isinstance(model.item_denoiser.time, nn.Linear) is maps_time


def test_the_authors_gate_sees_all_of_the_noisy_vectors_in_training():
    model = make(**VARIANTS["gate"], gamma=0.5, reconstruction_weight=0.3)
    seen = []
    for denoiser in (model.user_denoiser, model.item_denoiser):
        denoiser.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    user, item, negative = triplet()
    model.train().loss(user, item, negative, generator=seeded(4))
    t, *noises = replayed_draws(4, 5, 4)
    for x_start, noise, x_t in zip((user, item), noises, seen, strict=True):
        assert torch.equal(x_t, model.diffusion.q_sample(x_start, t, noise))


@pytest.mark.parametrize("num_start_steps", [None, 0])
def test_generation_may_start_from_noise_alone(num_start_steps):
    posterior = {"sampler": "posterior"}
    model = make(start="noise", num_start_steps=num_start_steps, **posterior)
    history, user = vectors(5, 5)
    out = model.generate(history, user, generator=seeded(9))
    assert torch.equal(out, model.generate(-history, user, generator=seeded(9)))
    noise = torch.randn(5, 3, generator=seeded(9))
    plain = make(num_start_steps=0, **posterior)
    assert torch.equal(out, plain.generate(noise, user, generator=seeded(1)))
    # the noise has no scale: it is N(0, I) whatever the schedule
    model.item_denoiser = Echo()
    model._plan_walk(1)
    rows = model.generate(torch.zeros(20_000, 3), generator=seeded())
    assert float(rows.var()) == pytest.approx(1, rel=0.03)


def test_without_a_user_network_the_user_is_the_reconstruction(graph):
    model = make(denoise_user=False, dropout=0.0, reconstruction_weight=0.3, gamma=0.5)
    assert model.user_denoiser is None
    assert all(name.startswith("item_denoiser") for name, _ in model.named_parameters())
    user, item, negative = triplet()
    loss = model.loss(user, item, negative, generator=seeded(4))
    generator = seeded(4)
    t = torch.randint(4, (5,), generator=generator)
    noise = torch.randn(5, 3, generator=generator)
    with torch.no_grad():
        item_t = model.diffusion.q_sample(item, t, noise)
        item_hat = model.item_denoiser(item_t, user, t)
    margin = (user * (item_hat - negative)).sum(-1)
    bpr = nn.functional.softplus(-margin)
    reconstruction = (item_hat - item).square().mean(-1) / 2
    weight = (user * item_hat).sum(-1).sigmoid() ** 0.5
    torch.testing.assert_close(loss, weight * (0.7 * bpr + 0.3 * reconstruction))
    # users pass unchanged, items and ideal items as ever
    emb = vectors(4, 4)
    out = model.denoise(*emb, graph, generator=seeded())
    assert torch.equal(out.user, emb.user)
    assert not torch.equal(out.item, emb.item)
    model.reset_parameters()


@pytest.mark.parametrize("fix_first_beta", [True, False])
def test_a_dynamic_scale_is_uniform_up_to_twice_the_scale(fix_first_beta):
    size = 30_000
    schedule = {"noise_scale": 0.5, "noise_min": 0.2, "noise_max": 0.9}
    model = make(
        dynamic_scale=True,
        dropout=0.0,
        fix_first_beta=fix_first_beta,
        num_train_timesteps=1,
        reconstruction_weight=1.0,
        denoise_user=False,
        **schedule,
    )
    model.item_denoiser = Echo()
    # of rows of zeros only noise is left: the loss is half their mean square
    rows = torch.zeros(size, 3)
    loss = model.loss(rows, rows, rows, generator=seeded()).detach()
    # the scale's mean is the schedule's; the fixed beta leaves nothing to scale
    mean = 1e-5 if fix_first_beta else 0.5 * 0.2
    assert float(loss.mean()) == pytest.approx(mean / 2, rel=0.03)
    fixed = make(num_train_timesteps=1, fix_first_beta=fix_first_beta, **schedule)
    torch.testing.assert_close(
        model.diffusion.alphas_cumprod, fixed.diffusion.alphas_cumprod
    )


def test_rows_of_a_dynamic_scale_by_hand():
    model = make(
        dynamic_scale=True, dropout=0.0, reconstruction_weight=1.0, denoise_user=False
    )
    model.item_denoiser = Echo()
    user, item, negative = triplet(20)
    loss = model.loss(user, item, negative, generator=seeded(4))
    generator = seeded(4)
    t = torch.randint(4, (20,), generator=generator)
    scale = torch.rand(20, generator=generator)  # 2 * 0.5
    noise = torch.randn(20, 3, generator=generator)
    for b in range(20):
        low, high = (scale[b] * (0.1 + 0.2 * k) for k in (0, int(t[b])))
        kept = (1 - 1e-5) * (1 - high) / (1 - low)
        x = kept**0.5 * item[b] + (1 - kept) ** 0.5 * noise[b]
        expected = (x - item[b]).square().mean() / 2
        torch.testing.assert_close(loss[b], expected, rtol=1e-4, atol=1e-6)


def test_a_dynamic_scale_plays_no_part_in_inference(graph):
    emb = vectors(4, 4)
    one, two = (
        make(dynamic_scale=dynamic)(*emb, graph, generator=seeded())
        for dynamic in (True, False)
    )
    assert torch.equal(one.user, two.user)


VARIANTS = {
    "transformer": {"denoiser": "transformer"},
    "gate": {"denoiser": "transformer", "attention": "gate", "activation": "tanh"},
    "learned gate": {"denoiser": "transformer", "attention": "learned-gate"},
    "noise": {"start": "noise"},
    "sampling noise": {"sampling_noise": True, "sampler": "posterior"},
    "no noise": {"noise_scale": 0.0},
    "dynamic scale": {"dynamic_scale": True},
    "no user network": {"denoise_user": False},
    "skip": {"sampler": "skip", "num_inference_steps": 2},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("train_start", ["item", "history"])
def test_variants_keep_the_protocol(variant, train_start):
    model = DDRMRecommender(
        make(**VARIANTS[variant]), vectors(12, 12), train_start=train_start
    )
    testing.check_recommender(model, testing.checkerboard(12, 12))


# the recommender


def as_file(suffix):
    def save(emb, folder):
        emb.save(folder / f"emb{suffix}")
        return folder / f"emb{suffix}"

    return save


@pytest.mark.parametrize(
    "form",
    [
        lambda emb, _: emb,
        lambda emb, _: tuple(emb),
        lambda emb, _: [table.numpy() for table in emb],
        lambda emb, _: [table.double().numpy() for table in emb],
        lambda emb, _: [table.numpy().astype(">f8") for table in emb],
        lambda emb, _: [table.numpy()[::-1, ::-1].copy()[::-1, ::-1] for table in emb],
        lambda emb, _: [pd.DataFrame(table.numpy()) for table in emb],
        lambda emb, _: tuple(nn.Embedding.from_pretrained(table) for table in emb),
        lambda emb, _: tuple(nn.Parameter(table) for table in emb),
        as_file(".npz"),
        as_file(".safetensors"),
        as_file(".pt"),
        lambda emb, folder: str(as_file(".npz")(emb, folder)),
    ],
    ids=[
        "Embeddings",
        "tensors",
        "arrays",
        "double",
        "big-endian",
        "reversed",
        "frames",
        "layers",
        "parameters",
        "npz",
        "safetensors",
        "pt",
        "str",
    ],
)
def test_embeddings_may_come_in_any_form(graph, tmp_path, form):
    emb = vectors(4, 4)
    recommender = DDRMRecommender(make(), form(emb, tmp_path))
    for left, right in zip(recommender.embeddings, emb, strict=True):
        assert torch.equal(left, right)
        assert not left.requires_grad
    scorer = recommender.scorer(graph)
    assert isinstance(scorer, Scorer)
    expected = make()(*emb, graph, generator=seeded(0))
    assert torch.equal(scorer.user, expected.user)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (vectors(4, 4, dim=2), r"'embeddings' must be 3 wide, as 'ddrm' is \(got 2\)"),
        (
            [np.ones((4, 3)), np.full((4, 3), 1e300)],
            r"'item' must be finite \(got inf at row 0, column 0\)",
        ),
    ],
    ids=["width", "range"],
)
def test_recommender_refuses_vectors_that_do_not_fit(tables, message):
    with pytest.raises(ValueError, match=message):
        DDRMRecommender(make(), tables)


def test_recommender_refuses_a_graph_of_other_size(graph):
    recommender = DDRMRecommender(make(), vectors(4, 5))
    with pytest.raises(
        ValueError, match=r"'item' must have one row per .* 4 \(got 5\)"
    ):
        next(iter(recommender.batches(graph, batch_size=4, generator=seeded())))


def test_recommender_refuses_weights_of_another_graph(graph):
    recommender = DDRMRecommender(make(), vectors(4, 4), history_weight=torch.ones(3))
    message = (
        r"'history_weight' must have one value per interaction, 4 \(got shape \[3\]"
    )
    with pytest.raises(ValueError, match=message):
        recommender.batches(graph, batch_size=4, generator=seeded())


def test_tiny_beliefs_to_a_small_power_do_not_vanish():
    ddrm = make(gamma=0.05, denoise_user=False, noise_scale=1e-9).eval()
    ddrm.item_denoiser = Echo()  # and next to no noise: the score is -147
    user = torch.full((1, 3), 7.0)
    loss = ddrm.loss(user, -user, torch.zeros(1, 3), generator=seeded())
    share = ddrm.reconstruction_weight
    expected = math.exp(-147 * 0.05) * 147 * (1 - share)
    assert loss.item() == pytest.approx(expected, rel=0.01)


def test_equal_seeds_rank_alike(graph):
    ddrm, emb = make(), vectors(4, 4)
    one, two = (DDRMRecommender(ddrm, emb, seed=seed) for seed in (0, 1))
    assert torch.equal(one.scorer(graph).user, one.scorer(graph).user)
    assert not torch.equal(one.scorer(graph).user, two.scorer(graph).user)


def test_recommender_passes_the_history_weight_on(graph):
    ddrm, emb = make(), vectors(4, 4)
    weight = torch.tensor([1.0, 0.0, 1.0, 1.0])
    scorer = DDRMRecommender(ddrm, emb, history_weight=weight).scorer(graph)
    expected = ddrm(*emb, graph, history_weight=weight, generator=seeded(0))
    assert torch.equal(scorer.user, expected.user)


def test_only_the_denoisers_are_trained_and_saved():
    recommender = DDRMRecommender(make(), vectors(4, 4))
    assert isinstance(recommender, Recommender)
    names = {name for name, _ in recommender.named_parameters()}
    assert names == {f"ddrm.{name}" for name, _ in recommender.ddrm.named_parameters()}
    assert set(recommender.state_dict()) == names


def test_users_of_triplets_are_drawn_uniformly_unless_told(checkerboard):
    emb = vectors(12, 12)
    counts = []
    for options in ({}, {"users": "interactions"}):
        recommender = DDRMRecommender(make(), emb, **options)
        (batch,) = recommender.batches(
            checkerboard.graph, batch_size=60, generator=seeded()
        )
        pairs = torch.stack([batch.user, batch.pos_item])
        counts.append(pairs.unique(dim=1).size(1))
    assert counts[0] < 60
    assert counts[1] == 60


def test_losses_are_those_of_the_plug_in(checkerboard):
    emb = vectors(12, 12)
    recommender = DDRMRecommender(make(), emb)
    graph = checkerboard.graph
    batch = next(iter(recommender.batches(graph, batch_size=8, generator=seeded())))
    (loss,) = recommender.losses(batch, graph, generator=seeded(4))
    rows = emb.user[batch.user], emb.item[batch.pos_item], emb.item[batch.neg_item]
    assert torch.equal(loss, recommender.ddrm.loss(*rows, generator=seeded(4)))


@pytest.mark.parametrize("weighted", [False, True])
def test_training_may_start_where_inference_does(checkerboard, weighted):
    emb, graph = vectors(12, 12), checkerboard.graph
    weight = torch.rand(graph.num_edges, generator=seeded(7)) if weighted else None
    recommender = DDRMRecommender(
        make(dropout=0.0), emb, history_weight=weight, train_start="history"
    )
    batch = next(iter(recommender.batches(graph, batch_size=8, generator=seeded())))
    (loss,) = recommender.losses(batch, graph, generator=seeded(4))
    weight = torch.ones(graph.num_edges) if weight is None else weight
    for b, (user, item, negative) in enumerate(zip(*batch, strict=True)):
        others = (graph.edge_index[0] == user) & (graph.edge_index[1] != item)
        rows = emb.item[graph.edge_index[1][others]]
        rest = (weight[others] @ rows) / weight[others].sum()
        t, user_noise, item_noise = (
            draw[b] for draw in replayed_draws(4, len(batch.user), 4)
        )
        kept = naive_kept(int(t), True)
        user_t, item_t = (
            kept**0.5 * x + (1 - kept) ** 0.5 * noise
            for x, noise in ((emb.user[user], user_noise), (rest, item_noise))
        )
        ddrm, step = recommender.ddrm, t.view(1)
        user_hat = ddrm.user_denoiser(user_t[None], emb.item[item][None], step)[0]
        item_hat = ddrm.item_denoiser(item_t[None], emb.user[user][None], step)[0]
        margin = user_hat @ (emb.item[negative] - item_hat)
        # the targets stay the user and the item
        reconstruction = (
            (user_hat - emb.user[user]).square().mean()
            + (item_hat - emb.item[item]).square().mean()
        ) / 2
        expected = 0.9 * nn.functional.softplus(margin) + 0.1 * reconstruction
        torch.testing.assert_close(loss[b], expected, rtol=1e-4, atol=1e-5)


def test_histories_are_those_of_the_graph_that_is_trained_on(checkerboard):
    emb, graph = vectors(12, 12), checkerboard.graph
    other = graph.subgraph(torch.arange(graph.num_edges) % 3 > 0)
    recommender = DDRMRecommender(make(), emb, train_start="history")
    fresh = DDRMRecommender(make(), emb, train_start="history")
    losses = []
    for model, seen in ((recommender, graph), (recommender, other), (fresh, other)):
        batch = next(iter(model.batches(other, batch_size=8, generator=seeded())))
        losses += model.losses(batch, seen, generator=seeded())
    assert not torch.equal(losses[0], losses[1])
    assert torch.equal(losses[1], losses[2])


def test_an_unknown_start_of_training_is_refused():
    with pytest.raises(ValueError, match=r"'train_start' must be .*\(got 'mean'\)"):
        DDRMRecommender(make(), vectors(4, 4), train_start="mean")
    with pytest.raises(ValueError, match=r"'users' must be .*\(got 'all'\)"):
        DDRMRecommender(make(), vectors(4, 4), users="all")


def reconstruction_errors(ddrm, emb, pairs):
    """Squared error of each denoiser at the first step, on fixed noise."""
    user, item = emb.user[pairs[0]], emb.item[pairs[1]]
    t = torch.zeros(pairs.size(1), dtype=torch.int64)
    with torch.no_grad():
        return [
            float((ddrm._reconstruct(net, x, cond, t, seeded(8)) - x).square().mean())
            for net, x, cond in (
                (ddrm.user_denoiser, user, item),
                (ddrm.item_denoiser, item, user),
            )
        ]


def test_training_moves_both_denoisers_and_not_the_embeddings(checkerboard):
    # planted: one direction per colour
    colour = torch.arange(12) % 2
    table = torch.stack([1.0 - colour, colour, torch.ones(12)], dim=1)
    emb = Embeddings(table, table.clone())
    bits = [t.clone() for t in emb]
    ddrm = make(
        dropout=0.0, noise_scale=0.01, reconstruction_weight=0.5, hidden_dims=(16,)
    )
    recommender = DDRMRecommender(ddrm, emb)
    graph, generator = checkerboard.graph, seeded()
    optimizer = torch.optim.Adam(recommender.parameters(), lr=1e-2)
    before = reconstruction_errors(ddrm, emb, graph.edge_index)
    mean_losses = []
    for _ in range(40):
        for batch in recommender.batches(graph, batch_size=30, generator=generator):
            for loss in recommender.losses(batch, graph, generator=generator):
                optimizer.zero_grad()
                loss.mean().backward()
                optimizer.step()
                mean_losses.append(float(loss.detach().mean()))
    after = reconstruction_errors(ddrm, emb, graph.edge_index)
    assert sum(mean_losses[-10:]) < 0.5 * sum(mean_losses[:10])
    assert after[0] < 0.3 * before[0]
    assert after[1] < 0.3 * before[1]
    for table, old in zip((*emb, *recommender.embeddings), bits * 2, strict=True):
        assert torch.equal(table, old)
    # the generated items prefer the own colour
    scores = recommender.scorer(graph).scores(torch.arange(12))
    same = colour.unsqueeze(1) == colour
    assert scores[same].view(12, 6).min() > scores[~same].view(12, 6).max()


@pytest.mark.parametrize("method", ["forward", "denoise"])
def test_tables_may_come_as_one_argument_and_as_arrays(graph, method):
    model, emb = make(), vectors(graph.num_users, graph.num_items)
    call = getattr(model, method)
    expected = call(emb.user, emb.item, graph, generator=seeded())
    arrays = (emb.user.numpy(), emb.item.numpy())
    for arguments in ((emb, graph), (arrays, graph), (*arrays, graph)):
        answer = call(*arguments, generator=seeded())
        assert torch.equal(answer.user, expected.user)
        assert torch.equal(answer.item, expected.item)


def test_untrained_networks_warn_once(graph, caplog):
    model, emb = make(), vectors(graph.num_users, graph.num_items)
    model(emb, graph)
    model(emb, graph)
    (record,) = caplog.records
    assert "before it was trained" in record.message
    model.reset_parameters()
    model(emb, graph)
    assert len(caplog.records) == 2


def test_trained_and_loaded_networks_do_not_warn(graph, caplog):
    trained, emb = make(), vectors(graph.num_users, graph.num_items)
    trained.loss(*triplet()).mean().backward()
    trained(emb, graph)
    loaded = make()
    loaded.load_state_dict(trained.state_dict())
    loaded(emb, graph)
    assert caplog.records == []


# networks of one's own, residuals, dropout of hidden layers, steps of one's own losses


class Sum(nn.Module):
    """Adds what it is given; one parameter, so that it can be trained."""

    def __init__(self, scale=2.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x_t, cond, t):
        return self.scale * x_t + cond


def test_a_module_of_ones_own_denoises():
    own = Sum()
    model = make(denoiser=own, num_start_steps=0)
    assert model.item_denoiser is not own
    assert model.item_denoiser is not model.user_denoiser
    start, cond = vectors(5, 5)
    torch.testing.assert_close(model.generate(start, cond), 2 * start + cond)
    loss = model.loss(start, start, cond, generator=seeded()).mean()
    loss.backward()
    assert model.item_denoiser.scale.grad is not None
    assert own.scale.grad is None


def test_a_factory_makes_a_network_for_each_side():
    widths = []

    def factory(embedding_dim):
        widths.append(embedding_dim)
        return Sum(float(len(widths)))

    model = make(denoiser=factory)
    assert widths == [3, 3]
    assert model.user_denoiser.scale.item() == 1
    assert model.item_denoiser.scale.item() == 2
    model.reset_parameters()  # leaves what is not its own
    assert model.item_denoiser.scale.item() == 2


def test_a_residual_network_adds_to_the_noisy_vector():
    plain, residual = (
        make(denoiser=Sum(), num_start_steps=0, residual=r) for r in (False, True)
    )
    start, cond = vectors(5, 5)
    added = residual.generate(start, cond) - plain.generate(start, cond)
    torch.testing.assert_close(added, start)
    one, two = (
        m.eval().restore(start, cond, generator=seeded()) for m in (plain, residual)
    )
    noisy = (one - cond) / 2
    torch.testing.assert_close(two - one, noisy)


def test_restore_is_what_the_loss_restores():
    model = make(reconstruction_weight=1.0, denoise_user=False).eval()
    user, item = vectors(5, 5)
    restored = model.restore(item, user, generator=seeded(4))
    loss = model.loss(user, item, item, generator=seeded(4))
    expected = (restored - item).square().mean(-1) / 2
    torch.testing.assert_close(loss, expected)
    with pytest.raises(
        ValueError, match=r"'cond' must have one row per 'start_emb', 5"
    ):
        model.restore(item, user[:4])


def test_hidden_dropout_drops_in_training_alone():
    options = {"dropout": 0.0, "hidden_dims": (64,), "num_start_steps": 0}
    plain, dropping = (make(hidden_dropout=h, **options) for h in (0.0, 0.5))
    start, cond = vectors(5, 5)
    assert torch.equal(
        plain.train().generate(start, cond), dropping.train().generate(start, cond)
    )
    one, same, other = (
        dropping.restore(start, cond, generator=seeded(s)) for s in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.allclose(one, plain.restore(start, cond, generator=seeded(1)))
    # the mean over many masks is what is not dropped: the last layer is linear
    calm = make(hidden_dropout=0.5, noise_scale=1e-6, **options)
    rows = [calm.restore(start, cond, generator=seeded(s)) for s in range(1500)]
    steps = [calm.eval().restore(start, cond, generator=seeded(s)) for s in range(1500)]
    torch.testing.assert_close(
        torch.stack(rows).mean(0), torch.stack(steps).mean(0), atol=0.05, rtol=0.1
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_dropout": 1.5}, r"'hidden_dropout' must lie in \[0, 1\] \(got 1.5\)"),
        (
            {"hidden_dropout": 0.5, "denoiser": "transformer"},
            r"'hidden_dropout' must be 0 but for denoiser='mlp' \(got 0.5\)",
        ),
        ({"denoiser": "mpl"}, "did you mean 'mlp'"),
        ({"sampler": "skipp"}, "did you mean 'skip'"),
    ],
)
def test_networks_that_do_not_exist_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
