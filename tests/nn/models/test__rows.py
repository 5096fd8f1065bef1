"""The shared parts, and what every model of rows promises."""

import pytest
import torch

from ddrm_pyg import testing
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.loader import RowTable
from ddrm_pyg.nn.models._rows import RowRecommender
from ddrm_pyg.nn.models.cdae import CDAE
from ddrm_pyg.nn.models.diffrec import DiffRec, LDiffRec, OrderWeight, TDiffRec
from ddrm_pyg.nn.models.multivae import MultiDAE, MultiVAE
from ddrm_pyg.ranking import evaluate
from ddrm_pyg.training import fit

GROUPS = torch.arange(40) // 20
LATENT = {
    "latent_dim": 16,
    "hidden_dims": (16,),
    "num_train_timesteps": 5,
    "latent_dropout": 0.0,
    "autoencoder_lr": 1e-2,
    "diffusion_lr": 1e-2,
}
NOISY = {"noise_scale": 1.0, "noise_min": 0.05, "noise_max": 0.5, "dropout": 0.0}
MODELS = {
    "CDAE": lambda: CDAE(40, 40, 16),
    "CDAE sampled": lambda: CDAE(40, 40, 16, loss="sampled", activation="sigmoid"),
    "MultiDAE": lambda: MultiDAE(40, (16,)),
    "MultiVAE": lambda: MultiVAE(40, (32, 16)),
    "DiffRec": lambda: DiffRec(40, (32,)),
    "DiffRec of noise": lambda: DiffRec(40, (32,), prediction="noise", **NOISY),
    "DiffRec from noise": lambda: DiffRec(40, (32,), num_start_steps=3),
    "TDiffRec": lambda: TDiffRec(40, (32,), w_min=0.5),
    "LDiffRec": lambda: LDiffRec(GROUPS, **LATENT),
    "LT-DiffRec": lambda: LDiffRec(GROUPS, row_weight=OrderWeight(0.5), **LATENT),
}


@pytest.fixture(params=MODELS)
def make(request):
    def build():
        torch.manual_seed(0)
        return MODELS[request.param]()

    return build


@pytest.fixture
def world():
    return in_order()


def in_order():
    """A checkerboard for models of order, too."""
    data = testing.checkerboard()
    data[EDGE].in_order = True
    return data


def train(model, data, epochs, **options):
    settings = {"batch_size": 10, "lr": 1e-2, "metric": "recall@2", "patience": 100}
    settings |= {"eval_every": 10, "progress": False, **options}
    fit(model, data, epochs=epochs, **settings)
    return model.scorer(InteractionGraph.from_data(data))


def test_protocols_are_kept(make, world):
    testing.check_recommender(make(), world)


def test_withheld_item_of_the_own_colour_comes_first(make, world):
    scorer = train(make(), world, 60, patience=3)
    assert evaluate(scorer, world, k=(1,))["recall@1"] == 1


def test_a_stopped_run_goes_on_to_the_same_bits(make, world, tmp_path):
    straight = make()
    train(straight, world, 4, eval_every=2)
    stopped = make()
    train(stopped, world, 2, eval_every=2, checkpoint=tmp_path / "run.pt")
    resumed = make()
    train(resumed, world, 4, eval_every=2, checkpoint=tmp_path / "run.pt")
    state = resumed.state_dict()
    for name, value in straight.state_dict().items():
        assert torch.equal(state[name], value), name


def test_held_out_pairs_ratings_and_labels_are_never_read(make, world):
    bits = []
    for seed in (1, 2):
        generator = torch.Generator().manual_seed(seed)
        data = in_order()
        for split in ("val", "test"):
            data[EDGE][f"{split}_edge_label_index"] = torch.randint(
                40, (2, 30 * seed), generator=generator
            )
        data[EDGE].edge_rating = torch.rand(720, generator=generator)
        data[EDGE].edge_is_noise = torch.rand(720, generator=generator) < 0.5
        # validation selects, so that it may not do so here
        scorer = train(make(), data, 2, eval_every=2)
        bits.append(scorer.scores(torch.arange(40)))
    assert torch.equal(*bits)


def test_scores_do_not_depend_on_order_or_batch(make, world):
    graph = InteractionGraph.from_data(world)
    model = make()
    scorer = model.scorer(graph)
    user = torch.arange(40)
    whole = scorer.scores(user)
    shuffled = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(scorer.scores(shuffled), whole[shuffled])
    assert torch.equal(torch.cat([scorer.scores(u) for u in user.split(20)]), whole)
    for size in (1, 3):
        parts = torch.cat([scorer.scores(part) for part in user.split(size)])
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", [True, False])
def test_scoring_is_deterministic_and_leaves_the_mode_alone(make, world, mode):
    model = make().train(mode)
    scorer = model.scorer(InteractionGraph.from_data(world))
    state = torch.get_rng_state()
    scores = scorer.scores(torch.arange(40))
    assert torch.equal(scorer.scores(torch.arange(40)), scores)
    assert torch.equal(torch.get_rng_state(), state)
    assert not scores.requires_grad
    assert all(module.training is mode for module in model.modules())


def test_all_randomness_is_the_generators(make, world):
    graph = InteractionGraph.from_data(world)
    seen = []
    for seed in (0, 1):
        model = make().train()
        torch.manual_seed(seed)  # must not matter
        generator = torch.Generator().manual_seed(7)
        batches = model.batches(graph, batch_size=16, generator=generator)
        losses = [
            loss.detach()
            for batch in batches
            for loss in model.losses(batch, graph, generator=generator)
        ]
        assert [loss.numel() for loss in losses] == [16, 16, 8]
        seen.append(torch.cat(losses))
    assert torch.equal(*seen)


def test_users_without_items_are_skipped_and_scored_finitely(make, world):
    graph = InteractionGraph.from_data(world)
    graph = graph.subgraph(graph.edge_index[0] >= 20)
    model, generator = make(), torch.Generator().manual_seed(0)
    trained = [
        batch.user for batch in model.batches(graph, batch_size=8, generator=generator)
    ]
    assert sorted(torch.cat(trained).tolist()) == list(range(20, 40))
    assert model.scorer(graph).scores(torch.arange(20)).isfinite().all()
    nobody = graph.subgraph(torch.zeros(graph.num_edges, dtype=torch.bool))
    assert model.scorer(nobody).scores(torch.arange(3)).isfinite().all()


def test_owners_of_everything_have_finite_losses(make):
    everything = torch.cartesian_prod(torch.arange(40), torch.arange(40)).T
    graph, model = InteractionGraph(everything, 40, 40), make()
    generator = torch.Generator().manual_seed(0)
    for batch in model.batches(graph, batch_size=16, generator=generator):
        for loss in model.losses(batch, graph, generator=generator):
            assert loss.isfinite().all()


def test_rows_are_never_written_out_for_everyone():
    # 10^11 entries in full
    pairs = torch.tensor([[0, 0, 999_999], [3, 99_999, 5]])
    graph = InteractionGraph(pairs, 1_000_000, 100_000)
    model = MultiDAE(100_000, (2,))
    (batch,) = model.batches(
        graph, batch_size=8, generator=torch.Generator().manual_seed(0)
    )
    assert sorted(batch.user.tolist()) == [0, 999_999]
    scores = model.scorer(graph).scores(torch.tensor([999_999, 1]))
    assert scores.shape == (2, 100_000)


def test_another_catalogue_is_refused(make, path_graph):
    with pytest.raises(ValueError, match="'graph' must have 40 "):
        make().scorer(path_graph)


def test_the_base_leaves_losses_and_scores_to_its_heirs(path_graph):
    model = RowRecommender(2)
    with pytest.raises(NotImplementedError):
        model.losses(None, path_graph, generator=torch.Generator())
    with pytest.raises(NotImplementedError):
        model.scorer(path_graph).scores(torch.tensor([0]))
    with pytest.raises(ValueError, match=r"'num_items' must be >= 1 \(got 0\)"):
        RowRecommender(0)


def test_scorer_follows_the_weights_and_the_table(path_graph):
    model = MultiDAE(2, (3,))
    scorer = model.scorer(path_graph)
    assert isinstance(scorer.table, RowTable)
    before = scorer.scores(torch.tensor([0]))
    torch.manual_seed(9)
    model.reset_parameters()
    assert not torch.equal(scorer.scores(torch.tensor([0])), before)
