"""What is dropped, by what rule, and what is left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.clean import (
    as_records,
    as_table,
    choices,
    is_worth,
    noisiest,
    retrain,
    without,
)
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.ranking import METRICS, Metrics


@pytest.fixture
def graph() -> InteractionGraph:
    """User 0 with items 0 to 3, user 1 with item 0 only, user 2 with 0 and 1."""
    pairs = [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (2, 0), (2, 1)]
    return InteractionGraph(torch.tensor(pairs).T.contiguous(), 3, 4)


@pytest.fixture
def data(graph) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 3, 4
    data[EDGE].edge_index = graph.edge_index
    data[EDGE].edge_time = torch.arange(7)
    data[EDGE].edge_is_noise = torch.tensor([0, 0, 1, 1, 0, 0, 0]).bool()
    data[EDGE].val_edge_label_index = torch.tensor([[1], [1]])
    data[EDGE].test_edge_label_index = torch.tensor([[1, 2], [2, 3]])
    return data


def test_noisiest_go_and_everyone_keeps_one(graph):
    score = torch.tensor([0.1, 0.7, 0.8, 0.2, 0.9, 0.3, 0.6])
    # user 1's only interaction is the noisiest of all, and stays
    for size, dropped in ((1, [2]), (2, [1, 2]), (3, [1, 2, 6]), (4, [1, 2, 3, 6])):
        drop = noisiest(score, graph, size / 7)
        assert drop.nonzero().flatten().tolist() == dropped


def test_equal_scores_go_in_their_order(graph):
    drop = noisiest(torch.zeros(7), graph, 3 / 7)
    assert drop.nonzero().flatten().tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (0.0, r"'share' must lie in \(0, 1\) \(got 0.0\)"),
        (1.0, r"'share' must lie in \(0, 1\) \(got 1.0\)"),
        (0.05, r"between 1 and 4 of the 7 .* \(got 0.05: 0\)"),
        (0.9, r"between 1 and 4 of the 7 .* \(got 0.9: 6\)"),
    ],
)
def test_noisiest_refuses(graph, share, message):
    with pytest.raises(ValueError, match=message):
        noisiest(torch.zeros(7), graph, share)


def test_blind_rules_of_the_same_size(graph):
    drops = choices(torch.arange(7.0), graph, 2 / 7, seed=0)
    assert list(drops) == ["cleaned", "random", "popularity"]
    assert [int(drop.sum()) for drop in drops.values()] == [2, 2, 2]
    assert drops["popularity"].nonzero().flatten().tolist() == [2, 3]  # items 2 and 3
    again = choices(torch.zeros(7), graph, 2 / 7, seed=0)
    assert torch.equal(drops["random"], again["random"])
    seeds = [choices(torch.zeros(7), graph, 2 / 7, seed=s)["random"] for s in range(9)]
    assert len({tuple(drop.tolist()) for drop in seeds}) > 1


def test_without_leaves_the_rest_as_it_was(data):
    before = data.clone()
    drop = torch.tensor([1, 0, 0, 1, 0, 0, 0]).bool()
    kept = without(data, drop)
    assert kept[EDGE].edge_index.tolist() == [[0, 0, 1, 2, 2], [1, 2, 0, 0, 1]]
    assert kept[EDGE].edge_time.tolist() == [1, 2, 4, 5, 6]
    assert kept[EDGE].edge_is_noise.tolist() == [False, True, False, False, False]
    assert torch.equal(kept[EDGE].test_edge_label_index, torch.tensor([[1, 2], [2, 3]]))
    assert (kept["user"].num_nodes, kept["item"].num_nodes) == (3, 4)
    for key, value in before[EDGE].items():
        assert torch.equal(data[EDGE][key], value)


def test_retrained_on_what_is_left_and_compared(data, graph, tmp_path):
    drops = choices(torch.tensor([0.0, 0, 1, 1, 0, 0, 0]), graph, 2 / 7)
    cell = Cell("popularity")
    results = retrain(data, drops, cell, tmp_path, progress=False)
    assert len({result.folder for result in results.values()}) == 3  # two are equal
    plain, cleaned, random, popularity = as_records(results, drops, data)
    assert [r["dropped"] for r in (plain, cleaned, random)] == [0, 2, 2]
    assert (plain["noise"], cleaned["noise"]) == (None, 1.0)
    # the same interactions were dropped: no user differs
    same = cleaned["against"]["popularity"]["ndcg@20"]
    assert (same["difference"], same["p_value"], same["num_users"]) == (0, 1, 2)
    assert cleaned["ndcg@20"] == popularity["ndcg@20"]
    table = as_table([plain, cleaned, random, popularity])
    assert table.rows[1][:3] == ["cleaned", "2", "100.0%"]


def test_a_copy_is_worth_it_above_both_others_only(data, tmp_path):
    plain = retrain(data, {}, Cell("popularity"), tmp_path, progress=False)["plain"]
    user = torch.arange(100)

    def result(value, lucky=50):  # half of them find more, so that there is a spread
        values = torch.full((100,), value)
        values[:lucky] += 0.1
        return replace(plain, test=Metrics(user, {"ndcg@20": values}))

    low, high = result(0.1), result(0.1, 100)
    for cleaned, random, worth in (
        (high, low, True),
        (high, high, False),
        (low, low, False),
        (low, high, False),
    ):
        results = {"plain": low, "cleaned": cleaned, "random": random}
        assert is_worth(results) == worth


def test_table_is_as_people_see_it(golden):
    metrics = dict.fromkeys(METRICS, 0.25)
    gain = {"ndcg@20": {"relative": -0.125, "p_value": 0.0123}}
    nothing = {"ndcg@20": {"relative": None, "p_value": 0.5}}
    facts = {"dropped": 12345, "noise": 0.5, **metrics}
    rows = [
        {"name": "plain", **facts, "dropped": 0, "noise": None, "against": {}},
        {"name": "cleaned", **facts, "against": {"plain": gain}},
        {"name": "random", **facts, "against": {"plain": nothing}},
    ]
    assert as_table(rows).text() + "\n" == golden("clean.txt")


def test_what_was_dropped_stays_hidden_from_test_rankings(data, tmp_path):
    # user 2's only hit is item 3, and item 1, dropped, is more popular
    drops = {"cleaned": torch.tensor([0, 0, 0, 0, 0, 0, 1]).bool()}
    results = retrain(data, drops, Cell("popularity"), tmp_path, progress=False)
    hit = {name: r.test.per_user["ndcg@10"][-1] for name, r in results.items()}
    assert hit["cleaned"] == hit["plain"] == pytest.approx(1 / np.log2(3))
