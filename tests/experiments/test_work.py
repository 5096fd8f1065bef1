"""What each method does with its work."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from safetensors.torch import save_file
from torch_geometric.data import HeteroData

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.methods import METHODS, names_of
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.settings import check_history, denoised, load_settings
from ddrm_pyg.experiments.work import (
    load_ddrm,
    load_recommender,
    load_vectors,
)
from ddrm_pyg.graph.history_weight import agreement_weight, recency_weight
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.graph.sequences import UserSequences
from ddrm_pyg.losses import bce_loss
from ddrm_pyg.nn import ddrm
from ddrm_pyg.nn.conv import light_propagate
from ddrm_pyg.nn.ddrm import DDRMRecommender
from ddrm_pyg.nn.deca import DeCA
from ddrm_pyg.nn.models import (
    CDAE,
    EASE,
    MF,
    SVD,
    ItemKNN,
    LDiffRec,
    LightGCN,
    LTDiffRec,
    OrderWeight,
    SASRec,
    TDiffRec,
    group_items,
)
from ddrm_pyg.ranking import evaluate
from ddrm_pyg.training import fit

FIT = {"epochs": 4, "eval_every": 2}
LIGHTGCN = Cell("lightgcn", 3, {"embedding_dim": 4, "num_layers": 1}, FIT)
SMALL = {"hidden_dims": (4,), "num_train_timesteps": 2}
DDRM = Cell("ddrm", 3, SMALL, FIT, LIGHTGCN)


@pytest.fixture
def runner(data, tmp_path):
    return Runner(data, tmp_path, progress=False)


def test_depth_is_picked_by_validation(runner, data):
    result = runner.run(Cell("best_depth", model={"deepest": 4}, base=LIGHTGCN))
    values = result.notes["val ndcg@20 by depth"]
    assert len(values) == 5
    assert values[result.notes["num_layers"]] == max(values)
    tables = runner.run(LIGHTGCN).embeddings("tables")
    emb = light_propagate(tables, runner.graph, result.notes["num_layers"])
    assert dict(evaluate(emb, data)) == pytest.approx(dict(result.test))


def test_tables_are_propagated_as_told(runner, data):
    settings = {"num_layers": 2, "combine": "normalized-sum"}
    result = runner.run(Cell("propagated", model=settings, base=LIGHTGCN))
    tables = runner.run(LIGHTGCN).embeddings("tables")
    emb = light_propagate(tables, runner.graph, 2, "normalized-sum")
    assert torch.allclose(result.embeddings().user, emb.user)
    assert dict(evaluate(emb, data)) == pytest.approx(dict(result.test))


def test_history_mean_is_where_ddrm_starts(runner, data):
    item = runner.run(LIGHTGCN).embeddings().item
    emb = Embeddings(runner.graph.history_mean(item), item)
    result = runner.run(Cell("history_mean", base=LIGHTGCN))
    assert dict(evaluate(emb, data)) == pytest.approx(dict(result.test))


RECENCY = {"kind": "recency", "tau": 3.0}
AGREEMENT = {"kind": "agreement", "slope": 4.0, "offset": 1.0}


@pytest.mark.parametrize("model", [ItemKNN, EASE])
def test_yardsticks_weigh_histories_as_told(runner, data, model):
    method = {ItemKNN: "item_knn", EASE: "ease"}[model]
    weight = recency_weight(data, 3.0)
    expected = evaluate(model().scorer(runner.graph, history_weight=weight), data)
    result = runner.run(Cell(method, model={"history": RECENCY}))
    assert dict(result.test) == pytest.approx(dict(expected))
    item = runner.run(LIGHTGCN).embeddings().item
    weight = agreement_weight(runner.graph, item, slope=4.0, offset=1.0)
    expected = evaluate(model().scorer(runner.graph, history_weight=weight), data)
    result = runner.run(Cell(method, model={"history": AGREEMENT}, base=LIGHTGCN))
    assert dict(result.test) == pytest.approx(dict(expected))


@pytest.mark.parametrize("model", [ItemKNN, EASE])
def test_validation_picks_how_fast_histories_fade(tmp_path, model):
    data = walks()
    runner = Runner(data, tmp_path, progress=False)
    name = {ItemKNN: "item_knn", EASE: "ease"}[model] + "+recency"
    result = runner.run(Cell(name, model={"metric": "ndcg@20"}))
    taus = [None, 1, 2, 5, 10, 20, 50]
    expected = []
    for tau in taus:
        weight = None if tau is None else recency_weight(data, tau)
        scorer = model().scorer(runner.graph, history_weight=weight)
        expected.append(evaluate(scorer, data, split="val")["ndcg@20"])
    assert result.notes["val ndcg@20 by tau"] == expected
    assert result.notes["tau"] == taus[expected.index(max(expected))]
    assert result.notes["tau"] is not None  # where one is tells where one goes
    weight = recency_weight(data, result.notes["tau"])
    scorer = model().scorer(runner.graph, history_weight=weight)
    assert dict(result.test) == pytest.approx(dict(evaluate(scorer, data)))


def walks():
    """Everyone walks up 90 items in a circle from a place of one's own."""
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 60, 90
    user = torch.arange(60).repeat_interleave(40)
    item = (7 * user + torch.arange(40).repeat(60)) % 90
    data[EDGE].edge_index = torch.stack([user, item])
    data[EDGE].edge_time = torch.arange(40).repeat(60)
    everyone = torch.arange(60)
    for split, later in (("val", 40), ("test", 41)):
        pairs = torch.stack([everyone, (7 * everyone + later) % 90])
        data[EDGE][f"{split}_edge_label_index"] = pairs
    return data


def test_ddrm_is_trained_on_singular_vectors(tmp_path):
    runner = Runner(walks(), tmp_path, progress=False)
    svd = Cell("svd", model={"embedding_dim": 8})
    result = runner.run(svd)
    expected = SVD(8).scorer(runner.graph)
    torch.testing.assert_close(result.embeddings(), expected)
    denoised = runner.run(Cell("ddrm", 3, SMALL, FIT, svd))
    assert torch.equal(denoised.embeddings().item, expected.item)


def by_recency(width, data):
    """Validation of a history mean by how fast histories fade, naively."""
    graph, model = InteractionGraph.from_data(data), SVD(width)
    means = {None: model.scorer(graph)}
    for tau in (1, 2, 5, 10, 20, 50):
        weight = recency_weight(data, tau)
        means[tau] = model.scorer(graph, history_weight=weight)
    return {
        tau: evaluate(mean, data, split="val")["recall@20"]
        for tau, mean in means.items()
    }


def test_singular_vectors_are_doubled_while_validation_gains_one_percent(tmp_path):
    data = walks()
    cell = Cell("svd", model={"embedding_dim": 2, "widest": 64})
    result = Runner(data, tmp_path, progress=False).run(cell)
    widths = [2, 4, 8, 16, 32, 60]  # no wider than there are users
    first = by_recency(2, data)
    tau = max(first, key=first.__getitem__)
    value = {width: by_recency(width, data)[tau] for width in widths}
    expected = next(
        (a for a, b in pairwise(widths) if value[b] < 1.01 * value[a]), widths[-1]
    )
    assert expected > 2
    assert (result.notes["embedding_dim"], result.notes["tau"]) == (expected, tau)
    graph = InteractionGraph.from_data(data)
    torch.testing.assert_close(result.embeddings(), SVD(expected).scorer(graph))
    tried = result.notes["widths"]
    assert tried == widths[: len(tried)]
    values = result.notes["val recall@20 by width"]
    assert values == pytest.approx([value[width] for width in tried])


def test_singular_vectors_are_as_wide_as_asked_for_without_validation(tmp_path):
    data = walks()
    data[EDGE].val_edge_label_index = torch.empty(2, 0, dtype=torch.long)
    cell = Cell("svd", model={"embedding_dim": 4, "widest": 64})
    result = Runner(data, tmp_path, progress=False).run(cell)
    assert result.embeddings().item.size(1) == 4


def test_the_widest_singular_vectors_leave_old_names_alone():
    plain = Cell("svd", model={"embedding_dim": 512})
    assert plain == Cell("svd", model={"embedding_dim": 512, "widest": 0})
    assert plain != Cell("svd", model={"embedding_dim": 512, "widest": 1024})


def test_sasrec_keeps_what_encodes_other_histories(tmp_path):
    data = walks()
    runner = Runner(data, tmp_path, progress=False)
    small = {"embedding_dim": 4, "num_layers": 1, "max_length": 5}
    result = runner.run(Cell("sasrec", 3, small, FIT))
    model = SASRec(90, edge_time=data[EDGE].edge_time, **small)
    model.load_state_dict(result.tensors())
    torch.testing.assert_close(result.embeddings(), model.scorer(runner.graph))


PAST = {
    "train_start": "past",
    "hidden_dims": [8],
    "num_start_steps": 0,
    "denoise_user": False,
}


@pytest.mark.parametrize("svd_dim", [0, 6])
@pytest.mark.parametrize("backend", ["lightgcn", "svd", "sasrec"])
def test_a_past_is_rebuilt_for_new_histories(tmp_path, backend, svd_dim):
    data = walks()
    runner = Runner(data, tmp_path, progress=False)
    small = {"embedding_dim": 4}
    if backend == "sasrec":
        small |= {"num_layers": 1, "max_length": 5}
    trained = METHODS[backend].trained
    base = Cell(backend, 3 if trained else None, small, FIT if trained else {})
    cell = Cell("ddrm", 3, {**PAST, "svd_dim": svd_dim}, FIT, base)
    result = runner.run(cell)
    own = 8 if backend == "sasrec" else 4  # its means and its states
    assert result.embeddings().item.size(1) == own + svd_dim + 1
    model = load_recommender(result, runner.run(base), runner.graph)
    history = data[EDGE].edge_index[1].view(60, 40)[[5, 0]]
    new = model.generate([*history])
    expected = result.embeddings()
    torch.testing.assert_close(new.user, expected.user[[5, 0]], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(new.item, expected.item, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="'train_start' must not be 'past'"):
        load_ddrm(result)


def test_validation_picks_how_fast_a_history_mean_fades(tmp_path):
    data = walks()
    runner = Runner(data, tmp_path, progress=False)
    svd = Cell("svd", model={"embedding_dim": 8})
    result = runner.run(Cell("recent_mean", base=svd))
    item = runner.run(svd).embeddings().item
    values = []
    for tau in (None, 1, 2, 5, 10, 20, 50):
        weight = None if tau is None else recency_weight(data, tau)
        mean = Embeddings(runner.graph.history_mean(item, weight=weight), item)
        values.append(evaluate(mean, data, split="val")["ndcg@20"])
    assert result.notes["val ndcg@20 by tau"] == pytest.approx(values)
    assert result.notes["tau"] == (None, 1, 2, 5, 10, 20, 50)[values.index(max(values))]
    assert result.notes["tau"] is not None  # where one is tells where one goes


def test_history_mean_is_weighed_as_told(runner, data):
    item = runner.run(LIGHTGCN).embeddings().item
    user = runner.graph.history_mean(item, weight=recency_weight(data, 3.0))
    result = runner.run(Cell("history_mean", model={"history": RECENCY}, base=LIGHTGCN))
    expected = evaluate(Embeddings(user, item), data)
    assert dict(result.test) == pytest.approx(dict(expected))


@pytest.mark.parametrize(
    "history", [RECENCY, AGREEMENT], ids=lambda settings: settings["kind"]
)
def test_ddrm_is_trained_and_started_as_told(runner, data, history):
    settings = {"history": history, "train_start": "history"}
    cell = replace(DDRM, model={**DDRM.model, **settings})
    trained = runner.run(cell)
    base = runner.run(LIGHTGCN).embeddings()
    weight = recency_weight(data, 3.0)
    if history is AGREEMENT:
        weight = agreement_weight(runner.graph, base.item, slope=4.0, offset=1.0)
    torch.manual_seed(3)
    model = DDRMRecommender(
        ddrm.DDRM(4, **SMALL),
        base,
        history_weight=weight,
        train_start="history",
    )
    fit(model, data, **FIT, seed=3, progress=False)
    expected = model.scorer(runner.graph)
    assert torch.allclose(trained.embeddings().user, expected.user)
    again = runner.run(Cell("resampled", base=cell))  # with the weights it was given
    assert dict(again.test) == pytest.approx(dict(trained.test))


def test_trained_ddrm_is_sampled_as_told(runner):
    settings = {"sampler": "skip", "num_inference_steps": 1, "history": RECENCY}
    result = runner.run(Cell("resampled", 5, settings, base=DDRM))
    base = runner.run(LIGHTGCN).embeddings()
    denoised = load_ddrm(runner.run(DDRM), sampler="skip", num_inference_steps=1)(
        *base,
        runner.graph,
        history_weight=recency_weight(runner.data, 3.0),
        generator=torch.Generator().manual_seed(5),
    )
    assert dict(evaluate(denoised, runner.data)) == pytest.approx(dict(result.test))


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ("recency", "with a 'kind' of"),
        ({"kind": "fame"}, "with a 'kind' of"),
        ({"kind": "recency"}, "of kind 'recency' takes tau"),
        ({"kind": "recency", "tau": 3, "slope": 1}, "of kind 'recency' takes tau"),
        ({"kind": "agreement", "tau": 3}, "of kind 'agreement' takes offset, slope"),
        ({"kind": "agreement", "slope": "a"}, "'slope' of 'history' must be a number"),
        ({"kind": "recency", "tau": "5"}, "'tau' of 'history' must be a number"),
        ({"kind": "recency", "tau": -1}, "'tau' of 'history' must be > 0"),
    ],
)
def test_history_that_is_not_understood_is_refused(history, message):
    with pytest.raises(ValueError, match=message):
        check_history(history)


def test_a_trained_ddrm_is_not_told_how_to_train(runner):
    with pytest.raises(ValueError, match="'resampled' does not train"):
        runner.run(Cell("resampled", model={"train_start": "history"}, base=DDRM))


def test_agreement_needs_vectors(runner):
    with pytest.raises(ValueError, match="'base' must be a cell for method 'ease'"):
        runner.run(Cell("ease", model={"history": AGREEMENT}))


@pytest.mark.parametrize(
    "network",
    [
        {},
        {"denoiser": "transformer"},
        {"denoiser": "transformer", "attention": "gate", "activation": "tanh"},
    ],
)
def test_trained_ddrm_is_rebuilt(runner, network):
    trained = runner.run(replace(DDRM, model={**SMALL, **network}))
    ddrm = load_ddrm(trained)
    assert ddrm.embedding_dim == 4
    base = runner.run(LIGHTGCN).embeddings()
    generator = torch.Generator().manual_seed(0)
    denoised = ddrm(*base, runner.graph, generator=generator)
    assert torch.allclose(denoised.user, trained.embeddings().user)
    once = load_ddrm(trained, num_inference_steps=1, num_start_steps=0)
    assert (once.num_inference_steps, once.num_start_steps) == (1, 0)


def test_missing_base_is_refused(runner):
    with pytest.raises(ValueError, match="'base' must be a cell for method 'ddrm'"):
        runner.run(Cell("ddrm"))


@pytest.fixture
def vectors(tmp_path):
    generator = torch.Generator().manual_seed(0)
    user, item = (torch.randn(n, 2, generator=generator) for n in (3, 4))
    return Embeddings(user, item)


def test_given_embeddings_are_propagated(runner, vectors, tmp_path):
    vectors.save(tmp_path / "emb.npz")
    model = {"path": str(tmp_path / "emb.npz"), "num_layers": 2, "combine": "mean"}
    result = runner.run(Cell("embeddings", model=model))
    expected = light_propagate(vectors, runner.graph, 2)
    assert torch.equal(result.embeddings().user, expected.user)
    assert torch.equal(result.embeddings("tables").item, vectors.item)


@pytest.fixture
def path_data():
    """Two users and two items."""
    data = HeteroData()
    data["user"].num_nodes = data["item"].num_nodes = 2
    return data


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_tables_are_read_as_float32_and_it_is_said(
    vectors, path_data, tmp_path, caplog, dtype
):
    path = tmp_path / "emb.safetensors"
    Embeddings(vectors.user[:2].to(dtype), vectors.item[:2].to(dtype)).save(path)
    with caplog.at_level(logging.WARNING, "ddrm_pyg"):
        tables = load_vectors({"path": str(path)}, path_data)
    assert tables.user.dtype == tables.item.dtype == torch.float32
    assert "read as float32" in caplog.text
    tables.save(path)
    caplog.clear()
    assert torch.equal(load_vectors({"path": str(path)}, path_data).user, tables.user)
    assert caplog.text == ""


def test_tables_of_another_graph_are_refused(vectors, path_data, tmp_path):
    vectors.save(tmp_path / "emb.npz")
    with pytest.raises(ValueError, match=r"emb.npz: .* graph, 2 \(got 3\)"):
        load_vectors({"path": str(tmp_path / "emb.npz")}, path_data)


@pytest.mark.parametrize("cleaner", ["t-ce", "r-ce", "deca", "deca-p", "wbpr"])
@pytest.mark.parametrize("backend", ["mf", "lightgcn", "sgl"])
def test_every_cleaner_trains_every_backend(data, tmp_path, backend, cleaner):
    changes = {}
    if cleaner == "t-ce":
        changes = {"drop_rate": 0.5, "num_gradual_epochs": 0}
    plain = Cell(backend, 0, {"embedding_dim": 4}, {"epochs": 4, "batch_size": 4})
    cell = denoised(plain, cleaner, changes=changes)
    result = Runner(data, tmp_path, progress=False).run(cell)
    assert result.embeddings().item.shape == (data["item"].num_nodes, 4)
    other = Runner(data, tmp_path, progress=False).run(plain).embeddings()
    assert not torch.allclose(result.embeddings().item, other.item)


@pytest.mark.parametrize("backend", [MF, LightGCN])
def test_deca_p_agrees_with_a_backend_of_another_seed(runner, data, backend):
    plain = Cell(backend.__name__.lower(), 3, {"embedding_dim": 4}, FIT)
    result = runner.run(denoised(plain, "deca-p", changes={"aux_dim": 2, "c1": 5.0}))
    graph, sizes = runner.graph, (runner.graph.num_users, runner.graph.num_items, 4)
    torch.manual_seed(4)
    other = backend(*sizes, pair_loss=bce_loss)
    fit(other, data, **FIT, seed=4, progress=False)
    torch.manual_seed(3)
    target = backend(*sizes)
    auxiliary = other.scorer(graph)
    settings = {"c1": 5.0, "c2": 1.0, "alpha": 1.0, "aux_dim": 2}
    model = DeCA(target, auxiliary, pretrained=True, **settings)
    fit(model, data, **FIT, seed=3, progress=False)
    assert torch.equal(result.embeddings().user, target.scorer(graph).user)
    assert torch.equal(result.embeddings().item, target.scorer(graph).item)


@pytest.fixture
def trained(monkeypatch):
    """The models that cells train, in order."""
    models = []
    train = Runner.train

    def noted(self, cell, model):
        models.append(model)
        return train(self, cell, model)

    monkeypatch.setattr(Runner, "train", noted)
    return models


@pytest.mark.parametrize("method", names_of("rival"))
def test_every_generative_rival_runs_with_its_stored_settings(
    runner, data, trained, method
):
    data[EDGE].in_order = True
    fit = {"epochs": 2, "batch_size": 4}
    base = LIGHTGCN if METHODS[method].base else None
    cell = Cell(method, 3, load_settings(method, method)["model"], fit, base)
    result = runner.run(cell)
    model = trained[-1]
    assert result.num_parameters == sum(p.numel() for p in model.parameters())
    measured = evaluate(model.scorer(runner.graph), data)
    assert dict(measured) == pytest.approx(dict(result.test))


def test_sizes_reach_the_model(runner, trained):
    runner.run(Cell("cdae", 3, {"embedding_dim": 2}, FIT))
    (model,) = trained
    assert isinstance(model, CDAE)
    assert model.num_users == runner.graph.num_users
    assert model.num_items == runner.graph.num_items


def test_times_order_the_rows_of_tdiffrec(data, tmp_path, trained):
    data = data.clone()
    later_first = torch.arange(data[EDGE].edge_index.size(1)).flip(0)
    cell = Cell("tdiffrec", 3, {"hidden_dims": [4]}, {"epochs": 1})
    for time in (None, later_first):
        if time is None:
            data[EDGE].pop("edge_time", None)
            data[EDGE].in_order = True
        else:
            data[EDGE].edge_time = time
        runner = Runner(data, tmp_path / str(time is None), progress=False)
        runner.run(cell)
        assert isinstance(trained[-1], TDiffRec)
        expected = OrderWeight(edge_time=time)(runner.graph)
        assert torch.equal(trained[-1].row_weight(runner.graph), expected)


@pytest.mark.parametrize("method", ["sasrec", "tdiffrec"])
def test_data_in_order_are_read_so_where_times_do_not_tell(
    data, tmp_path, trained, method
):
    data = data.clone()
    count = data[EDGE].edge_index.size(1)
    data[EDGE].in_order = True
    data[EDGE].edge_time = torch.arange(count).flip(0)
    data[EDGE].edge_time[::2] = -1  # unknown
    runner = Runner(data, tmp_path, progress=False)
    runner.run(Cell(method, 3, fit={"epochs": 1}))
    (model,) = trained
    if method == "sasrec":
        expected = UserSequences.from_graph(runner.graph)
        assert torch.equal(model.sequences(runner.graph).item, expected.item)
    else:
        expected = OrderWeight()(runner.graph)
        assert torch.equal(model.row_weight(runner.graph), expected)


def test_ltdiffrec_has_its_bases_groups_and_weighs_by_time(data, tmp_path, trained):
    data = data.clone()
    data[EDGE].edge_time = torch.arange(data[EDGE].edge_index.size(1)).flip(0)
    runner = Runner(data, tmp_path, progress=False)
    settings = {"num_groups": 2, "latent_dim": 6, "hidden_dims": [4], "w_min": 0.2}
    runner.run(Cell("ltdiffrec", 3, settings, FIT, LIGHTGCN))
    model = trained[-1]
    assert isinstance(model, LTDiffRec)
    items = runner.run(LIGHTGCN).embeddings().item
    assert torch.equal(model.item_group, group_items(items, 2, seed=3))
    expected = OrderWeight(0.2, edge_time=data[EDGE].edge_time)(runner.graph)
    assert torch.equal(model.row_weight(runner.graph), expected)


def test_item_groups_of_ldiffrec_are_those_of_its_base(runner, trained):
    settings = {"num_groups": 2, "latent_dim": 6, "hidden_dims": [4]}
    runner.run(Cell("ldiffrec", 3, settings, FIT, LIGHTGCN))
    model = trained[-1]
    assert isinstance(model, LDiffRec)
    items = runner.run(LIGHTGCN).embeddings().item
    assert torch.equal(model.item_group, group_items(items, 2, seed=3))


def test_result_reads_what_lies_in_its_folder(make_result, tmp_path):
    result = replace(make_result([0.5]), folder=tmp_path)
    tables = {"user": torch.rand(2, 3), "item": torch.rand(4, 3)}
    for name in ("embeddings", "tables", "weights"):
        save_file(tables, tmp_path / f"{name}.safetensors")
    assert torch.equal(result.embeddings().item, tables["item"])
    assert torch.equal(result.embeddings("tables").user, tables["user"])
    assert result.tensors().keys() == tables.keys()
