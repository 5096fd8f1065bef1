"""Ideal items of some users are rows of those of all."""

from __future__ import annotations

import torch

from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.scale.ideal import IdealItems


def test_some_users_are_rows_of_the_whole(made):
    ideal = IdealItems(made.world.folder, made.weights, seed=4)
    graph = InteractionGraph.from_data(made.data)
    generator = torch.Generator().manual_seed(4)
    whole = made.ddrm(*made.emb, graph, generator=generator).user
    assert torch.equal(ideal.of_users(0), whole[:8192])
    assert torch.equal(ideal.of_users(1), whole[8192:])
    some = torch.tensor([7, 3, 8000])
    torch.testing.assert_close(ideal.of_users(0, some), whole[some])


def test_the_mean_of_all_interactions(made):
    ideal = IdealItems(made.world.folder, made.weights, seed=0)
    seen = InteractionGraph.from_data(made.data, splits=("train", "val", "test"))
    torch.testing.assert_close(ideal.mean_seen, seen.mean_item(made.emb.item))


def test_an_empty_history_starts_from_the_fallback(made):
    ideal = IdealItems(made.world.folder, made.weights, seed=0)
    history = InteractionGraph(torch.tensor([[0, 0], [1, 2]]), 2, 40)
    table, fallback = made.emb.item, torch.ones(10)
    starts = torch.stack([table[[1, 2]].mean(0), fallback])
    expected = made.ddrm.generate(starts, noise=torch.zeros(2, 10))
    torch.testing.assert_close(ideal.of_histories(history, table, fallback), expected)
