from collections import Counter

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import chisquare

from ddrm_pyg import loader
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.graph.sequences import UserSequences
from ddrm_pyg.loader import (
    RowTable,
    Triplets,
    cut_batches,
    triplet_batches,
    user_batches,
    user_row_batches,
)


def epoch(graph, batch_size=4, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return list(
        triplet_batches(graph, batch_size=batch_size, generator=generator, **options)
    )


def joined(batches):
    return Triplets(*(torch.cat(column) for column in zip(*batches, strict=True)))


def positives(batches):
    triplets = joined(batches)
    return list(zip(triplets.user.tolist(), triplets.pos_item.tolist(), strict=True))


@pytest.fixture
def graph():
    """User 0 owns 8 of 10 items, user 1 one, user 2 none, user 3 all of them."""
    owned = [(0, i) for i in range(8)] + [(1, 9)] + [(3, i) for i in range(10)]
    return InteractionGraph(torch.tensor(owned).T, 4, 10)


@given(
    graph=st.from_type(InteractionGraph),
    users=st.sampled_from(["interactions", "uniform"]),
    negatives=st.sampled_from(["uniform", "popularity"]),
    batch_size=st.integers(1, 8),
)
def test_triplets_are_a_positive_and_a_negative_of_the_user(
    graph, users, negatives, batch_size
):
    pairs = [tuple(pair) for pair in graph.edge_index.T.tolist()]
    own = [len({i for v, i in pairs if v == u}) for u in range(graph.num_users)]
    usable = [pair for pair in pairs if own[pair[0]] < graph.num_items]
    assume(usable)
    batches = epoch(graph, batch_size, users=users, negatives=negatives)
    triplets = joined(batches)
    assert triplets.user.numel() == len(usable)
    assert graph.contains(triplets.user, triplets.pos_item).all()
    assert not graph.contains(triplets.user, triplets.neg_item).any()
    assert ((triplets.neg_item >= 0) & (triplets.neg_item < graph.num_items)).all()
    if users == "interactions":
        assert sorted(positives(batches)) == sorted(usable)


def test_an_epoch_visits_each_interaction_once_in_random_order(checkerboard):
    graph = checkerboard.graph
    pairs = [tuple(pair) for pair in graph.edge_index.T.tolist()]
    visited = positives(epoch(graph, 7))
    assert Counter(visited) == Counter(pairs)
    assert len(set(visited)) == len(visited)
    assert visited != pairs


def test_users_who_own_everything_are_left_out(graph):
    assert sorted(positives(epoch(graph))) == [*((0, i) for i in range(8)), (1, 9)]
    assert set(joined(epoch(graph, users="uniform")).user.tolist()) <= {0, 1}


def test_a_repeated_pair_does_not_make_its_user_own_everything():
    graph = InteractionGraph(torch.tensor([[0, 0], [1, 1]]), 1, 2)
    triplets = joined(epoch(graph))
    assert triplets.pos_item.tolist() == [1, 1]
    assert triplets.neg_item.tolist() == [0, 0]


def test_uniform_draws_light_users_as_often_as_heavy_ones(graph):
    drawn = torch.cat(
        [joined(epoch(graph, seed=seed, users="uniform")).user for seed in range(300)]
    )
    count = torch.bincount(drawn, minlength=4)
    assert count.tolist()[2:] == [0, 0]
    assert count.sum() == 2700  # nine interactions have a negative
    assert chisquare(count[:2].numpy()).pvalue > 0.01


def test_popular_items_are_drawn_as_negatives_by_their_clicks():
    # users 0 and 1 own item 4 only; items 0 to 3 have 6, 3, 1 and 0 clicks of others
    clicks = [(0, 4), (1, 4)]
    clicks += [(2 + u, i) for i, n in enumerate([6, 3, 1]) for u in range(n)]
    graph = InteractionGraph(torch.tensor(clicks).T, 8, 5)
    triplets = [
        joined(epoch(graph, seed=seed, negatives="popularity")) for seed in range(500)
    ]
    drawn = torch.cat([t.neg_item[t.user < 2] for t in triplets])
    count = torch.bincount(drawn, minlength=5)
    assert count[3:].tolist() == [0, 0]
    assert chisquare(count[:3].numpy(), [600, 300, 100]).pvalue > 0.01


@pytest.mark.parametrize("users", ["interactions", "uniform"])
def test_only_the_last_batch_is_smaller(checkerboard, users):
    sizes = [b.user.numel() for b in epoch(checkerboard.graph, 7, users=users)]
    assert sizes == [7] * 8 + [4]
    assert [b.user.numel() for b in epoch(checkerboard.graph, 100, users=users)] == [60]


@pytest.mark.parametrize("users", ["interactions", "uniform"])
def test_drawing_in_blocks_keeps_batch_sizes_and_coverage(
    checkerboard, users, monkeypatch
):
    monkeypatch.setattr(loader, "_DRAW", 16)
    batches = epoch(checkerboard.graph, 7, users=users)
    assert [b.user.numel() for b in batches] == [7] * 8 + [4]
    if users == "interactions":
        assert len(set(positives(batches))) == 60


@pytest.mark.parametrize("users", ["interactions", "uniform"])
def test_shards_partition_every_batch(checkerboard, users):
    whole = epoch(checkerboard.graph, 8, users=users)
    shards = [
        epoch(checkerboard.graph, 8, users=users, rank=rank, world_size=3)
        for rank in range(3)
    ]
    for batch, *parts in zip(whole, *shards, strict=True):
        rows = sorted(torch.stack(batch).T.tolist())
        assert sorted(torch.stack(joined(parts)).T.tolist()) == rows
        assert (
            max(p.user.numel() for p in parts) <= min(p.user.numel() for p in parts) + 1
        )


@pytest.mark.parametrize("users", ["interactions", "uniform"])
def test_equal_generator_states_give_equal_epochs(checkerboard, users):
    first, again, other = (
        torch.stack(joined(epoch(checkerboard.graph, 7, seed, users=users)))
        for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    generator = torch.Generator().manual_seed(5)
    arguments = {"batch_size": 7, "generator": generator, "users": users}
    one, two = (
        torch.stack(joined(triplet_batches(checkerboard.graph, **arguments)))
        for _ in range(2)
    )
    assert torch.equal(one, first)
    assert not torch.equal(two, first)  # the generator has moved on


@pytest.mark.parametrize(
    "pairs", [[], [(0, 0), (0, 1)]], ids=["no edge", "only owners of everything"]
)
def test_a_graph_without_any_triplet_is_refused(pairs):
    edge_index = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).T
    with pytest.raises(
        ValueError, match="'graph' must have a user who owns some items"
    ):
        epoch(InteractionGraph(edge_index, 1, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"users": "items"}, r"'users' must be 'interactions' or 'un.*\(got 'items'\)"),
        (
            {"negatives": "hard"},
            r"'negatives' must be 'uniform' or 'popularity' \(got 'hard'\)",
        ),
        ({"batch_size": 0}, r"'batch_size' must be >= 1 \(got 0\)"),
        ({"batch_size": -3}, r"'batch_size' must be >= 1 \(got -3\)"),
        ({"rank": 2, "world_size": 2}, r"'rank' must lie in \[0, 2\) \(got 2\)"),
        ({"rank": -1, "world_size": 2}, r"'rank' must lie in \[0, 2\) \(got -1\)"),
        ({"world_size": 0}, r"'rank' must lie in \[0, 0\) \(got 0\)"),
    ],
)
def test_bad_options_are_refused(path_graph, options, message):
    with pytest.raises(ValueError, match=message):
        epoch(path_graph, **options)


def row_epoch(graph, value=None, batch_size=4, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    table = RowTable(graph, value)
    return list(
        user_row_batches(table, batch_size=batch_size, generator=generator, **options)
    )


@given(graph=st.from_type(InteractionGraph), batch_size=st.integers(1, 4))
def test_rows_are_the_users_items_each_user_once(graph, batch_size):
    assume(graph.num_edges > 0)
    matrix = torch.zeros(graph.num_users, graph.num_items)
    matrix[tuple(graph.edge_index)] = 1
    batches = row_epoch(graph, batch_size=batch_size)
    user = torch.cat([batch.user for batch in batches])
    assert sorted(user.tolist()) == graph.degree("user").nonzero().flatten().tolist()
    rows = torch.cat([batch.dense(graph.num_items) for batch in batches])
    assert torch.equal(rows, matrix[user])


@given(graph=st.from_type(InteractionGraph))
def test_values_follow_their_interactions_and_the_last_of_a_pair_counts(graph):
    value = torch.arange(1.0, graph.num_edges + 1)
    matrix = torch.zeros(graph.num_users, graph.num_items)
    for (user, item), v in zip(graph.edge_index.T.tolist(), value, strict=True):
        matrix[user, item] = v
    user = torch.arange(graph.num_users).flip(0)
    rows = RowTable(graph, value).rows(user).dense(graph.num_items)
    assert torch.equal(rows, matrix.flip(0))


def test_a_batch_writes_other_values_into_the_same_places(graph):
    rows = RowTable(graph).rows(torch.tensor([2, 1]))
    assert rows.dense(10).sum(1).tolist() == [0, 1]
    assert rows.dense(10, torch.tensor([0.5]))[1, 9] == 0.5


def test_only_the_last_batch_of_users_is_smaller(checkerboard):
    batches = row_epoch(checkerboard.graph, batch_size=5)
    assert [batch.user.numel() for batch in batches] == [5, 5, 2]


def test_shards_partition_every_batch_of_users(checkerboard):
    whole = row_epoch(checkerboard.graph, batch_size=5)
    shards = [
        row_epoch(checkerboard.graph, batch_size=5, rank=rank, world_size=2)
        for rank in range(2)
    ]
    for batch, *parts in zip(whole, *shards, strict=True):
        user = torch.cat([part.user for part in parts])
        assert sorted(user.tolist()) == sorted(batch.user.tolist())


def test_equal_generator_states_give_equal_epochs_of_users(checkerboard):
    first, again, other = (
        torch.cat([batch.user for batch in row_epoch(checkerboard.graph, seed=seed)])
        for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_rows_that_cannot_be_are_refused(path_graph):
    with pytest.raises(ValueError, match=r"'value' must have one .*, 3 \(got .*\[2\]"):
        RowTable(path_graph, torch.ones(2))
    with pytest.raises(ValueError, match=r"'batch_size' must be >= 1 \(got 0\)"):
        row_epoch(path_graph, batch_size=0)
    with pytest.raises(ValueError, match=r"'rank' must lie in \[0, 1\) \(got 1\)"):
        row_epoch(path_graph, rank=1)
    nobody = path_graph.subgraph(torch.zeros(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="'graph' must have a user with train"):
        row_epoch(nobody)


def cuts_of(lengths, num_items=40, seed=0, **options):
    pairs = [(u, i) for u, count in enumerate(lengths) for i in range(count)]
    graph = InteractionGraph(torch.tensor(pairs).T, len(lengths), num_items)
    sequences = UserSequences.from_graph(graph)
    generator = torch.Generator().manual_seed(seed)
    options = {"batch_size": 4, "generator": generator, **options}
    return list(cut_batches(sequences, **options))


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    window=st.integers(1, 12),
    cuts=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_every_cut_leaves_a_past_and_a_future(lengths, window, cuts, seed):
    assume(max(lengths) >= 3)
    batches = cuts_of(lengths, seed=seed, window=window, cuts=cuts)
    user = torch.cat([batch.user for batch in batches]).tolist()
    cut = torch.cat([batch.cut for batch in batches]).tolist()
    for u, c in zip(user, cut, strict=True):
        assert max(lengths[u] // 4, 1) <= c < lengths[u]
    expected = {
        u: min(max(n // window, 1), cuts) for u, n in enumerate(lengths) if n >= 3
    }
    assert Counter(user) == expected


def test_cuts_are_drawn_anew_and_belong_to_their_generator():
    one, same, other = (cuts_of([30, 30, 30], seed=seed) for seed in (1, 1, 2))
    assert all(
        torch.equal(a, b)
        for x, y in zip(one, same, strict=True)
        for a, b in zip(x, y, strict=True)
    )
    assert any(not torch.equal(x.cut, y.cut) for x, y in zip(one, other, strict=True))
    places = {
        int(c) for seed in range(60) for b in cuts_of([8], seed=seed) for c in b.cut
    }
    assert places == set(range(2, 8))  # uniform from n / 4 on


def test_processes_share_a_batch_of_cuts():
    whole = cuts_of([9] * 10, window=3)
    parts = [cuts_of([9] * 10, window=3, rank=r, world_size=2) for r in range(2)]
    for batch, *shares in zip(whole, *parts, strict=True):
        for k, share in enumerate(shares):
            assert torch.equal(batch.user[k::2], share.user)
            assert torch.equal(batch.cut[k::2], share.cut)


@pytest.mark.parametrize(
    ("lengths", "options", "message"),
    [
        ([2, 1], {}, r"a user with 3 train interactions or more \(got 2 at most\)"),
        ([5], {"window": 0}, r"'window' must be >= 1 \(got 0\)"),
        ([5], {"cuts": 0}, r"'cuts' must be >= 1 \(got 0\)"),
        ([5], {"batch_size": 0}, r"'batch_size' must be >= 1 \(got 0\)"),
    ],
)
def test_what_cannot_be_cut_is_refused(lengths, options, message):
    with pytest.raises(ValueError, match=message):
        cuts_of(lengths, **options)


def test_users_come_once_in_random_order_and_in_shares():
    users = torch.tensor([9, 2, 4, 7, 1])
    joined = [
        torch.cat(list(user_batches(users, batch_size=2, generator=generator)))
        for generator in (torch.Generator().manual_seed(seed) for seed in (0, 0, 1))
    ]
    assert torch.equal(joined[0].sort().values, users.sort().values)
    assert torch.equal(joined[0], joined[1])
    assert not torch.equal(joined[0], joined[2])
    shares = [
        list(
            user_batches(
                users,
                batch_size=2,
                generator=torch.Generator().manual_seed(0),
                rank=rank,
                world_size=2,
            )
        )
        for rank in range(2)
    ]
    assert [len(batch) for batch in shares[1]] == [1, 1, 0]
    mixed = torch.cat([torch.cat(pair) for pair in zip(*shares, strict=True)])
    assert torch.equal(mixed, joined[0])
