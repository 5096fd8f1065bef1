import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddrm_pyg import Embeddings, InteractionGraph, evaluate, fit
from ddrm_pyg.losses import bpr_loss
from ddrm_pyg.losses.contrastive import decoupled_info_nce_loss
from ddrm_pyg.nn.models import AdaGCL
from ddrm_pyg.nn.models.adagcl import (
    encode,
    gated,
    hard_concrete,
    keep_entries,
    open_probability,
    with_self_loops,
)
from ddrm_pyg.testing import check_backend, check_recommender, checkerboard

GRAPHS = st.from_type(InteractionGraph)
GAMMA, ZETA = -0.45, 1.05


@pytest.fixture
def data():
    return checkerboard(20, 20)


@pytest.fixture
def graph(data):
    return InteractionGraph.from_data(data)


def make(graph, seed=0, **options):
    torch.manual_seed(seed)
    return AdaGCL(graph.num_users, graph.num_items, 8, **options)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def first_batch(model, graph):
    return next(iter(model.batches(graph, batch_size=64, generator=seeded())))


def random_tables(graph, seed=0):
    size = graph.num_users + graph.num_items
    table = torch.randn(size, 3, generator=seeded(seed))
    return Embeddings(*table.split([graph.num_users, graph.num_items]))


def entries(graph):
    """Row and column of every entry of A + I: to users, to items, self loops."""
    user, item = graph.edge_index
    item = item + graph.num_users
    loop = torch.arange(graph.num_users + graph.num_items)
    return torch.cat([user, item, loop]), torch.cat([item, user, loop])


def dense(graph, value):
    """The matrix with one value per entry; those of a repeated pair add up."""
    size = graph.num_users + graph.num_items
    return torch.zeros(size, size).index_put_(entries(graph), value, accumulate=True)


def dense_normalised(matrix):
    root = matrix.sum(1).clamp(min=1e-12).rsqrt()
    return root[:, None] * matrix * root


def number_of_entries(graph):
    return 2 * graph.num_edges + graph.num_users + graph.num_items


def of(adjacency, x):
    return torch.cat(adjacency @ x)


# -------------------------------------------------------------------------- the encoder


@given(GRAPHS)
def test_self_loops_are_in_the_normalisation(graph):
    x = random_tables(graph)
    matrix = dense_normalised(dense(graph, torch.ones(number_of_entries(graph))))
    torch.testing.assert_close(of(with_self_loops(graph), x), matrix @ torch.cat(x))


@pytest.mark.fidelity(
    "AdaGCL", "propagation with self-loops, summed", "dense matrices", digits=5
)
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_embeddings_are_the_sum_of_layers(graph, num_layers, agrees):
    model = make(graph, num_layers=num_layers)
    matrix = dense_normalised(dense(graph, torch.ones(number_of_entries(graph))))
    layer = torch.cat([model.user_table, model.item_table])
    total = layer
    for _ in range(num_layers):
        layer = matrix @ layer
        total = total + layer
    agrees(torch.cat(model(graph)), total)
    for ours, again in zip(model(graph), model(graph.edge_index), strict=True):
        assert torch.equal(ours, again)


# ----------------------------------------------------------------------- the first view


def keep_all(graph, kept=True):
    return (
        torch.full((graph.num_edges, 1), kept),
        Embeddings(
            torch.full((graph.num_users, 1), kept),
            torch.full((graph.num_items, 1), kept),
        ),
    )


@given(GRAPHS)
def test_keeping_all_entries_changes_nothing(graph):
    x, adjacency = random_tables(graph), with_self_loops(graph)
    view = keep_entries(adjacency, *keep_all(graph))
    torch.testing.assert_close(of(view, x), of(adjacency, x))


@given(graph=GRAPHS, seed=st.integers(0, 99))
def test_kept_entries_keep_their_weight_over_the_kept_share(graph, seed):
    x = random_tables(graph)
    ones = torch.ones(number_of_entries(graph))
    degree = dense(graph, ones).sum(1)
    sizes = [graph.num_edges, graph.num_users, graph.num_items]
    kept = torch.rand(sum(sizes), generator=seeded(seed)) < 0.6
    edge, user, item = kept.unsqueeze(1).split(sizes)
    view = keep_entries(with_self_loops(graph), edge, Embeddings(user, item))
    all_kept = torch.cat([edge, edge, user, item]).flatten()
    share = max(int(all_kept.sum()), 1) / all_kept.numel()
    value = all_kept / share * degree[torch.stack(entries(graph))].prod(0).rsqrt()
    expected = dense(graph, value) @ torch.cat(x)
    torch.testing.assert_close(of(view, x), expected, rtol=1e-5, atol=1e-5)


def test_a_view_of_nothing_is_empty(graph):
    view = keep_entries(with_self_loops(graph), *keep_all(graph, kept=False))
    assert of(view, random_tables(graph)).abs().max() == 0


@pytest.mark.parametrize("bias", [-100.0, 100.0])
def test_the_decoder_decides_by_one_half(graph, bias):
    model = make(graph)
    with torch.no_grad():
        model.vae.decoder[1][2].bias.fill_(bias)
    view = model.vae.view(with_self_loops(graph), generator=seeded())
    assert view.graph.num_edges == (graph.num_edges if bias > 0 else 0)
    x = random_tables(graph)
    full = of(with_self_loops(graph), x)
    torch.testing.assert_close(
        of(view, x), full if bias > 0 else torch.zeros_like(full)
    )


def test_view_follows_the_generator_alone(graph):
    model = make(graph)
    with torch.no_grad():  # edges are likely and unlikely, noise decides
        for table in (model.vae.user_table, model.vae.item_table):
            table.mul_(20)
        model.vae.decoder[1][2].weight.mul_(20)
    kept = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed + 5)
        view = model.vae.view(with_self_loops(graph), generator=seeded(seed))
        kept.append(view.graph.edge_index.tolist())
    assert 0 < len(kept[0][0]) < graph.num_edges
    assert kept[0] == kept[2] != kept[1]


@pytest.mark.fidelity(
    "AdaGCL",
    "the loss of the graph VAE: reconstruction, divergence, BPR, L2",
    "its terms, written out from mean and deviation on",
    digits=5,
)
def test_generator_loss_by_hand(graph, agrees):
    model = make(graph, l2=0.01)
    vae, batch = model.vae, first_batch(model, graph)
    loss = vae.loss(batch, with_self_loops(graph), generator=seeded(3))
    mean, std = vae(with_self_loops(graph))
    assert torch.cat(std).min() > 0
    generator = seeded(3)
    user, item = (
        m + s * torch.randn(m.shape, generator=generator)
        for m, s in zip(mean, std, strict=True)
    )
    u, i, j = user[batch.user], item[batch.pos_item], item[batch.neg_item]
    positive, negative = (vae.decoder(u * v).sigmoid().flatten() for v in (i, j))
    m, s = torch.cat(mean), torch.cat(std)
    kl = ((m**2 + s**2 - 1) / 2 - s.log()).sum(1).mean()
    encoder = [vae.user_table, vae.item_table]
    encoder += [*vae.mean.parameters(), *vae.std.parameters()]
    expected = (
        -positive.log()
        - (1 - negative).log()
        + 0.1 * kl
        - (u * i - u * j).sum(1).sigmoid().log()
        + 0.01 * sum(float(p.detach().square().sum()) for p in encoder)
    )
    agrees(loss, expected)


# ---------------------------------------------------------------------- the second view


@pytest.mark.fidelity(
    "AdaGCL", "hard concrete gates of the second view", "values by hand", digits=4
)
def test_hard_gates_by_hand(agrees):
    log_alpha = torch.tensor([0, 2, 3, -0.8474, -5, 50])
    expected = [0.3, 0.8712, 0.9789, 0, 0, 1]
    gate = hard_concrete(log_alpha, GAMMA, ZETA)
    agrees(gate, expected)


@pytest.mark.fidelity(
    "AdaGCL", "how likely a gate is open, the L0 term", "values by hand", digits=6
)
@pytest.mark.parametrize(("temperature", "expected"), [(1, 0.7), (2, 0.8448275862)])
def test_open_probability_by_hand(temperature, expected, agrees):
    probability = open_probability(torch.zeros(()), GAMMA, ZETA, temperature)
    agrees(probability, expected)


@pytest.mark.parametrize("log_alpha", [-1.5, 0.0, 1.0])
def test_drawn_gates_are_open_as_often_as_they_should(log_alpha):
    scores = torch.full((40_000,), log_alpha)
    gate = hard_concrete(scores, GAMMA, ZETA, temperature=0.7, generator=seeded())
    assert 0 <= float(gate.min()) <= float(gate.max()) <= 1
    expected = float(open_probability(scores[0], GAMMA, ZETA, 0.7))
    assert float((gate > 0).float().mean()) == pytest.approx(expected, abs=0.01)


def test_cold_gates_are_all_or_nothing():
    scores = torch.linspace(-2, 2, 1000)
    gate = hard_concrete(scores, GAMMA, ZETA, temperature=1e-3, generator=seeded())
    assert ((gate == 0) | (gate == 1)).float().mean() > 0.99


@given(GRAPHS)
def test_open_gates_are_the_whole_graph(graph):
    x, gate = random_tables(graph), torch.ones(number_of_entries(graph))
    expected = of(with_self_loops(graph), x)
    torch.testing.assert_close(of(gated(graph, gate), x), expected)


@given(graph=GRAPHS, seed=st.integers(0, 99))
def test_gates_are_entries_normalised_by_their_row_sums(graph, seed):
    x = random_tables(graph)
    gate = torch.rand(number_of_entries(graph), generator=seeded(seed)) + 0.1
    expected = dense_normalised(dense(graph, gate)) @ torch.cat(x)
    view = of(gated(graph, gate), x)
    torch.testing.assert_close(view, expected, rtol=1e-4, atol=1e-4)


@given(GRAPHS)
def test_closed_gates_are_an_empty_view_with_finite_gradients(graph):
    x = random_tables(graph)
    gate = torch.zeros(number_of_entries(graph), requires_grad=True)
    view = of(gated(graph, gate), x)
    assert view.abs().max() == 0
    view.square().sum().backward()
    assert torch.isfinite(gate.grad).all()


def test_a_row_is_stretched_by_ten_at_most():
    graph = InteractionGraph(torch.zeros(2, 0, dtype=torch.int64), 1, 1)
    x = Embeddings(torch.ones(1, 1), torch.ones(1, 1))
    out = gated(graph, torch.tensor([1e-4, 0.25])) @ x
    assert out.user.item() == pytest.approx(1e-4 * 100)
    assert out.item.item() == pytest.approx(1, abs=1e-5)


def test_attention_is_that_of_concatenated_ends(graph):
    model, x = make(graph), torch.randn(40, 8)
    layer = model.denoiser.layers[1]
    row, column = entries(graph)
    ends = torch.cat([layer.hearing(x[row]), layer.heard(x[column])], dim=1)
    ours = layer(Embeddings(*x.split(20)), graph)
    torch.testing.assert_close(ours, layer.score(ends).flatten())


def test_every_layer_has_its_own_gates_from_what_enters_it(graph):
    model = make(graph, num_layers=3)
    x = total = Embeddings(model.user_table, model.item_table)
    for layer in model.denoiser.layers:
        x = gated(graph, hard_concrete(layer(x, graph), GAMMA, ZETA)) @ x
        total = Embeddings(total.user + x.user, total.item + x.item)
    ours = model.denoiser(Embeddings(model.user_table, model.item_table), graph)
    torch.testing.assert_close(torch.cat(ours), torch.cat(total))


def test_l0_and_norm_are_added_to_the_ranking_loss(graph):
    model = make(graph, l2=0.0)
    batch, x = first_batch(model, graph), random_tables(graph)
    x = Embeddings(*(torch.cat([t, t, t], dim=1)[:, :8] for t in x))
    plain, with_l0, with_norm = (
        make(graph, l2=l2).denoiser.loss(
            batch, x, graph, temperature=2.0, l0_weight=l0, generator=seeded(4)
        )
        for l2, l0 in ((0.0, 0.0), (0.0, 3.0), (0.1, 0.0))
    )
    denoiser = model.denoiser
    norm = sum(float(p.detach().square().sum()) for p in denoiser.parameters())
    torch.testing.assert_close(with_norm, plain + 0.1 * norm)
    l0 = (with_l0 - plain) / 3
    assert l0.std() < 1e-6  # the same for all triplets
    assert 0 < l0.mean() < model.num_layers


# -------------------------------------------------------------------------- three steps


def parts(model):
    return {
        "main": [model.user_table, model.item_table],
        "first": list(model.vae.parameters()),
        "second": list(model.denoiser.parameters()),
    }


def test_three_steps_and_who_gets_a_gradient(graph):
    model = make(graph)
    steps = []
    for loss in model.losses(first_batch(model, graph), graph, generator=seeded()):
        assert loss.shape == (64,)
        model.zero_grad()
        loss.mean().backward()
        steps.append(
            {
                name: {parameter.grad is not None for parameter in part}
                for name, part in parts(model).items()
            }
        )
    contrast = {"main": {True}, "first": {False}, "second": {False}}
    everything = {"main": {True}, "first": {True}, "second": {True}}
    assert steps == [contrast, contrast, everything]


@pytest.mark.parametrize("stale", [False, True])
def test_generators_leave_the_tables_alone(graph, stale):
    model = make(graph, stale_features=stale)
    batch, total = first_batch(model, graph), None
    for loss in model.losses(batch, graph, generator=seeded()):
        total = loss
    ours = torch.autograd.grad(total.mean(), parts(model)["main"])
    emb = model(graph)
    u, i, j = emb.user[batch.user], emb.item[batch.pos_item], emb.item[batch.neg_item]
    own = bpr_loss((u * i).sum(1), (u * j).sum(1)).mean()
    own = own + 1e-5 * (
        model.user_table.square().sum() + model.item_table.square().sum()
    )
    expected = torch.autograd.grad(own, parts(model)["main"])
    torch.testing.assert_close(ours, expected)


def test_steps_see_what_the_steps_before_have_moved(graph):
    model = make(graph, ssl_weight=2.0, ib_weight=3.0)
    batch = first_batch(model, graph)
    view = model.vae.view(with_self_loops(graph), generator=seeded())
    node = torch.cat([batch.user, 20 + batch.pos_item])

    def views():
        tables = Embeddings(model.user_table.clone(), model.item_table.clone())
        both = encode(tables, view, 2), model.denoiser(tables, graph)
        return [torch.cat(emb).detach() for emb in both]

    def contrast(one, other):
        return decoupled_info_nce_loss(one, other, node, temperature=0.5).mean()

    steps = model.losses(batch, graph, generator=seeded())
    before = views()
    torch.testing.assert_close(next(steps).mean(), 2 * contrast(*before))
    with torch.no_grad():
        model.user_table.add_(0.1 * torch.randn(20, 8))
        model.item_table.mul_(2)
    now = views()
    expected = 3 * (contrast(now[0], before[0]) + contrast(now[1], before[1]))
    torch.testing.assert_close(next(steps).mean(), expected)
    with torch.no_grad():
        model.user_table.zero_()
        for part in (model.vae, model.denoiser):
            part.l2 = 0.0
    model.l2, model.l0_weight = 0.0, 0.0
    assert (next(steps) > math.log(2)).all()  # BPR without preference, and more
    assert next(steps, None) is None


def test_penalty_is_the_norm_of_all_rows(graph):
    model = make(graph, l2=0.5)
    batch = first_batch(model, graph)
    penalty = model.penalty(batch, model(graph), generator=seeded())
    norm = model.user_table.square().sum() + model.item_table.square().sum()
    torch.testing.assert_close(penalty, (0.5 * norm).expand(64))


def test_stale_features_are_those_of_construction(graph):
    repaired, stale = make(graph), make(graph, stale_features=True)
    assert not any("initial" in name for name in repaired.state_dict())
    losses = {}
    for moved in (False, True):
        for name, model in (("repaired", repaired), ("stale", stale)):
            if moved:
                with torch.no_grad():
                    model.user_table.mul_(10)
                    model.item_table.mul_(10)
            losses[name, moved] = model.denoiser.loss(
                first_batch(model, graph),
                model._denoiser_input(),
                graph,
                temperature=1.0,
                l0_weight=0.0,
                generator=seeded(),
            )
    assert torch.equal(losses["repaired", False], losses["stale", False])
    assert torch.equal(losses["stale", True], losses["stale", False])
    assert not torch.allclose(losses["repaired", True], losses["stale", True])


def test_gates_cool_by_epoch_down_to_a_floor(graph):
    model = make(graph)
    seen = [model.current_gate_temperature()]
    for _ in range(3):
        model.batches(graph, batch_size=64, generator=seeded())
        seen.append(model.current_gate_temperature())
    assert seen == pytest.approx([2, 2, 1.96, 1.9208])
    model.epochs_begun += 1000
    assert model.current_gate_temperature() == 0.05


def test_the_denoising_net_has_an_epsilon_of_its_own(graph):
    model = make(graph)
    optimizer = torch.optim.Adam(model.parameter_groups(), lr=1e-3)
    rest, denoiser = optimizer.param_groups
    assert (rest["eps"], denoiser["eps"]) == (1e-8, 1e-3)
    assert len(denoiser["params"]) == len(list(model.denoiser.parameters()))
    both = {id(p) for group in (rest, denoiser) for p in group["params"]}
    assert both == {id(p) for p in model.parameters()}


# --------------------------------------------------------------------------- as a model


@pytest.mark.parametrize("options", [{}, {"stale_features": True, "num_layers": 3}])
def test_keeps_the_contracts(data, graph, options):
    model = make(graph, **options)
    check_backend(model, graph)
    check_recommender(model, data)


@pytest.mark.parametrize("stale", [False, True])
def test_solves_the_checkerboard(data, graph, stale):
    model = make(graph, stale_features=stale)
    fit(model, data, epochs=5, batch_size=64, lr=0.02, metric="recall@2")
    assert evaluate(model.scorer(graph), data, k=(1,))["recall@1"] == 1


@pytest.mark.parametrize("stale", [False, True])
def test_a_run_that_goes_on_has_the_bits_of_a_straight_one(
    data, graph, tmp_path, stale
):
    states = []
    for stops in ((4,), (2, 4)):
        for epochs in stops:
            torch.manual_seed(epochs)
            model = make(graph, seed=0, stale_features=stale)
            fit(
                model,
                data,
                epochs=epochs,
                batch_size=256,
                eval_every=1,
                checkpoint=tmp_path / f"{stops}.pt",
                metric="recall@2",
            )
        states.append(torch.load(tmp_path / f"{stops}.pt", weights_only=True)["model"])
    assert int(states[0]["epochs_begun"]) == 4
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_lonely_nodes_never_make_nan(data, graph):
    user, item = graph.edge_index
    bare = graph.subgraph((user > 3) & (item > 5))
    model = make(bare)
    optimizer = torch.optim.Adam(model.parameter_groups(), lr=0.05)
    generator = seeded()
    for batch in model.batches(bare, batch_size=32, generator=generator):
        for loss in model.losses(batch, bare, generator=generator):
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
            assert torch.isfinite(loss).all()
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert torch.isfinite(torch.cat(model(bare))).all()


def test_a_reset_begins_anew(graph):
    model = make(graph, stale_features=True)
    model.batches(graph, batch_size=64, generator=seeded())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.reset_parameters()
    assert int(model.epochs_begun) == 0
    assert torch.equal(model.initial_user, model.user_table)
    for name, value in model.state_dict().items():
        assert not torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, r"'num_layers' must be >= 1 \(got 0\)"),
        ({"ssl_weight": -1.0}, r"'ssl_weight' must be >= 0 \(got -1.0\)"),
        ({"ib_weight": math.nan}, r"'ib_weight' must be >= 0 \(got nan\)"),
        ({"temperature": 0.0}, r"'temperature' must be positive \(got 0.0\)"),
        ({"l0_weight": -1.0}, r"'l0_weight' must be >= 0 \(got -1.0\)"),
        ({"gamma": 0.0}, r"'gamma' must be < 0 \(got 0.0\)"),
        ({"zeta": 1.0}, r"'zeta' must be > 1 \(got 1.0\)"),
        ({"gate_temperature": 0.0}, r"'gate_temperature' must be positive \(got 0.0\)"),
        ({"gate_decay": 1.5}, r"'gate_decay' must be in \(0, 1\] \(got 1.5\)"),
        (
            {"min_gate_temperature": 0.0},
            r"'min_gate_temperature' must be positive \(got 0.0\)",
        ),
        ({"l2": -1.0}, r"'l2' must be >= 0 \(got -1.0\)"),
    ],
)
def test_numbers_out_of_range_are_refused(graph, options, message):
    with pytest.raises(ValueError, match=message):
        make(graph, **options)
