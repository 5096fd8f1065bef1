import math

import pytest
import torch
from torch.nn import functional as F

from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.loader import RowTable, user_row_batches
from ddrm_pyg.losses.multinomial import multinomial_nll
from ddrm_pyg.nn.models import MultiDAE, MultiVAE, multivae


@pytest.fixture
def graph():
    """Users with 3, 1 and no items of 5."""
    return InteractionGraph(torch.tensor([[0, 0, 0, 1], [0, 2, 3, 4]]), 3, 5)


def make(model, *arguments, **options):
    torch.manual_seed(0)
    return model(5, *arguments, **options)


def loss_of(model, graph, seed=0, value=None):
    batch = RowTable(graph, value).rows(torch.tensor([0, 1]))
    generator = torch.Generator().manual_seed(seed)
    (loss,) = model.losses(batch, graph, generator=generator)
    return loss


ROWS = torch.tensor([[1.0, 0, 1, 1, 0], [0, 0, 0, 0, 1]])
UNIT = ROWS / torch.tensor([[math.sqrt(3)], [1.0]])


@pytest.mark.parametrize("dims", [(4,), (6, 4), (7, 6, 4)])
def test_decoders_mirror_the_encoders(dims):
    widths = [5, *dims, *dims[-2::-1], 5]
    layers = [m for m in make(MultiDAE, dims).modules() if hasattr(m, "in_features")]
    assert [layer.in_features for layer in layers] == widths[:-1]
    assert [layer.out_features for layer in layers] == widths[1:]
    layers = [m for m in make(MultiVAE, dims).modules() if hasattr(m, "in_features")]
    assert [layer.in_features for layer in layers] == widths[:-1]
    outputs = [layer.out_features for layer in layers]
    outputs[len(dims) - 1] //= 2  # mean and log-variance
    assert outputs == widths[1:]


@pytest.mark.fidelity(
    "MultiDAE", "scores and the loss, Eq. 2", "the network, layer by layer", digits=5
)
def test_dae_scores_and_loss_by_hand(graph, agrees):
    model = make(MultiDAE, (3,), dropout=0.0)
    first, _, last = model.network
    logits = last(first(UNIT).tanh())
    scores = model.scorer(graph).scores(torch.tensor([0, 1]))
    agrees(scores, logits)
    expected = -(ROWS * F.log_softmax(logits, -1)).sum(1)
    agrees(loss_of(model, graph), expected)


def test_without_noise_and_beta_the_vae_is_an_auto_encoder(graph):
    model = make(MultiVAE, (4, 3), dropout=0.0, beta=0.0).eval()
    mean = model.encoder(UNIT)[:, :3]
    logits = model.decoder(mean)
    torch.testing.assert_close(model.scorer(graph).scores(torch.arange(2)), logits)
    torch.testing.assert_close(loss_of(model, graph), multinomial_nll(logits, ROWS))


@pytest.mark.fidelity(
    "MultiVAE",
    "the loss with a drawn code and beta",
    "the equations, from mean and variance on",
    digits=5,
)
def test_vae_draws_its_code_and_pays_for_it(graph, agrees):
    model = make(MultiVAE, (4, 3), dropout=0.0, beta=0.7, anneal_epochs=0).train()
    mean, log_variance = model.encoder(UNIT).chunk(2, dim=-1)
    noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(5))
    logits = model.decoder(mean + noise * (log_variance / 2).exp())
    likelihood = (ROWS * F.log_softmax(logits, -1)).sum(1)
    kl = (mean**2 + log_variance.exp() - 1 - log_variance).sum(1) / 2
    agrees(loss_of(model, graph, seed=5), 0.7 * kl - likelihood)


def test_dropout_thins_the_input_and_not_the_target(graph):
    model = make(MultiDAE, (3,), dropout=1.0).train()
    first, _, last = model.network
    logits = last(first(torch.zeros(2, 5)).tanh())
    torch.testing.assert_close(loss_of(model, graph), multinomial_nll(logits, ROWS))
    # and it comes after the row was brought to unit length
    model.dropout = 0.5
    batch = RowTable(graph).rows(torch.tensor([0, 1]))
    generator = torch.Generator().manual_seed(0)
    entries = [float(model._input(batch, generator)[0, 0]) for _ in range(50)]
    assert sorted(set(entries)) == pytest.approx([0, 2 / math.sqrt(3)])


def test_scaling_a_row_changes_the_loss_and_not_the_input(graph):
    model = make(MultiDAE, (3,), dropout=0.0)
    scaled = loss_of(model, graph, value=torch.full((4,), 3.0))
    torch.testing.assert_close(scaled, 3 * loss_of(model, graph))


def test_beta_rises_by_the_users_seen_whatever_the_batch(graph):
    # two users have items: an epoch is two users
    model = make(MultiVAE, (4, 3), beta=0.2, anneal_epochs=4)
    betas = []
    for _ in range(6):
        betas.append(model.present_beta(graph))
        loss_of(model, graph)
    assert betas == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.2])
    other = make(MultiVAE, (4, 3), beta=0.2, anneal_epochs=4)
    generator = torch.Generator().manual_seed(0)
    for batch in other.batches(graph, batch_size=1, generator=generator):
        list(other.losses(batch, graph, generator=generator))
    assert other.present_beta(graph) == pytest.approx(0.05)
    assert int(other.state_dict()["users_seen"]) == 2


def test_beta_rises_as_fast_where_processes_share_the_users(graph, monkeypatch):
    monkeypatch.setattr(multivae, "processes", lambda: (0, 2))
    model = make(MultiVAE, (4, 3), beta=0.2, anneal_epochs=4)
    generator = torch.Generator().manual_seed(0)
    table = model.table(graph)
    share = user_row_batches(
        table, batch_size=2, generator=generator, rank=0, world_size=2
    )
    for batch in share:
        assert batch.user.numel() == 1
        list(model.losses(batch, graph, generator=generator))
    assert model.present_beta(graph) == pytest.approx(0.05)


def test_without_annealing_beta_is_full_at_once(graph):
    model = make(MultiVAE, (4, 3), beta=0.3, anneal_epochs=0)
    assert model.present_beta(graph) == 0.3


def test_initial_weights_are_the_published_ones():
    torch.manual_seed(0)
    for model in (MultiDAE(400), MultiVAE(400)):
        for module in model.modules():
            if hasattr(module, "in_features"):
                bound = math.sqrt(6 / (module.in_features + module.out_features))
                largest = float(module.weight.abs().max())
                assert 0.95 * bound < largest <= bound
                assert 0 < float(module.bias.abs().max()) <= 0.002


@pytest.mark.parametrize("model", [MultiDAE, MultiVAE])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_dims": ()}, "'hidden_dims' must not be empty"),
        ({"hidden_dims": (3, 0)}, "'hidden_dims' must be >= 1"),
        ({"dropout": -0.1}, r"'dropout' must lie in \[0, 1\] \(got -0.1\)"),
    ],
)
def test_bad_arguments_are_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        model(5, **options)


def test_bad_annealing_is_refused():
    with pytest.raises(ValueError, match=r"'beta' must be >= 0 \(got -1\)"):
        MultiVAE(5, beta=-1)
    with pytest.raises(ValueError, match=r"'anneal_epochs' must be >= 0 \(got nan\)"):
        MultiVAE(5, anneal_epochs=math.nan)
