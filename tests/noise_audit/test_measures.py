"""Scores of many signals, and measures that know the labels."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, roc_auc_score
from torch_geometric.data import HeteroData

from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.noise_audit.measures import (
    SCOPES,
    audit,
    fit_weights,
    inject,
    popularity_decile,
    rank_within_user,
    train_only,
)
from ddrm_pyg.noise_audit.signals import popularity_signal


def make_data(
    pairs: list[tuple[int, int]], noise: list[int] | None = None
) -> HeteroData:
    data = HeteroData()
    edge_index = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).T
    for row, kind in enumerate(("user", "item")):
        data[kind].num_nodes = int(edge_index[row].max()) + 1
    data[EDGE].edge_index = edge_index
    if noise is not None:
        data[EDGE].edge_is_noise = torch.tensor(noise).bool()
    return data


def random_data(num_users: int = 60, num_items: int = 40, seed: int = 0) -> HeteroData:
    """Every pair with chance 1/5, noise or not by the toss of a coin."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.rand(num_users, num_items, generator=generator) < 0.2
    data = make_data(pairs.nonzero().tolist())
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    size = data[EDGE].edge_index.size(1)
    data[EDGE].edge_is_noise = torch.rand(size, generator=generator) < 0.4
    return data


@pytest.fixture
def graph() -> InteractionGraph:
    return InteractionGraph.from_data(random_data())


# Combining.


def test_score_is_the_weighted_mean_of_ranks():
    data = make_data([(0, 0), (0, 1), (1, 0), (1, 1)])
    signals = {
        "a": torch.tensor([10.0, 20.0, 30.0, 40.0]),  # ranks 1/8, 3/8, 5/8, 7/8
        "b": torch.tensor([5.0, 5.0, -1.0, 5.0]),  # 5/8 (tied), 5/8, 1/8, 5/8
    }
    equal = audit(signals, data)
    assert equal.score.tolist() == [3 / 8, 4 / 8, 3 / 8, 6 / 8]
    assert equal.weights == {"a": 0.5, "b": 0.5}
    assert equal.rank.tolist() == [2, 1, 2, 1]
    weighed = audit(signals, data, {"a": 1, "b": 3})
    assert weighed.score.tolist() == [4 / 8, 9 / 16, 2 / 8, 11 / 16]
    alone = audit(signals, data, {"b": 2.0})
    assert alone.score.tolist() == [5 / 8, 5 / 8, 1 / 8, 5 / 8]
    assert alone.weights == {"a": 0.0, "b": 1.0}
    assert [*alone.parts] == ["b"]
    assert torch.equal(alone.parts["b"], alone.score)
    assert weighed.parts["a"].tolist() == [1 / 32, 3 / 32, 5 / 32, 7 / 32]
    assert torch.equal(weighed.parts["a"] + weighed.parts["b"], weighed.score)


def test_signals_may_enter_by_their_ranks_within_users():
    data = make_data([(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)])
    signals = {"a": torch.tensor([9.0, 8.0, 1.0, 1.0, 0.0])}
    result = audit(signals, data, within_users=["a"])
    # two of user 0 at 3/4 and 1/4; a tie of user 1 at 2/3, the last at 1/6
    assert result.score.tolist() == pytest.approx([3 / 4, 1 / 4, 2 / 3, 2 / 3, 1 / 6])


@given(st.integers(0, 2**31))
def test_ranks_within_users_are_those_of_each_user_alone(seed):
    data = random_data(12, 30, seed)
    graph = InteractionGraph.from_data(data)
    generator = torch.Generator().manual_seed(seed)
    signal = torch.randint(6, (graph.num_edges,), generator=generator).float()
    score = audit({"a": signal}, train_only(data), within_users=["a"]).score
    for user in range(graph.num_users):
        own = graph.edge_index[0] == user
        size = int(own.sum())
        ranks = (rankdata(signal[own].numpy()) - 0.5) / max(size, 1)
        assert score[own].tolist() == pytest.approx(ranks.tolist())


def test_rank_within_user_by_hand():
    graph = InteractionGraph.from_data(make_data([(1, 0), (0, 0), (1, 1), (1, 2)]))
    score = torch.tensor([0.5, 0.1, 0.9, 0.5])
    assert rank_within_user(score, graph).tolist() == [2, 1, 1, 3]


def test_labels_ratings_and_held_out_pairs_change_no_bit():
    data = random_data()
    bare = train_only(data)
    data[EDGE].edge_rating = torch.rand(data[EDGE].edge_index.size(1))
    data[EDGE].test_edge_label_index = torch.tensor([[0], [0]])
    signals = {"a": popularity_signal(InteractionGraph.from_data(data))}
    assert torch.equal(audit(signals, data).score, audit(signals, bare).score)
    assert audit(signals, bare).measures == {}
    assert audit(signals, bare).gain is None
    assert set(bare[EDGE].keys()) == {"edge_index"}
    noisy, _ = inject(data, ratio=0.2)
    again, _ = inject(bare, ratio=0.2)
    assert torch.equal(noisy[EDGE].edge_index, again[EDGE].edge_index)


# Measuring.


def test_areas_by_hand():
    # scores high to low: noise, clean, noise, clean. Of 2 * 2 pairs 3 are in order;
    # precision at the noise is 1/1 and 2/3
    data = make_data([(0, 0), (1, 1), (2, 2), (3, 3)], noise=[1, 0, 1, 0])
    result = audit({"a": torch.tensor([4.0, 3.0, 2.0, 1.0])}, data)
    pooled = result.measures["a"]["pooled"]
    assert pooled.auroc.value == pytest.approx(3 / 4)
    assert pooled.average_precision.value == pytest.approx((1 + 2 / 3) / 2)
    assert result.measures["combined"]["pooled"] == pooled
    assert result.best_signal == "a"
    assert result.gain == (0, 0, 0)


def test_ties_count_one_half():
    # one value for all: no order, and whoever is shown is shown with all others
    data = make_data([(0, 0), (0, 1), (0, 2), (0, 3)], noise=[1, 0, 0, 0])
    pooled = audit({"a": torch.zeros(4)}, data).measures["a"]["pooled"]
    assert pooled.auroc == (0.5, 0.5, 0.5)
    assert pooled.average_precision == (0.25, 0.25, 0.25)


def test_within_users_leaves_out_who_has_one_kind():
    # user 0: in order (1), user 1: in reverse (0), user 2: clean only
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    data = make_data(pairs, noise=[1, 0, 1, 0, 0, 0])
    signal = torch.tensor([0.9, 0.1, 0.2, 0.3, 5.0, 6.0])
    within = audit({"a": signal}, data).measures["a"]["within users"]
    assert within.auroc.value == pytest.approx(1 / 2)
    assert within.average_precision.value == pytest.approx((1 + 1 / 2) / 2)


@given(st.integers(0, 10_000), st.integers(1, 30))
def test_areas_are_those_of_scikit_learn(seed: int, num_values: int):
    data = random_data(12, 9, seed)
    noise = data[EDGE].edge_is_noise
    if noise.all() or not noise.any():
        return
    generator = torch.Generator().manual_seed(seed)
    signal = torch.randint(num_values, noise.shape, generator=generator).float()
    measures = audit({"a": signal}, data, num_resamples=2).measures["a"]
    graph = InteractionGraph.from_data(data)
    groups = {
        "pooled": np.zeros(len(noise)),
        "within users": graph.edge_index[0].numpy(),
        "within popularity deciles": popularity_decile(graph),
    }
    for scope, group in groups.items():
        parts = [group == g for g in np.unique(group)]
        parts = [p for p in parts if 0 < noise[p].sum() < p.sum()]
        for measure, area in (
            (measures[scope].auroc, roc_auc_score),
            (measures[scope].average_precision, average_precision_score),
        ):
            values = [area(noise[p], signal[p]) for p in parts]
            expected = np.mean(values) if values else np.nan
            assert measure.value == pytest.approx(expected, nan_ok=True)


def test_deciles_hold_whole_items_and_a_tenth_each(graph):
    decile = popularity_decile(graph)
    degree = graph.degree("item")[graph.edge_index[1]].numpy()
    for item in range(graph.num_items):
        assert len(set(decile[graph.edge_index[1].numpy() == item])) <= 1
    assert all(
        degree[decile == d].max() <= degree[decile == d + 1].min() for d in range(9)
    )
    sizes = np.bincount(decile, minlength=10)
    assert abs(sizes - graph.num_edges / 10).max() <= degree.max()


def test_within_deciles_only_the_mixed_one_counts():
    # items 0 to 99 with 1 to 100 users each; the rarer 70 are noise
    pairs = [(user, item) for item in range(100) for user in range(item + 1)]
    data = make_data(pairs, noise=[item < 70 for _, item in pairs])
    signal = popularity_signal(InteractionGraph.from_data(data))
    measures = audit({"popularity": signal}, data).measures["popularity"]
    assert measures["pooled"].auroc.value == 1
    # nine deciles hold one kind only; where both meet, items still differ
    assert measures["within popularity deciles"].auroc.value == 1
    flat = audit({"a": torch.zeros(len(pairs))}, data).measures["a"]
    assert [flat[scope].auroc.value for scope in SCOPES] == [0.5] * 3


def naive_interval(
    data: HeteroData, score: torch.Tensor, size: int, seed: int
) -> tuple[float, float]:
    """Resample users one by one, copy their interactions, measure."""
    user, noise = data[EDGE].edge_index[0].numpy(), data[EDGE].edge_is_noise.numpy()
    num_users = len(np.unique(user))
    drawn = np.random.default_rng(seed).integers(num_users, size=(size, num_users))
    values = []
    for users in drawn:
        edges = np.concatenate([np.flatnonzero(user == u) for u in users])
        values.append(roc_auc_score(noise[edges], score.numpy()[edges]))
    return tuple(np.quantile(values, (0.025, 0.975)))


def test_interval_is_that_of_copied_users():
    data = random_data(30, 20)  # fewer interactions than quantiles: nothing is merged
    score = torch.rand(
        data[EDGE].edge_index.size(1), generator=torch.Generator().manual_seed(0)
    )
    estimate = audit({"a": score}, data, num_resamples=50, seed=3)
    auroc = estimate.measures["a"]["pooled"].auroc
    assert auroc[1:] == pytest.approx(naive_interval(data, score, 50, 3))
    assert auroc.low < auroc.value < auroc.high
    again = audit({"a": score}, data, num_resamples=50, seed=3)
    assert again.measures == estimate.measures


def test_gain_of_two_halves_of_the_truth():
    data = random_data(200, 60)
    noise = data[EDGE].edge_is_noise.double()
    generator = torch.Generator().manual_seed(0)
    signals = {
        name: noise + 2 * torch.randn(noise.shape, generator=generator).double()
        for name in ("one", "other")
    }
    result = audit(signals, data)
    assert result.gain.low > 0.02  # two independent looks see more than one
    best = result.measures[result.best_signal]["pooled"].auroc.value
    combined = result.measures["combined"]["pooled"].auroc.value
    assert result.gain.value == pytest.approx(combined - best)
    for scope in SCOPES:
        estimate = result.measures["combined"][scope].auroc
        assert 0.5 < estimate.low < estimate.value < estimate.high < 1


# Injected noise.


def test_injected_pairs_are_new_and_counted():
    data = random_data()
    graph = InteractionGraph.from_data(data)
    noisy, injected = inject(data, ratio=0.25, seed=1)
    pairs = noisy[EDGE].edge_index
    assert torch.equal(pairs[:, ~injected], graph.edge_index)
    assert not bool(graph.contains(*pairs[:, injected]).any())
    wanted = graph.num_edges / 3
    assert 0.8 * wanted < int(injected.sum()) <= round(wanted)
    assert torch.unique(pairs, dim=1).size(1) == pairs.size(1)


def test_weights_find_the_signal_that_knows():
    injected = torch.arange(400) % 5 == 0
    generator = torch.Generator().manual_seed(0)
    signals = {
        "blind": torch.rand(400, generator=generator),
        "knows": injected + torch.rand(400, generator=generator),
        "wrong way": -(injected + torch.rand(400, generator=generator)),
    }
    weights = fit_weights(signals, make_data([(i, 0) for i in range(400)]), injected)
    assert weights["knows"] > 0.9
    assert weights["wrong way"] == 0
    assert sum(weights.values()) == pytest.approx(1)


def test_weights_are_those_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    generator = torch.Generator().manual_seed(0)
    injected = torch.rand(300, generator=generator) < 0.3
    signals = {
        name: injected + spread * torch.randn(300, generator=generator)
        for name, spread in (("sharp", 1.0), ("dull", 2.0))
    }
    ranks = [(rankdata(s.numpy()) - 0.5) / 300 for s in signals.values()]
    model = LogisticRegression(C=1 / (300 * 1e-3), tol=1e-8)
    weight = model.fit(np.stack(ranks, 1), injected).coef_[0]
    data = make_data([(i, 0) for i in range(300)])
    fitted = list(fit_weights(signals, data, injected).values())
    assert fitted == pytest.approx((weight / weight.sum()).tolist(), abs=1e-3)


# Refusals.


def test_rank_within_user_refuses_another_length():
    graph = InteractionGraph(torch.tensor([[0, 1], [0, 1]]), 2, 2)
    with pytest.raises(ValueError, match=r"per interaction, 2 .*\[3\]\)"):
        rank_within_user(torch.zeros(3), graph)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"signals": {}}, "'signals' must not be empty"),
        ({"signals": {"a": torch.zeros(3)}}, "one value per interaction, 4"),
        ({"signals": {"a": torch.full((4,), torch.nan)}}, "'a' is nan at interaction"),
        ({"weights": {"b": 1.0}}, "must be for the signals a (got 'b')"),
        ({"weights": {"a": 0.0}}, "must be >= 0 and not all 0"),
        ({"weights": {"a": -1.0}}, "must be >= 0 and not all 0"),
        ({"within_users": ["b"]}, "'within_users' must be among a (got 'b')"),
        ({"num_resamples": 1}, "'num_resamples' must be >= 2 (got 1)"),
    ],
)
def test_audit_refuses(change, message):
    data = make_data([(0, 0), (0, 1), (1, 0), (1, 1)], noise=[1, 0, 0, 1])
    arguments = {"signals": {"a": torch.arange(4.0)}, "data": data} | change
    with pytest.raises(ValueError, match=re.escape(message)):
        audit(**arguments)


def test_inject_and_fit_refuse():
    data = make_data([(0, 0), (0, 1)])
    with pytest.raises(ValueError, match=r"'ratio' must lie in \(0, 1\) \(got 1\)"):
        inject(data, ratio=1)
    with pytest.raises(ValueError, match="must have room for noise"):
        inject(data)  # the only user has every item
    four = make_data([(i, 0) for i in range(4)])
    with pytest.raises(ValueError, match="must mark some interactions and not all"):
        fit_weights({"a": torch.arange(4.0)}, four, torch.ones(4).bool())
    injected = torch.tensor([True, True, False, False])
    with pytest.raises(ValueError, match="must tell injected pairs"):
        fit_weights({"a": torch.arange(4.0)}, four, injected)
