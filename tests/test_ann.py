"""Approximate lists: exact where everything is looked at, honest where it is not."""

from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddrm_pyg.ann import ApproximateIndex, recall_against_exact
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.ranking import recommend

pytest.importorskip("faiss", reason="the extra [ann] is not installed")


def world(num_users=40, num_items=120, seed=0, dim=6):
    draw = torch.Generator().manual_seed(seed)
    return Embeddings(
        torch.randn(num_users, dim, generator=draw),
        torch.randn(num_items, dim, generator=draw),
    )


def seen_pairs(num_users, num_items, count, seed=0):
    draw = torch.Generator().manual_seed(seed)
    key = torch.randperm(num_users * num_items, generator=draw)[:count]
    pairs = torch.stack([key // num_items, key % num_items])
    return InteractionGraph(pairs, num_users, num_items)


@settings(max_examples=25, deadline=None)
@given(
    num_items=st.integers(1, 60),
    num_groups=st.integers(1, 8),
    k=st.integers(1, 70),
    num_seen=st.integers(0, 200),
    seed=st.integers(0, 5),
)
def test_all_groups_give_the_exact_lists(num_items, num_groups, k, num_seen, seed):
    emb = world(10, num_items, seed)
    exclude = seen_pairs(10, num_items, min(num_seen, 10 * num_items), seed)
    num_groups = min(num_groups, num_items)
    index = ApproximateIndex(emb.item, num_groups=num_groups)
    user = torch.tensor([3, 0, 9, 3])
    score, item = index.recommend(
        emb, user, k=k, exclude=exclude, num_probes=num_groups
    )
    exact_score, exact_item = recommend(emb, user, k=k, exclude=exclude)
    assert torch.equal(item, exact_item)
    torch.testing.assert_close(score, exact_score)


def test_a_user_who_knows_nearly_all_still_gets_the_rest():
    emb = world(3, 100)
    pairs = torch.stack([torch.zeros(97, dtype=torch.int64), torch.arange(97)])
    exclude = InteractionGraph(pairs, 3, 100)
    index = ApproximateIndex(emb.item, num_groups=20)
    arguments = {"k": 5, "exclude": exclude, "num_probes": 1}
    score, item = index.recommend(emb, torch.arange(3), **arguments)
    assert sorted(item[0].tolist()) == [97, 98, 99, 100, 100]
    assert score[0, 3:].tolist() == [-torch.inf] * 2
    assert (item[1:] < 100).all()


def test_fewer_probes_find_less_and_never_what_is_known():
    emb = world(200, 2000, dim=16)
    exclude = seen_pairs(200, 2000, 4000)
    user = torch.arange(200)
    exact = recommend(emb, user, k=10, exclude=exclude)[1]
    recall = []
    index = ApproximateIndex(emb.item, num_groups=40)
    for probes in (1, 8, 40):
        arguments = {"k": 10, "exclude": exclude, "num_probes": probes}
        item = index.recommend(emb, user, **arguments)[1]
        assert (item < 2000).all()
        assert not exclude.contains(user.repeat_interleave(10), item.flatten()).any()
        recall.append(recall_against_exact(item, exact, 2000))
    assert recall[0] < recall[1] < recall[2] == 1
    assert recall[0] > 10 / 2000  # by chance


def test_recall_by_hand():
    exact = torch.tensor([[1, 2, 3], [4, 5, 9]])
    lists = torch.tensor([[3, 7, 1], [9, 9, 9]])
    assert recall_against_exact(lists, exact, num_items=9) == 2 / 5


def test_same_seed_same_lists():
    emb = world(20, 500)
    both = [
        ApproximateIndex(emb.item, seed=3).recommend(
            emb, torch.arange(20), k=7, num_probes=2
        )
        for _ in range(2)
    ]
    assert torch.equal(both[0][1], both[1][1])


def test_nobody_gets_no_lists():
    emb = world(3, 100)
    score, item = ApproximateIndex(emb.item).recommend(emb, torch.arange(0), k=5)
    assert score.shape == item.shape == (0, 5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"k": 0}, r"'k' must be >= 1 \(got 0\)"),
        ({"num_probes": 0}, r"'num_probes' must be >= 1 \(got 0\)"),
        ({"user": torch.tensor([-1])}, r"rows in \[0, 2\) \(got -1 to -1\)"),
        ({"user": torch.tensor([0, 2])}, r"rows in \[0, 2\) \(got 0 to 2\)"),
        ({"emb": world(2, 6, dim=2)}, r"5 items and width 2 \(got 6 and 2\)"),
        ({"emb": world(2, 5, dim=3)}, r"5 items and width 2 \(got 5 and 3\)"),
        ({"exclude": seen_pairs(2, 6, 3)}, "6"),
        ({"exclude": seen_pairs(3, 5, 3)}, "3"),
        (
            {"emb": Embeddings(torch.full((2, 2), torch.nan), torch.randn(5, 2))},
            "'emb' must not hold NaN",
        ),
    ],
)
def test_refuses_what_does_not_fit(changed, message):
    arguments = {"emb": world(2, 5, dim=2), "user": torch.arange(2), **changed}
    index = ApproximateIndex(torch.randn(5, 2), num_groups=1)
    with pytest.raises(ValueError, match=message):
        index.recommend(arguments.pop("emb"), arguments.pop("user"), **arguments)


def test_refuses_groups_out_of_range():
    with pytest.raises(ValueError, match=r"'num_groups' must .* \(got 0\)"):
        ApproximateIndex(torch.randn(5, 2), num_groups=0)


def test_says_which_extra_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"pip install 'ddrm_pyg\[ann\]'"):
        ApproximateIndex(torch.randn(5, 2))
