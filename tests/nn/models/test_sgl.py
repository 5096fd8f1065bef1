import copy

import pytest
import torch
from torch.nn import functional as F

from ddrm_pyg import SGL, InteractionGraph, LightGCN, evaluate, fit
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.losses import bpr_loss
from ddrm_pyg.nn.conv import light_propagate, propagate_through
from ddrm_pyg.testing import check_backend, check_recommender, checkerboard

AUGMENTATIONS = ["ED", "ND", "RW"]
COMBINES = ["mean", "normalized-sum"]


@pytest.fixture
def graph():
    return InteractionGraph.from_data(checkerboard(12, 16))


def make(graph, backend=SGL, seed=0, **options):
    torch.manual_seed(seed)
    options = {"embedding_dim": 8, "num_layers": 2, **options}
    return backend(graph.num_users, graph.num_items, **options)


def start_epoch(model, graph, seed=0):
    """Return the first batch; views are drawn on the way."""
    generator = torch.Generator().manual_seed(seed)
    return next(iter(model.batches(graph, batch_size=32, generator=generator)))


def loss_and_gradient(model, batch, graph):
    (loss,) = model.losses(batch, graph, generator=None)
    loss.mean().backward()
    return loss.detach(), model.user_table.grad, model.item_table.grad


def edges_of(model):
    """Edges of every layer of both views."""
    return [
        [tuple(map(tuple, layer.edge_index.T.tolist())) for layer in view]
        for view in model._views
    ]


def no_loss(pos_score, neg_score):
    return torch.zeros_like(pos_score)


def tables_of(model):
    return Embeddings(model.user_table, model.item_table)


# the full graph


@pytest.mark.parametrize("combine", COMBINES)
def test_embeddings_come_from_the_full_graph_alone(graph, combine):
    model = make(graph, combine=combine)
    expected = light_propagate(tables_of(model), graph, 2, combine)
    before = model(graph)
    start_epoch(model, graph)
    for out in (before, model(graph), model.scorer(graph), model(graph.edge_index)):
        for ours, table in zip(out, expected, strict=True):
            assert torch.equal(ours, table)


@pytest.mark.parametrize("combine", COMBINES)
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def testno_loss_dropped_is_the_full_graph(graph, augmentation, combine):
    model = make(graph, augmentation=augmentation, combine=combine, drop_rate=0.0)
    start_epoch(model, graph)
    for view in model._views:
        assert len(view) == 2
        for ours, full in zip(
            propagate_through(tables_of(model), view, model.combine),
            model(graph),
            strict=True,
        ):
            torch.testing.assert_close(ours, full)


def test_depth_zero_contrasts_the_tables(graph):
    model = make(graph, num_layers=0)
    batch = start_epoch(model, graph)
    assert model._views == ((), ())
    for ours, table in zip(
        propagate_through(tables_of(model), (), model.combine),
        tables_of(model),
        strict=True,
    ):
        assert torch.equal(ours, table)
    assert model.penalty(batch, model(graph), generator=None).shape == (32,)


# views


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_views_stay_for_the_epoch_and_change_with_the_next(graph, augmentation):
    model = make(graph, augmentation=augmentation, drop_rate=0.25)
    generator = torch.Generator().manual_seed(0)
    epochs = []
    for _ in range(2):
        seen = []
        for batch in model.batches(graph, batch_size=32, generator=generator):
            list(model.losses(batch, graph, generator=generator))
            seen.append(edges_of(model))
        assert len(seen) > 1
        assert all(views == seen[0] for views in seen)
        epochs.append(seen[0])
    assert epochs[0][0] != epochs[0][1]
    assert epochs[0] != epochs[1]
    layers = {edges for view in epochs[0] for edges in view}
    assert len(layers) == (4 if augmentation == "RW" else 2)


def test_views_lose_what_they_are_told(graph):
    model = make(graph, drop_rate=0.25)
    start_epoch(model, graph)
    kept = int(graph.num_edges * 0.75)
    assert {len(edges) for view in edges_of(model) for edges in view} == {kept}


def test_dropped_nodes_keep_their_layer_zero(graph):
    model = make(graph, augmentation="ND", drop_rate=0.25)
    start_epoch(model, graph)
    view = model._views[0]
    lost = view[0].degree("user") == 0
    assert lost.sum() == 3
    expected = model.user_table[lost] / 3
    torch.testing.assert_close(
        propagate_through(tables_of(model), view, model.combine).user[lost], expected
    )


def test_views_are_not_part_of_the_state(graph):
    model = make(graph)
    before = set(model.state_dict())
    start_epoch(model, graph)
    assert set(model.state_dict()) == before == {"user_table", "item_table"}


def test_penalty_without_views_is_refused(graph):
    batch = start_epoch(make(graph), graph)
    model = make(graph)
    with pytest.raises(RuntimeError, match="take batches from its method 'batches'"):
        model.penalty(batch, model(graph), generator=None)


# losses


def naive_contrast(first, second, nodes, temperature):
    """Eq. 10, anchor by anchor in float64."""
    first, second = (F.normalize(view.double()) for view in (first, second))
    alike = [(second @ first[node] / temperature).exp() for node in nodes.tolist()]
    return torch.stack(
        [-(a[n] / a.sum()).log() for a, n in zip(alike, nodes.tolist(), strict=True)]
    )


@pytest.mark.fidelity(
    "SGL",
    "the penalty: the contrast of users and items, Eq. 10, and L2",
    "the equations, anchor by anchor in float64",
    digits=5,
)
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_penalty_adds_the_contrast_of_users_and_positive_items(
    graph, augmentation, agrees
):
    options = {"l2": 0.3, "temperature": 0.4, "augmentation": augmentation}
    model = make(graph, ssl_weight=0.7, **options)
    batch = start_epoch(model, graph)
    first, second = (
        propagate_through(tables_of(model), view, model.combine)
        for view in model._views
    )
    user = naive_contrast(first.user, second.user, batch.user, 0.4)
    item = naive_contrast(first.item, second.item, batch.pos_item, 0.4)
    squares = sum(
        table[index].square().sum(1)
        for table, index in (
            (model.user_table, batch.user),
            (model.item_table, batch.pos_item),
            (model.item_table, batch.neg_item),
        )
    )
    penalty = model.penalty(batch, model(graph), generator=None)
    agrees(penalty, 0.15 * squares + 0.7 * (user + item))


def test_loss_has_the_ratio_of_the_published_sums(graph):
    # the authors sum each of the three terms over the batch; a factor B apart
    model = make(graph, ssl_weight=0.7, l2=0.3)
    batch = start_epoch(model, graph)
    emb = model(graph)
    score = emb.scores(batch.user)
    row = torch.arange(batch.user.numel())
    bpr = bpr_loss(score[row, batch.pos_item], score[row, batch.neg_item]).sum()
    published = bpr + model.penalty(batch, emb, generator=None).sum()
    (loss,) = model.losses(batch, graph, generator=None)
    torch.testing.assert_close(loss.mean() * row.numel(), published)


def test_without_the_task_it_is_lightgcn(graph):
    ours, plain = make(graph, ssl_weight=0.0), make(graph, LightGCN)
    batches = [start_epoch(model, graph) for model in (ours, plain)]
    for left, right in zip(*batches, strict=True):
        assert torch.equal(left, right)
    for left, right in zip(
        loss_and_gradient(ours, batches[0], graph),
        loss_and_gradient(plain, batches[0], graph),
        strict=True,
    ):
        assert torch.equal(left, right)


def test_wrappers_of_the_pair_loss_leave_the_contrast_alone(graph):
    model = make(graph, pair_loss=no_loss)
    batch = start_epoch(model, graph)
    (loss,) = model.losses(batch, graph, generator=None)
    penalty = model.penalty(batch, model(graph), generator=None)
    assert torch.equal(loss, penalty)
    assert (penalty > 0).all()


# training


@pytest.mark.parametrize("combine", COMBINES)
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_keeps_the_contracts(graph, augmentation, combine):
    options = {"augmentation": augmentation, "combine": combine}
    check_backend(make(graph, **options), graph)
    check_recommender(make(graph, **options), checkerboard(12, 16))


@pytest.mark.parametrize("combine", COMBINES)
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_learns_the_checkerboard(augmentation, combine):
    data = checkerboard(20, 20)
    graph = InteractionGraph.from_data(data)
    # in so small a world, telling all nodes apart is most of the loss and random tables
    # tell them apart for good; and no selection: the validation item is the easier one
    options = {"augmentation": augmentation, "combine": combine}
    model = make(graph, ssl_weight=0.02, init_std=0.01, **options)
    fit(model, data, epochs=25, batch_size=64, lr=0.02, eval_every=25, progress=False)
    metrics = evaluate(model.scorer(graph), data, split="test", k=(1,))
    assert metrics["recall@1"] == 1


def test_a_run_that_goes_on_has_the_bits_of_a_straight_one(graph, tmp_path):
    data = checkerboard(12, 16)
    options = {"batch_size": 32, "lr": 0.01, "eval_every": 1, "progress": False}
    straight, halved, resumed = (make(graph, drop_rate=0.3) for _ in range(3))
    file = tmp_path / "checkpoint.pt"
    last = fit(straight, data, epochs=4, patience=9, **options).history[-1]
    fit(halved, data, epochs=2, patience=9, checkpoint=file, **options)
    again = fit(resumed, data, epochs=4, patience=9, checkpoint=file, **options)
    assert again.history[-1]["loss"] == last["loss"]
    for left, right in zip(tables_of(straight), tables_of(resumed), strict=True):
        assert torch.equal(left, right)
    assert edges_of(straight) == edges_of(resumed)


def test_same_seed_same_bits(graph):
    model = make(graph)
    twin = copy.deepcopy(model)
    results = [
        loss_and_gradient(m, start_epoch(m, graph), graph) for m in (model, twin)
    ]
    for left, right in zip(*results, strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": -1}, r"'num_layers' must be >= 0 \(got -1\)"),
        ({"ssl_weight": -0.1}, r"'ssl_weight' must be >= 0 \(got -0.1\)"),
        ({"temperature": 0.0}, r"'temperature' must be positive \(got 0.0\)"),
        ({"drop_rate": 1.0}, r"'drop_rate' must lie in \[0, 1\) \(got 1.0\)"),
        ({"augmentation": "XX"}, r"'augmentation' must be .*\(got 'XX'\)"),
        ({"combine": "sum"}, r"'combine' must be .*\(got 'sum'\)"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SGL(2, 2, **options)
