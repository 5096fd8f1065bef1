import sys

import pytest
import torch
from torch import nn

from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.loader import RowTable
from ddrm_pyg.losses.multinomial import gaussian_kl, multinomial_nll
from ddrm_pyg.nn.models import (
    DiffRec,
    LDiffRec,
    LTDiffRec,
    OrderWeight,
    TDiffRec,
    group_items,
)
from ddrm_pyg.ranking import evaluate
from ddrm_pyg.testing import checkerboard
from ddrm_pyg.training import fit


@pytest.fixture
def graph():
    """User 0 owns items 3, 0, 2 and 1 in that order, user 1 owns 4, user 2 nothing."""
    return InteractionGraph(torch.tensor([[0, 1, 0, 0, 0], [3, 4, 0, 2, 1]]), 3, 5)


def make(model=DiffRec, what=5, hidden_dims=(8,), **options):
    torch.manual_seed(0)
    return model(what, hidden_dims=hidden_dims, **options)


def latent(groups=(0, 1, 0, 0, 1), **options):
    torch.manual_seed(0)
    settings = {"latent_dim": 6, "hidden_dims": (8,), "num_train_timesteps": 4}
    return LDiffRec(torch.tensor(groups), **{**settings, **options})


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def loss_of(model, graph, seed=0, user=(0, 1)):
    batch = RowTable(graph, model.row_weight and model.row_weight(graph))
    (loss,) = model.losses(
        batch.rows(torch.tensor(user)), graph, generator=generator(seed)
    )
    return loss


class Perfect(nn.Module):
    """A network that knows the clean rows, or the noise, by heart."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, _):
        return self.answer


def test_defaults_are_the_published_settings_of_noisy_movielens():
    diffuser = DiffRec(30).diffuser
    widths = [m.out_features for m in diffuser.layers if hasattr(m, "out_features")]
    assert widths == [600, 200, 600, 30]
    noise = 1 - diffuser.diffusion.alphas_cumprod
    assert noise.tolist()[0] == pytest.approx(1e-5, rel=0.01)
    assert noise.tolist()[-1] == pytest.approx(4.51e-3, rel=1e-3)
    assert diffuser.num_start_steps == 0
    assert isinstance(diffuser.layers[1], nn.Tanh)


@pytest.mark.parametrize("prediction", ["x_start", "noise"])
@pytest.mark.parametrize("reweight", [True, False])
def test_loss_by_hand(graph, prediction, reweight):
    model = make(
        prediction=prediction,
        reweight=reweight,
        dropout=0.0,
        noise_scale=5.0,
        fix_first_beta=False,
    )
    diffuser, rows = model.diffuser, RowTable(graph).rows(torch.arange(2)).dense(5)
    for seed in range(8):
        own = generator(seed)
        t, density = diffuser.steps.sample(2, generator=own)
        noise = torch.randn(2, 5, generator=own)
        expected = []
        for u in range(2):
            kept = diffuser.diffusion.alphas_cumprod[t[u]].double()
            x_t = kept.sqrt() * rows[u] + (1 - kept).sqrt() * noise[u]
            output = diffuser._network(x_t.float()[None], t[u : u + 1])[0].double()
            if prediction == "x_start":
                error, weights = output - rows[u], diffuser.diffusion.x_start_weight
            elif t[u] == 0:
                guess = (x_t - (1 - kept).sqrt() * output) / kept.sqrt()
                error, weights = (guess - rows[u]) / 2**0.5, torch.ones(1)
            else:
                error, weights = output - noise[u], diffuser.diffusion.noise_weight
            weight = weights[t[u]] if reweight else 1
            expected.append(weight * error.square().mean() / density[u])
        got = loss_of(model, graph, seed)
        torch.testing.assert_close(
            got.double(), torch.stack(expected), rtol=1e-3, atol=0
        )


def test_history_holds_weighted_losses_before_the_division(graph):
    model = make(history_length=1, num_train_timesteps=2)
    losses = []
    for seed in range(30):
        full = bool((model.diffuser.steps.count > 0).all())
        density = 2 * model.diffuser.steps.probability()
        before = model.diffuser.steps.loss.flatten().clone()
        cost = loss_of(model, graph, seed, user=(0,)).detach()
        after = model.diffuser.steps.loss.flatten()
        if full:
            (t,) = (before != after).nonzero().flatten().tolist()
            losses.append((float(after[t] / density[t]), float(cost)))
    assert len(losses) > 10
    for expected, got in losses:
        assert got == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("num_start_steps", [0, 2, 5])
def test_a_perfect_network_returns_the_rows(graph, num_start_steps):
    model = make(num_start_steps=num_start_steps, noise_scale=5.0)
    rows = RowTable(graph).rows(torch.arange(3)).dense(5)
    model.diffuser.layers = Perfect(rows)
    assert torch.equal(model.scorer(graph).scores(torch.arange(3)), rows)


def test_a_network_that_knows_the_noise_returns_the_rows_of_the_last_step(graph):
    model = make(prediction="noise", num_train_timesteps=1, num_start_steps=1)
    rows = RowTable(graph).rows(torch.arange(3)).dense(5)
    model.diffuser.layers = Perfect(model.diffuser._noise(torch.arange(3))(rows))
    torch.testing.assert_close(model.scorer(graph).scores(torch.arange(3)), rows)


def test_one_step_from_the_row_itself_is_one_pass(graph):
    model = make(num_train_timesteps=1)
    rows = RowTable(graph).rows(torch.arange(3)).dense(5)
    expected = model.diffuser._network(rows, torch.zeros(1, dtype=torch.int64))
    torch.testing.assert_close(model.scorer(graph).scores(torch.arange(3)), expected)


def test_start_noise_belongs_to_the_user_and_the_seed():
    diffuser = make(num_start_steps=1, seed=3).diffuser
    like = torch.empty(2, 100)
    noise = diffuser._noise(torch.tensor([4, 9]))(like)
    assert torch.equal(noise.flip(0), diffuser._noise(torch.tensor([9, 4]))(like))
    assert abs(float(torch.corrcoef(noise)[0, 1])) < 0.4
    other = make(num_start_steps=1, seed=4).diffuser
    assert not torch.equal(noise, other._noise(torch.tensor([4, 9]))(like))


@pytest.mark.fidelity(
    "DiffRec",
    "ranking with and without start noise, with sampling noise",
    "the posterior steps, user by user",
    digits=5,
)
@pytest.mark.parametrize("num_start_steps", [0, 3])
def test_sampling_noise_is_drawn_for_each_step_but_the_last(
    graph, num_start_steps, agrees
):
    options = {"num_start_steps": num_start_steps, "noise_scale": 5.0, "seed": 3}
    model = make(sampling_noise=True, num_train_timesteps=4, **options)
    diffuser = model.diffuser
    rows = RowTable(graph).rows(torch.arange(3)).dense(5)
    scores = model.scorer(graph).scores(torch.arange(3))
    for user in range(3):
        own = torch.Generator().manual_seed(3 + 1009 * user)
        x = rows[[user]]
        if num_start_steps > 0:
            noise = torch.empty(1, 5).normal_(generator=own)
            x = diffuser.diffusion.q_sample(x, torch.tensor([2]), noise)
        for step in (3, 2, 1, 0):
            with torch.no_grad():
                x_start = diffuser._network(x, torch.tensor([step]))
            x, variance = diffuser.diffusion.q_posterior(x_start, x, step)
            if step > 0:
                x = x + variance.sqrt() * torch.empty(1, 5).normal_(generator=own)
        agrees(scores[[user]], x)
    # nobody else in the batch counts
    alone = model.scorer(graph).scores(torch.tensor([1]))
    torch.testing.assert_close(alone, scores[[1]])
    silent = make(num_train_timesteps=4, **options)
    assert not torch.equal(silent.scorer(graph).scores(torch.arange(3)), scores)


@pytest.mark.fidelity(
    "DiffRec", "noise scale 0", "the network, applied T times", digits=5
)
@pytest.mark.parametrize("reweight", [True, False])
def test_without_noise_rows_are_restored_from_themselves(graph, reweight, agrees):
    # the lowest scale of the authors' grid: no diffusion, all steps alike
    model = make(noise_scale=0, dropout=0.0, num_train_timesteps=3, reweight=reweight)
    diffuser = model.diffuser
    rows = RowTable(graph).rows(torch.arange(2)).dense(5)
    t, density = diffuser.steps.sample(2, generator=generator())
    assert density.tolist() == [1, 1]
    expected = (diffuser._network(rows, t) - rows).square().mean(1)
    agrees(loss_of(model, graph), expected)
    with torch.no_grad():
        for step in (2, 1, 0):
            rows = diffuser._network(rows, torch.tensor([step]))
    assert torch.equal(model.scorer(graph).scores(torch.arange(2)), rows)
    with pytest.raises(ValueError, match=r"must be 'x_start' where .* \(got 'noise'\)"):
        make(noise_scale=0, prediction="noise")


@pytest.mark.fidelity("T-DiffRec", "the weights of a row", "values by hand", digits=6)
def test_order_weights_by_hand(graph, agrees):
    # user 0: first to last 0.1, 0.4, 0.7, 1; a single item has the lowest
    weight = OrderWeight(0.1, 1.0)(graph)
    agrees(weight, [0.1, 0.1, 0.4, 0.7, 1.0])
    assert float(weight.max()) == 1.0
    timed = OrderWeight(0.1, 1.0, edge_time=torch.tensor([9, 0, 7, 8, 7]))(graph)
    # item 0 and item 1 came at once: in the graph's order
    assert timed.tolist() == pytest.approx([1.0, 0.1, 0.1, 0.7, 0.4])


def test_order_weights_survive_an_empty_graph(path_graph):
    nothing = path_graph.subgraph(torch.zeros(3, dtype=torch.bool))
    assert OrderWeight()(nothing).shape == (0,)


def test_weighted_rows_are_input_and_target(graph):
    model = make(TDiffRec, w_min=0.1, w_max=1.0)
    rows = model.table(graph).rows(torch.arange(3)).dense(5)
    torch.testing.assert_close(
        rows,
        torch.tensor([[0.4, 1, 0.7, 0.1, 0], [0, 0, 0, 0, 0.1], [0, 0, 0, 0, 0]]),
    )
    seen = []
    model.diffuser.loss = lambda x, g: (seen.append(x), x)[::-1]
    (batch,) = model.batches(graph, batch_size=2, generator=generator())
    list(model.losses(batch, graph, generator=generator()))
    assert torch.equal(seen[0], rows[batch.user])


def test_equal_weights_are_diffrec_to_the_bit():
    data = checkerboard()
    data["user", "interacts", "item"].in_order = True
    graph = InteractionGraph.from_data(data)
    scores = []
    for model in (make(what=40), make(TDiffRec, 40, w_min=1.0, w_max=1.0)):
        fit(model, data, epochs=3, batch_size=16, progress=False)
        scores.append(model.scorer(graph).scores(torch.arange(40)))
    assert torch.equal(*scores)


def test_equal_weights_are_ldiffrec_to_the_bit(graph):
    one, other = latent(), latent(row_weight=OrderWeight(1.0, 1.0))
    assert torch.equal(loss_of(one, graph), loss_of(other, graph))


def test_ltdiffrec_is_ldiffrec_on_weighted_rows(graph):
    torch.manual_seed(0)
    time = torch.tensor([9, 0, 7, 8, 7])
    settings = {"hidden_dims": (8,), "num_train_timesteps": 4}
    model = LTDiffRec(
        torch.tensor([0, 1, 0, 0, 1]), 6, w_min=0.2, edge_time=time, **settings
    )
    other = latent(row_weight=OrderWeight(0.2, 1.0, edge_time=time))
    assert torch.equal(loss_of(model, graph), loss_of(other, graph))
    with pytest.raises(ValueError, match=r"'w_max' must be >= 0 \(got -1\)"):
        LTDiffRec(torch.tensor([0, 1]), w_max=-1)


def apply(layers, x):
    """A stack of linear layers with tanh between them, from the weights alone."""
    weights = [layer for layer in layers if isinstance(layer, nn.Linear)]
    for k, layer in enumerate(weights):
        x = x @ layer.weight.T + layer.bias
        x = x.tanh() if k < len(weights) - 1 else x
    return x


@pytest.mark.fidelity(
    "L-DiffRec",
    "encoders of several layers, decoders by group",
    "the stacks, group by group",
    digits=5,
)
@pytest.mark.parametrize("decoder_dims", [(), (10, 5)])
def test_groups_have_encoders_and_decoders_of_their_own(graph, decoder_dims, agrees):
    # groups of items 0, 2, 3 and of items 1, 4 share 6 latent and 9 hidden units
    model = latent(encoder_dims=(9, 7), decoder_dims=decoder_dims).eval()
    shapes = [
        [tuple(layer.weight.shape[::-1]) for layer in stack if hasattr(layer, "weight")]
        for stack in (*model.encoders, *model.decoder)
    ]
    assert shapes[:2] == [[(3, 5), (5, 4), (4, 6)], [(2, 4), (4, 3), (3, 6)]]
    if decoder_dims:
        assert shapes[2:] == [[(3, 6), (6, 3), (3, 3)], [(3, 4), (4, 2), (2, 2)]]
    else:
        assert shapes[2:] == [[(3, 3)], [(3, 2)]]
    rows = RowTable(graph).rows(torch.arange(3)).dense(5)
    groups = [0, 2, 3], [1, 4]
    coded = [
        apply(e, rows[:, g]).tanh() for e, g in zip(model.encoders, groups, strict=True)
    ]
    mean = torch.cat([code[:, :3] for code in coded], 1)
    torch.testing.assert_close(model._encode(rows)[0], mean)
    expected = torch.empty(3, 5)
    for k, group in enumerate(groups):
        expected[:, group] = apply(model.decoder[k], mean[:, 3 * k : 3 * k + 3])
    model.diffuser.layers = Perfect(mean)  # what is left is the auto-encoder
    scores = model.scorer(graph).scores(torch.arange(3))
    agrees(scores, expected)
    loss_of(model, graph, user=(0, 1, 2)).sum().backward()
    assert all(p.grad is not None for p in model.decoder.parameters())


@pytest.mark.parametrize("name", ["encoder_dims", "decoder_dims"])
def test_hidden_layers_that_leave_a_group_without_a_share_are_refused(name):
    with pytest.raises(ValueError, match=rf"'{name}' must give every .* \(got 1 for"):
        latent(**{name: (4, 1)})


def test_groups_decode_what_they_learn():
    data = checkerboard()
    graph = InteractionGraph.from_data(data)
    torch.manual_seed(0)
    networks = {"encoder_dims": (32,), "decoder_dims": (32,)}
    rates = {"autoencoder_lr": 0.02, "diffusion_lr": 0.02}
    model = LDiffRec(torch.arange(40) // 20, 16, (16,), **networks, **rates)
    fit(model, data, epochs=100, batch_size=16, eval_every=100, progress=False)
    # the right one of 21 unseen items
    assert evaluate(model.scorer(graph), data, k=(1,))["recall@1"] > 0.7


def test_one_group_keeps_the_item_order(graph):
    model = latent(groups=[0] * 5).eval()
    rows = RowTable(graph).rows(torch.arange(3)).dense(5)
    (encoder,) = model.encoders
    mean, log_variance = model._encode(rows)
    expected = encoder(rows).tanh()
    torch.testing.assert_close(torch.cat([mean, log_variance], 1), expected)
    # a perfect diffusion leaves an auto-encoder in item order
    model.diffuser.layers = Perfect(mean)
    torch.testing.assert_close(
        model.scorer(graph).scores(torch.arange(3)), model.decoder(mean)
    )


def test_each_group_is_encoded_by_itself():
    model = latent()
    # groups of 3 and 2 of 5 items share 6 latent dimensions
    shapes = [(e.in_features, e.out_features) for (e,) in model.encoders]
    assert shapes == [(3, 6), (2, 6)]
    rows = torch.zeros(1, 5)
    empty, _ = model._encode(rows)
    rows[0, 4] = 1  # an item of the second group
    mean, _ = model._encode(rows)
    assert torch.equal(mean[:, :3], empty[:, :3])
    assert (mean[:, 3:] != empty[:, 3:]).all()
    weight, bias = model.encoders[1][0].weight, model.encoders[1][0].bias
    torch.testing.assert_close(mean[0, 3:], (weight[:3, 1] + bias[:3]).tanh())


@pytest.mark.fidelity(
    "L-DiffRec", "the annealed loss", "its three terms, from the encoders on", digits=5
)
@pytest.mark.parametrize("corrupt_target", [True, False])
def test_latent_loss_by_hand(graph, corrupt_target, agrees):
    model = latent(corrupt_target=corrupt_target, dropout=1.0, diffusion_weight=0.5)
    with torch.no_grad():
        model.batches_seen += 20
    clean = RowTable(graph).rows(torch.arange(2)).dense(5)
    own = generator(3)
    torch.rand(5, generator=own)  # the dropout of five interactions
    mean, log_variance = model._encode(torch.zeros(2, 5))
    z = mean + torch.randn(2, 6, generator=own) * (log_variance / 2).exp()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    diffusion, restored = model.diffuser.loss(z, own)
    model.load_state_dict(state)
    target = torch.zeros(2, 5) if corrupt_target else clean
    expected = (
        0.5 * diffusion
        + multinomial_nll(model.decoder(restored), target)
        + 0.1 * gaussian_kl(mean, log_variance)
    )
    agrees(loss_of(model, graph, seed=3), expected)


def test_annealing_counts_epochs_and_batches(graph):
    model = latent()
    assert model.present_weights(graph) == (0.03, 0.0)
    for _ in range(25):  # two users of two: an epoch each
        loss_of(model, graph)
    diffusion, kl = model.present_weights(graph)
    assert diffusion == pytest.approx(0.95 * 0.03)
    assert kl == 0.125
    model.users_seen.fill_(10_000)
    model.batches_seen.fill_(10_000)
    assert model.present_weights(graph) == (0.005, 0.3)


def test_two_learning_rates_cover_every_parameter():
    model = latent(autoencoder_lr=0.3, diffusion_lr=0.2)
    autoencoder, diffusion = model.parameter_groups()
    assert (autoencoder["lr"], diffusion["lr"]) == (0.3, 0.2)
    assert len(autoencoder["params"]) + len(diffusion["params"]) == len(
        list(model.parameters())
    )
    assert {id(p) for p in diffusion["params"]} == {
        id(p) for p in model.diffuser.parameters()
    }


def test_groups_are_restored_with_the_weights(graph):
    model, other = latent(groups=[0, 1, 0, 0, 1]), latent(groups=[1, 1, 0, 0, 0])
    other.load_state_dict(model.state_dict())
    user = torch.arange(3)
    scores = [m.scorer(graph).scores(user) for m in (model, other)]
    assert torch.equal(*scores)


def test_items_are_grouped_by_their_vectors():
    pytest.importorskip("sklearn")
    colour = torch.arange(20) % 2
    vectors = 5 * colour[:, None] + 0.1 * torch.randn(20, 3, generator=generator())
    groups = group_items(vectors.requires_grad_(), 2)
    assert groups.dtype == torch.int64
    assert torch.equal(groups == groups[0], colour == colour[0])
    assert torch.equal(groups, group_items(vectors, 2))
    assert group_items(vectors, 1).unique().tolist() == [0]


def test_missing_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ImportError, match=r"pip install 'ddrm_pyg\[diffrec\]'"):
        group_items(torch.randn(4, 2))


@pytest.mark.parametrize("number", [0, 5])
def test_impossible_numbers_of_groups_are_refused(number):
    with pytest.raises(ValueError, match=r"'num_groups' must lie in \[1, 4\]"):
        group_items(torch.randn(4, 2), number)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prediction": "score"}, r"'prediction' must be one of .*\(got 'score'\)"),
        ({"num_start_steps": 6}, r"'num_start_steps' must lie in \[0, 5\] \(got 6\)"),
        ({"num_start_steps": -1}, r"'num_start_steps' must lie in \[0, 5\]"),
        ({"num_train_timesteps": 0}, r"'num_steps' must be >= 1 \(got 0\)"),
        ({"history_length": -1}, r"'history_length' must be >= 0 \(got -1\)"),
        ({"time_dim": 0}, r"'time_dim' must be >= 1 \(got 0\)"),
        ({"dropout": 2}, r"'dropout' must lie in \[0, 1\] \(got 2\)"),
        ({"hidden_dims": (0,)}, "all widths must be >= 1"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DiffRec(5, **options)


@pytest.mark.parametrize(
    ("groups", "options", "message"),
    [
        ([0, 2, 0], {}, r"'item_group' must leave no group empty .*\[2, 0, 1\]"),
        ([0, -1], {}, "'item_group' must hold groups >= 0"),
        ([], {}, "'num_items' must be >= 1"),
        ([0.0, 1.0], {}, r"'item_group' must be int64 of shape \[num_items\]"),
        ([[0, 1]], {}, r"'item_group' must be int64 of shape \[num_items\]"),
        ([0, 1, 1, 1], {"latent_dim": 3}, "'latent_dim' must give every group a share"),
        ([0, 1], {"dropout": -1}, r"'dropout' must lie in \[0, 1\]"),
        ([0, 1], {"kl_weight": -1}, r"'kl_weight' must be >= 0 \(got -1\)"),
    ],
)
def test_bad_groups_are_refused(groups, options, message):
    group = torch.tensor(groups)
    group = group if groups else group.long()
    with pytest.raises(ValueError, match=message):
        LDiffRec(group, **options)


def test_bad_weights_are_refused(graph):
    with pytest.raises(ValueError, match=r"'w_min' must be >= 0 \(got -1\)"):
        OrderWeight(-1)
    with pytest.raises(TypeError, match=r"'row_weight' must be a function .*\(got 3\)"):
        DiffRec(5, row_weight=3)
    with pytest.raises(ValueError, match=r"'edge_time' must have one .* 5 \(got .*3"):
        TDiffRec(5, edge_time=torch.arange(3)).scorer(graph)


def test_the_diffusion_weight_ends_where_it_may_begin():
    with pytest.raises(
        ValueError, match=r"'diffusion_weight' must be >= 0\.005 \(got 0"
    ):
        latent(diffusion_weight=0.0)
    assert latent(diffusion_weight=0.005).diffusion_weight == 0.005
