import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import chisquare

from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.graph.sampling import draw_negatives, draw_positives


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def owner_of(items, num_items):
    """A graph of one user."""
    edge_index = torch.stack([torch.zeros(len(items), dtype=torch.int64), items])
    return InteractionGraph(edge_index, 1, num_items)


@given(graph=st.from_type(InteractionGraph), seed=st.integers(0, 99))
def test_negatives_are_items_the_user_does_not_own(graph, seed):
    owned = [
        set(graph.rows(torch.tensor([u]))[1].tolist()) for u in range(graph.num_users)
    ]
    user = torch.tensor(
        [u for u, own in enumerate(owned) if len(own) < graph.num_items]
    )
    assume(user.numel() > 0)
    user = user.repeat(8)
    item = draw_negatives(graph, user, generator=seeded(seed))
    assert item.shape == user.shape
    for u, i in zip(user.tolist(), item.tolist(), strict=True):
        assert i in set(range(graph.num_items)) - owned[u]


def test_the_only_item_left_is_found():
    # rejection alone would need some 5000 rounds
    graph = owner_of(torch.cat([torch.arange(3777), torch.arange(3778, 5000)]), 5000)
    user = torch.zeros(4, dtype=torch.int64)
    assert draw_negatives(graph, user, generator=seeded()).tolist() == [3777] * 4


def test_a_user_who_owns_everything_is_refused():
    graph = InteractionGraph(torch.tensor([[0, 1, 1, 1], [0, 2, 0, 1]]), 2, 3)
    message = r"'user' must have an item left to draw \(user 1 owns all 3\)"
    with pytest.raises(ValueError, match=message):
        draw_negatives(graph, torch.tensor([0, 1]), generator=seeded())


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


@pytest.mark.parametrize("draw", [draw_negatives, draw_positives])
def test_draws_belong_to_their_generator(draw):
    graph = owner_of(torch.arange(0, 100, 2), 100)
    user = torch.zeros(50, dtype=torch.int64)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again = (draw(graph, user, generator=seeded(7)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, draw(graph, user, generator=seeded(8)))
    assert torch.equal(torch.get_rng_state(), before)
