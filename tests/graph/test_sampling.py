from functools import partial

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import chisquare

from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.graph.sampling import (
    draw_candidates,
    draw_negatives,
    draw_positives,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def owner_of(items, num_items):
    """A graph of one user."""
    edge_index = torch.stack([torch.zeros(len(items), dtype=torch.int64), items])
    return InteractionGraph(edge_index, 1, num_items)


@given(
    graph=st.from_type(InteractionGraph),
    seed=st.integers(0, 99),
    negatives=st.sampled_from(["uniform", "popularity"]),
)
def test_negatives_are_items_the_user_does_not_own(graph, seed, negatives):
    owned = [
        set(graph.rows(torch.tensor([u]))[1].tolist()) for u in range(graph.num_users)
    ]
    user = torch.tensor(
        [u for u, own in enumerate(owned) if len(own) < graph.num_items]
    )
    assume(user.numel() > 0)
    user = user.repeat(8)
    item = draw_negatives(graph, user, generator=seeded(seed), negatives=negatives)
    assert item.shape == user.shape
    for u, i in zip(user.tolist(), item.tolist(), strict=True):
        assert i in set(range(graph.num_items)) - owned[u]


def test_the_only_item_left_is_found():
    # rejection alone would need some 5000 rounds
    graph = owner_of(torch.cat([torch.arange(3777), torch.arange(3778, 5000)]), 5000)
    user = torch.zeros(4, dtype=torch.int64)
    assert draw_negatives(graph, user, generator=seeded()).tolist() == [3777] * 4


@pytest.mark.parametrize("negatives", ["uniform", "popularity"])
def test_a_user_who_owns_everything_is_refused(negatives):
    graph = InteractionGraph(torch.tensor([[0, 1, 1, 1], [0, 2, 0, 1]]), 2, 3)
    message = r"'user' must have an item left to draw \(user 1 owns all 3\)"
    with pytest.raises(ValueError, match=message):
        draw_negatives(
            graph, torch.tensor([0, 1]), generator=seeded(), negatives=negatives
        )


@pytest.mark.parametrize("owned", [[], [1, 4], [0, 1, 2, 4, 5, 6, 7]])
def test_negatives_are_uniform_over_the_complement(owned):
    graph = owner_of(torch.tensor(owned, dtype=torch.int64), 10)
    user = torch.zeros(20_000, dtype=torch.int64)
    item = draw_negatives(graph, user, generator=seeded(1))
    count = torch.bincount(item, minlength=10)
    assert count[owned].sum() == 0
    free = [i for i in range(10) if i not in owned]
    assert chisquare(count[free].numpy()).pvalue > 0.01


def test_negatives_from_the_complement_are_uniform():
    # 2 of 4000 items are free, so nearly every draw outlives the rejection rounds
    items = torch.arange(4000)
    graph = owner_of(items[(items != 1000) & (items != 3000)], 4000)
    user = torch.zeros(600, dtype=torch.int64)
    item = draw_negatives(graph, user, generator=seeded(1))
    count = torch.bincount(item, minlength=4000)[[1000, 3000]]
    assert count.sum() == 600
    assert chisquare(count.numpy()).pvalue > 0.01


def test_positives_are_uniform_over_the_users_own_items():
    graph = InteractionGraph(
        torch.tensor([[2, 0, 2, 2, 0, 2, 2], [5, 1, 0, 3, 2, 1, 7]]), 4, 8
    )
    user = torch.tensor([0, 2]).repeat(10_000)
    item = draw_positives(graph, user, generator=seeded(3))
    for wanted, owned in ((0, [1, 2]), (2, [0, 1, 3, 5, 7])):
        count = torch.bincount(item[user == wanted], minlength=8)
        assert count[owned].sum() == 10_000
        assert chisquare(count[owned].numpy()).pvalue > 0.01


@pytest.mark.parametrize(
    "draw",
    [draw_negatives, draw_positives, partial(draw_negatives, negatives="popularity")],
)
def test_draws_belong_to_their_generator(draw):
    # user 0 owns the even items, user 1 all of them: something is left to be popular
    everything = torch.stack([torch.ones(100, dtype=torch.int64), torch.arange(100)])
    own = owner_of(torch.arange(0, 100, 2), 100).edge_index
    graph = InteractionGraph(torch.cat([own, everything], dim=1), 2, 100)
    user = torch.zeros(50, dtype=torch.int64)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again = (draw(graph, user, generator=seeded(7)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, draw(graph, user, generator=seeded(8)))
    assert torch.equal(torch.get_rng_state(), before)


def popular(owned, popularity):
    """Users 1, 2, ... give items their popularity; user 0 owns some of their clicks."""
    pairs = [(0, item) for item in owned]
    for item, count in enumerate(popularity):
        others = count - (item in owned)
        pairs += [(user, item) for user in range(1, others + 1)]
    edge_index = torch.tensor(pairs).T
    return InteractionGraph(edge_index, max(popularity) + 1, len(popularity))


def test_popular_negatives_follow_the_closed_form():
    graph = popular([1], [3, 1, 1, 1])
    assert graph.degree("item").tolist() == [3, 1, 1, 1]
    user = torch.zeros(20_000, dtype=torch.int64)
    item = draw_negatives(graph, user, generator=seeded(1), negatives="popularity")
    count = torch.bincount(item, minlength=4)
    assert count[1] == 0
    expected = [20_000 * share for share in (0.6, 0.2, 0.2)]
    assert chisquare(count[[0, 2, 3]].numpy(), expected).pvalue > 0.01


def test_popular_negatives_of_an_owner_of_nearly_everything_follow_it_too():
    # .98 of what is drawn collides, so that most draws outlive the rejection rounds
    graph = popular([0, 1, 2], [100, 100, 90, 4, 0, 1])
    user = torch.zeros(3000, dtype=torch.int64)
    item = draw_negatives(graph, user, generator=seeded(2), negatives="popularity")
    count = torch.bincount(item, minlength=6)
    assert count[[3, 5]].sum() == 3000
    expected = [3000 * 4 / 5, 3000 / 5]
    assert chisquare(count[[3, 5]].numpy(), expected).pvalue > 0.01


def test_owner_of_all_that_is_popular_gets_the_other_items_uniformly():
    graph = popular([0, 1], [5, 2, 0, 0, 0])
    user = torch.zeros(3000, dtype=torch.int64)
    item = draw_negatives(graph, user, generator=seeded(4), negatives="popularity")
    count = torch.bincount(item, minlength=5)
    assert count[[0, 1]].sum() == 0
    assert chisquare(count[2:].numpy()).pvalue > 0.01


def test_equal_popularity_is_uniform():
    # every item has two clicks
    pairs = torch.tensor([[0, 0, 1, 1, 1, 1, 2, 2], [0, 1, 0, 1, 2, 3, 2, 3]])
    graph = InteractionGraph(pairs, 3, 4)
    user = torch.zeros(10_000, dtype=torch.int64)
    item = draw_negatives(graph, user, generator=seeded(5), negatives="popularity")
    count = torch.bincount(item, minlength=4)
    assert count[:2].sum() == 0
    assert chisquare(count[2:].numpy()).pvalue > 0.01


def test_popular_negatives_weigh_as_popularity_on_uniform_ones():
    # E_popular[x_j] = E_uniform[d_j x_j] / E_uniform[d_j], for any x
    graph = popular([1], [6, 2, 3, 1])
    user = torch.zeros(50_000, dtype=torch.int64)
    by_popularity, uniform = (
        draw_negatives(graph, user, generator=seeded(6), negatives=negatives)
        for negatives in ("popularity", "uniform")
    )
    value = torch.tensor([1.0, 0.0, -2.0, 5.0])
    weight = graph.degree("item")[uniform].float()
    expected = (weight * value[uniform]).mean() / weight.mean()
    assert float(value[by_popularity].mean()) == pytest.approx(float(expected), abs=0.1)


def test_without_interactions_nothing_is_popular():
    graph = InteractionGraph(torch.empty(2, 0, dtype=torch.int64), 1, 3)
    user = torch.zeros(100, dtype=torch.int64)
    item = draw_negatives(graph, user, generator=seeded(), negatives="popularity")
    assert set(item.tolist()) == {0, 1, 2}


def test_unknown_negatives_are_refused(path_graph):
    message = r"'negatives' must be 'uniform' or 'popularity' \(got 'hard'\)"
    with pytest.raises(ValueError, match=message):
        draw_negatives(
            path_graph, torch.tensor([1]), generator=seeded(), negatives="hard"
        )


def test_candidates_come_by_popularity_and_none_is_left_out():
    # three of four interactions are with item 0, none with items 2 and 3
    graph = InteractionGraph(torch.tensor([[0, 1, 2, 3], [0, 0, 0, 1]]), 4, 4)
    item, log_probability = draw_candidates(graph, 40_000, generator=seeded())
    law = torch.tensor([4, 2, 1, 1]) / 8
    torch.testing.assert_close(log_probability.exp(), law[item])
    assert chisquare(torch.bincount(item, minlength=4), 40_000 * law).pvalue > 0.01
    again = draw_candidates(graph, 40_000, generator=seeded())
    assert torch.equal(again[0], item)
    assert not torch.equal(draw_candidates(graph, 40_000, generator=seeded(1))[0], item)
