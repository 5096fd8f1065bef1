from math import log2
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from ddrm_pyg import (
    Embeddings,
    InteractionGraph,
    LightGCN,
    evaluate,
    ranking,
    recommend,
)
from ddrm_pyg.datasets import load_interactions
from ddrm_pyg.nn.conv import light_propagate
from ddrm_pyg.nn.models import EASE, ItemKNN, Popularity

EDGE = ("user", "interacts", "item")
ATTRIBUTE = {
    "train": "edge_index",
    "val": "val_edge_label_index",
    "test": "test_edge_label_index",
}
ML_1M = Path(__file__).parents[2] / "shared" / "data" / "ml-1m"
SECOND = 1 / log2(3)  # discount of the second place


class Table:
    """A scorer whose scores are written out; a copy, as ranking overwrites them."""

    def __init__(self, rows):
        self.table = torch.as_tensor(rows, dtype=torch.float32)

    def scores(self, user):
        return self.table[user]

    @classmethod
    def of_orders(cls, orders):
        """Each row lists the items from the best to the worst."""
        return cls([[-order.index(i) for i in range(len(order))] for order in orders])


def make_data(num_users, num_items, **pairs):
    data = HeteroData()
    data["user"].num_nodes = num_users
    data["item"].num_nodes = num_items
    for split in ATTRIBUTE:
        index = torch.tensor(pairs.get(split, []), dtype=torch.int64).view(-1, 2).T
        data[EDGE][ATTRIBUTE[split]] = index
    return data


@pytest.fixture
def world():
    """Three users with test items, and user 3 who only makes items popular."""
    return make_data(
        4,
        6,
        train=[(0, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 3), (3, 5)],
        val=[(0, 1)],
        test=[(0, 2), (0, 5), (1, 0), (1, 3), (1, 4), (2, 2)],
    )


ORDERS = [
    [0, 1, 5, 3, 2, 4],  # shown at test: 5 3 2 4; held out: 2 5
    [1, 2, 3, 5, 0, 4],  # shown at test: 2 3 5 0 4; held out: 0 3 4
    [5, 4, 3, 2, 1, 0],  # shown at test: 5 4 3 2; held out: 2
    [0, 1, 2, 3, 4, 5],
]
WRITTEN = Table.of_orders(ORDERS)


def test_metrics_are_the_fractions_worked_by_hand(world):
    metrics = evaluate(WRITTEN, world, k=(2, 3))
    per_user = {
        "recall@2": [1 / 2, 1 / 3, 0],
        "recall@3": [2 / 2, 1 / 3, 0],
        "ndcg@2": [1 / (1 + SECOND), SECOND / (1 + SECOND), 0],
        "ndcg@3": [(1 + 1 / 2) / (1 + SECOND), SECOND / (1 + SECOND + 1 / 2), 0],
    }
    for name, values in per_user.items():
        assert metrics.per_user[name].tolist() == pytest.approx(values), name
        assert metrics[name] == pytest.approx(sum(values) / 3), name


def test_every_users_values_are_a_frame(world):
    metrics = evaluate(WRITTEN, world, k=2)
    frame = metrics.to_frame()
    assert list(frame.columns) == ["user", "recall@2", "ndcg@2", "popularity@2"]
    assert frame["user"].tolist() == metrics.user.tolist()
    assert frame["recall@2"].tolist() == pytest.approx([1 / 2, 1 / 3, 0])


def test_coverage_and_popularity_are_those_worked_by_hand(world):
    metrics = evaluate(WRITTEN, world, k=(1, 2))
    # shown at 1: 5, 2, 5; at 2: 5 3, 2 3, 5 4. Items 3 and 5 have one train user each.
    assert metrics["coverage@1"] == pytest.approx(2 / 6)
    assert metrics["coverage@2"] == pytest.approx(4 / 6)
    assert metrics.per_user["popularity@1"].tolist() == [1, 0, 1]
    assert metrics.per_user["popularity@2"].tolist() == [1, 1 / 2, 1 / 2]
    assert metrics["popularity@2"] == pytest.approx(2 / 3)


def test_val_hides_train_only_and_test_hides_train_and_val(world):
    # user 0 likes 0 (train) best, then 1 (val), then 5 (test)
    assert evaluate(WRITTEN, world, split="val", k=(1,))["recall@1"] == 1
    at_test = evaluate(WRITTEN, world, k=(1,)).per_user["recall@1"]
    assert at_test[0] == 1 / 2


def test_exclude_replaces_what_the_split_hides(world):
    nothing = InteractionGraph(torch.empty(2, 0, dtype=torch.int64), 4, 6)
    shown = evaluate(WRITTEN, world, k=(2,), exclude=nothing)
    # shown: 0 1 | 1 2 | 5 4, no hit at all
    assert shown["recall@2"] == 0
    assert shown["coverage@2"] == pytest.approx(5 / 6)


def test_a_repeated_held_out_pair_counts_once_and_a_seen_one_is_said(world, caplog):
    once = evaluate(WRITTEN, world, k=(2,))
    world[EDGE].test_edge_label_index = world[EDGE].test_edge_label_index.repeat(1, 2)
    assert dict(evaluate(WRITTEN, world, k=(2,))) == dict(once)
    world[EDGE].test_edge_label_index = torch.tensor([[0, 0], [2, 1]])
    assert not caplog.messages
    assert evaluate(WRITTEN, world, k=(6,))["recall@6"] == 1 / 2
    said = "1 of 2 test pairs are pairs of an earlier split"
    assert said in caplog.text
    assert "(the first: user 0, item 1)" in caplog.text


def test_users_without_held_out_items_are_left_out_of_the_mean(world):
    assert evaluate(WRITTEN, world).user.tolist() == [0, 1, 2]
    at_val = evaluate(WRITTEN, world, split="val")
    assert at_val.user.tolist() == [0]
    assert at_val["recall@10"] == 1


def naive_metrics(table, pairs, hidden, split, k):
    """Recall and NDCG of each user with held-out items, one user at a time."""
    recall, ndcg = [], []
    for user, row in enumerate(table.tolist()):
        liked = {i for u, i in pairs[split] if u == user}
        if not liked:
            continue
        seen = {i for name in hidden for u, i in pairs[name] if u == user}
        ranked = sorted(set(range(len(row))) - seen, key=lambda i: -row[i])[:k]
        gains = [1 / log2(r + 2) for r, i in enumerate(ranked) if i in liked]
        ideal = [1 / log2(r + 2) for r in range(min(k, len(liked)))]
        recall.append(len(gains) / len(liked))
        ndcg.append(sum(gains) / sum(ideal))
    return recall, ndcg


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_users=st.integers(1, 8),
    num_items=st.integers(1, 12),
    k=st.integers(1, 15),
    chunk_size=st.sampled_from([1, 3, None]),
    split=st.sampled_from(["val", "test"]),
)
def test_metrics_equal_a_naive_loop(seed, num_users, num_items, k, chunk_size, split):
    draw = np.random.default_rng(seed)
    place = draw.integers(4, size=(num_users, num_items))
    place[0, 0] = 1 if split == "val" else 2  # at least one held-out pair
    pairs = {
        name: [(int(u), int(i)) for u, i in np.argwhere(place == at)]
        for at, name in enumerate(ATTRIBUTE)
    }
    table = draw.permuted(np.tile(np.arange(num_items), (num_users, 1)), axis=1)
    data = make_data(num_users, num_items, **pairs)
    metrics = evaluate(Table(table), data, split=split, k=(k,), chunk_size=chunk_size)
    hidden = ("train",) if split == "val" else ("train", "val")
    recall, ndcg = naive_metrics(table, pairs, hidden, split, k)
    assert metrics.per_user[f"recall@{k}"].tolist() == pytest.approx(recall)
    assert metrics.per_user[f"ndcg@{k}"].tolist() == pytest.approx(ndcg)
    assert metrics[f"recall@{k}"] == pytest.approx(np.mean(recall))


def random_world(num_users=150, num_items=97, seed=0):
    draw = np.random.default_rng(seed)
    place = draw.integers(12, size=(num_users, num_items))  # a twelfth for each split
    pairs = {name: np.argwhere(place == at) for at, name in enumerate(ATTRIBUTE)}
    return make_data(num_users, num_items, **pairs)


RANDOM = Table(np.random.default_rng(1).normal(size=(150, 97)))


@pytest.mark.parametrize("chunk_size", [1, 64, 4096])
@pytest.mark.parametrize("width", [1, 7, 64, 100])
def test_chunk_size_changes_no_bit(width, chunk_size):
    data = random_world()
    torch.manual_seed(width)
    emb = Embeddings(torch.randn(150, width), torch.randn(97, width))
    whole, cut = (evaluate(emb, data, chunk_size=c) for c in (None, chunk_size))
    assert dict(whole) == dict(cut)
    for name, value in whole.per_user.items():
        assert torch.equal(value, cut.per_user[name]), name
    seen = InteractionGraph.from_data(data)
    user = torch.randperm(150)
    lists = [
        recommend(emb, user, k=20, exclude=seen, chunk_size=c)
        for c in (None, chunk_size)
    ]
    assert torch.equal(lists[0][0], lists[1][0])
    assert torch.equal(lists[0][1], lists[1][1])


@pytest.mark.parametrize("model", [ItemKNN(), ItemKNN(5), EASE(10.0), Popularity()])
def test_chunk_size_changes_no_bit_of_a_yardstick(model):
    data = random_world()
    scorer = model.scorer(InteractionGraph.from_data(data))
    values = [dict(evaluate(scorer, data, chunk_size=c)) for c in (None, 1, 64)]
    assert values[0] == values[1] == values[2]


def test_per_user_values_average_to_the_means():
    metrics = evaluate(RANDOM, random_world())
    for name, value in metrics.per_user.items():
        assert value.shape == metrics.user.shape
        assert metrics[name] == pytest.approx(value.double().mean().item(), abs=1e-12)


def test_shards_of_users_add_up_to_the_whole():
    data = random_world()
    whole = evaluate(RANDOM, data)
    shards = []
    for part in range(3):
        shard = data.clone()
        held_out = data[EDGE].test_edge_label_index
        shard[EDGE].test_edge_label_index = held_out[:, held_out[0] % 3 == part]
        shards.append(evaluate(RANDOM, shard))
    assert sorted(torch.cat([s.user for s in shards]).tolist()) == whole.user.tolist()
    for name in whole.per_user:
        total = sum(shard[name] * len(shard.user) for shard in shards)
        assert total / len(whole.user) == pytest.approx(whole[name], abs=1e-12), name


def test_the_order_of_k_does_not_matter_and_a_repeated_k_counts_once():
    data = random_world()
    metrics = evaluate(RANDOM, data, k=(20, 5, 20))
    assert dict(metrics) == dict(evaluate(RANDOM, data, k=(5, 20)))
    assert all(len(v) == len(metrics.user) for v in metrics.per_user.values())


def test_seen_items_never_come_back():
    data = random_world()
    seen = InteractionGraph.from_data(data, splits=("train", "val", "test"))
    # whatever was seen scores highest
    table = torch.randn(150, 97)
    table[seen.edge_index[0], seen.edge_index[1]] += 100
    user = torch.arange(150)
    score, item = recommend(Table(table), user, k=50, exclude=seen)
    assert not seen.contains(user.repeat_interleave(50), item.flatten()).any()
    assert (score < 50).all()
    assert recommend(Table(table), user, k=1)[0].min() > 50


def test_recommend_lists_the_best_items_in_order():
    score, item = recommend(WRITTEN, torch.tensor([2, 0]), k=3)
    assert item.tolist() == [[5, 4, 3], [0, 1, 5]]
    assert score.tolist() == [[0, -1, -2], [0, -1, -2]]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    extra=st.integers(0, 300),
    k=st.integers(1, 3),
    levels=st.sampled_from([3, 50, None]),
    hidden=st.floats(0, 1),
)
def test_large_catalogues_are_ranked_like_small_ones(seed, extra, k, levels, hidden):
    draw = torch.Generator().manual_seed(seed)
    num_items = 8 * 128 * k + extra  # from here on blocks are looked at
    scores = torch.randn(5, num_items, generator=draw)
    if levels:  # ties, also at the end of the lists
        scores = (scores * levels).round() / levels
    is_seen = torch.rand(5, num_items, generator=draw) < hidden
    is_seen[0] = True
    seen = InteractionGraph(is_seen.nonzero().T, 5, num_items)
    score, item = recommend(Table(scores), torch.arange(5), k=k, exclude=seen)
    masked = scores.masked_fill(is_seen, -torch.inf)
    expected = masked.topk(k, dim=1)
    assert torch.equal(score, expected.values)
    padded = torch.nn.functional.pad(masked, (0, 1), value=-torch.inf)
    assert torch.equal(padded.gather(1, item), score)
    if not levels:
        missing = expected.values == -torch.inf
        assert torch.equal(item, expected.indices.masked_fill(missing, num_items))
    assert all(
        len(set(row)) == len(row) for row in item[1:].tolist() if max(row) < num_items
    )


@pytest.mark.parametrize("block", [1, 7, 64, 96])
@pytest.mark.parametrize("k", [1, 20, 120])
def test_blocks_of_items_give_the_lists_of_the_whole(block, k, monkeypatch):
    data = random_world()
    seen = InteractionGraph.from_data(data)
    # whole numbers have exact products: what is compared is the merging
    draw = torch.Generator().manual_seed(k)
    user, item = (
        torch.randint(-99, 99, (n, 6), generator=draw).float() for n in (150, 97)
    )
    item[:, 0] += torch.arange(97) / 128  # and few ties
    emb = Embeddings(user, item)
    whole = recommend(emb, torch.arange(150), k=k, exclude=seen)
    monkeypatch.setattr(ranking, "_ITEMS", block)
    score, listed = recommend(emb, torch.arange(150), k=k, exclude=seen)
    assert torch.equal(score, whole[0])
    distinct = torch.ones_like(score, dtype=torch.bool)
    distinct[:, 1:] &= score[:, 1:] != score[:, :-1]
    distinct[:, :-1] &= score[:, :-1] != score[:, 1:]
    assert torch.equal(listed[distinct], whole[1][distinct])
    padded = torch.nn.functional.pad(emb.scores(torch.arange(150)), (0, 1))
    real = listed < 97
    assert torch.equal(padded.gather(1, listed)[real], score[real])
    assert bool((score[~real] == -torch.inf).all())
    row, hidden = seen.rows(torch.arange(150))
    shown = torch.zeros(150, 98, dtype=torch.bool).scatter(1, listed, True)
    assert not bool(shown[row, hidden].any())


def test_blocks_of_items_refuse_nan_and_another_catalogue(monkeypatch):
    monkeypatch.setattr(ranking, "_ITEMS", 10)
    emb = Embeddings(torch.ones(3, 2), torch.ones(25, 2))
    seen = InteractionGraph(torch.tensor([[0], [3]]), 3, 24)
    with pytest.raises(ValueError, match=r"the 24 items of the graph \(got 25\)"):
        recommend(emb, torch.arange(3), exclude=seen)
    emb.item[22] = torch.nan
    with pytest.raises(ValueError, match=r"must not return NaN \(user 0\)"):
        recommend(emb, torch.arange(3))


def test_a_nan_score_of_a_large_catalogue_is_refused():
    scores = torch.randn(2, 8 * 128 + 5)
    for place in (3, 8 * 128 + 2):
        table = scores.clone()
        table[1, place] = torch.nan
        with pytest.raises(ValueError, match="must not return NaN \\(user 1\\)"):
            recommend(Table(table), torch.arange(2), k=1)


def test_recommend_for_nobody_is_empty():
    score, item = recommend(WRITTEN, torch.empty(0, dtype=torch.int64), k=3)
    assert score.shape == item.shape == (0, 3)


def test_ranking_leaves_embeddings_as_they_were():
    data = random_world()
    emb = Embeddings(torch.randn(150, 8), torch.randn(97, 8, requires_grad=True))
    before = [table.detach().clone() for table in emb]
    evaluate(emb, data)
    assert all(torch.equal(a, b) for a, b in zip(emb, before, strict=True))


def test_lists_longer_than_the_candidates_end_in_num_items():
    seen = InteractionGraph(torch.tensor([[0, 0], [0, 2]]), 2, 3)
    score, item = recommend(
        Table([[3, 2, 1], [3, 2, 1]]), torch.tensor([0, 1]), k=5, exclude=seen
    )
    low = float("-inf")
    assert item.tolist() == [[1, 3, 3, 3, 3], [0, 1, 2, 3, 3]]
    assert score.tolist() == [[2, low, low, low, low], [3, 2, 1, low, low]]


def test_padding_is_never_a_hit():
    # user 0's list is padded, and the rows around hold out the first and last item
    data = make_data(
        3, 3, train=[(1, 0), (1, 1)], test=[(0, 2), (1, 1), (1, 2), (2, 0)]
    )
    table = Table([[3, 2, 1]] * 3)
    metrics = evaluate(table, data, k=(7,))
    # user 1's item 1 is in train too and cannot be shown
    assert metrics.per_user["recall@7"].tolist() == [1, 1 / 2, 1]
    assert metrics["coverage@7"] == 1
    # item 0 was clicked once, item 1 once, item 2 never; padding does not count
    assert metrics.per_user["popularity@7"].tolist() == pytest.approx([2 / 3, 0, 2 / 3])


def test_a_user_without_candidates_gets_padding_only():
    data = make_data(2, 2, train=[(0, 0), (0, 1)], test=[(0, 1), (1, 1)])
    metrics = evaluate(Table([[1, 2], [2, 1]]), data, k=(1,))
    assert metrics.per_user["recall@1"].tolist() == [0, 0]
    assert metrics.per_user["popularity@1"].tolist() == [0, 1]
    assert metrics["coverage@1"] == 1 / 2


def test_a_nan_score_is_refused_with_its_user(world):
    table = torch.randn(4, 6)
    table[2, 4] = float("nan")
    with pytest.raises(ValueError, match=r"must not return NaN \(user 2\)"):
        evaluate(Table(table), world)
    with pytest.raises(ValueError, match=r"must not return NaN \(user 2\)"):
        recommend(Table(table), torch.tensor([0, 2]), k=1)


def test_a_scorer_of_another_catalogue_is_refused(world):
    for width in (5, 7):
        with pytest.raises(ValueError, match=rf"6 items of the graph \(got {width}"):
            evaluate(Table(torch.randn(4, width)), world)


def test_a_model_in_place_of_a_scorer_is_refused_with_the_remedy(world):
    with pytest.raises(TypeError, match=r"LightGCN; pass model\.scorer\(graph\)"):
        evaluate(LightGCN(4, 6, 8), world)
    with pytest.raises(TypeError, match=r"Popularity; pass model\.scorer\(graph\)"):
        recommend(Popularity(), torch.tensor([0]))
    with pytest.raises(TypeError, match=r"'scores' \(got Tensor\)"):
        evaluate(torch.randn(4, 6), world)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "train"}, r"'split' must be 'val' or 'test' \(got 'train'\)"),
        ({"k": ()}, r"'k' must hold list lengths >= 1 \(got \(\)\)"),
        ({"k": (10, 0)}, r"'k' must be >= 1 \(got 0\)"),
        ({"chunk_size": 0}, r"'chunk_size' must be >= 1 \(got 0\)"),
    ],
)
def test_evaluate_refuses(world, arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate(WRITTEN, world, **arguments)


@pytest.mark.parametrize("k", [2.5, (10, "20"), None, "3", True])
def test_lengths_of_lists_are_integers(world, k):
    with pytest.raises(TypeError, match="'k' must be an integer, or several"):
        evaluate(WRITTEN, world, k=k)
    with pytest.raises(TypeError, match="'k' must be an integer, or several"):
        recommend(WRITTEN, torch.tensor([0]), k=k)


def test_lengths_of_lists_may_be_numpys(world):
    k = np.int64(2)
    assert dict(evaluate(WRITTEN, world, k=k)) == dict(evaluate(WRITTEN, world, k=2))


def test_an_empty_split_is_refused(world):
    del world[EDGE].val_edge_label_index
    world[EDGE].test_edge_label_index = torch.empty(2, 0, dtype=torch.int64)
    for split in ("val", "test"):
        with pytest.raises(ValueError, match=rf"must not be empty \('{split}' has no"):
            evaluate(WRITTEN, world, split=split)


@pytest.mark.parametrize(
    "user", [3, [3, 4], torch.tensor(3), torch.ones(2), torch.tensor([True, False])]
)
def test_recommend_refuses_what_is_no_row_of_users(user):
    with pytest.raises(TypeError, match=r"'user' must be a tensor of user rows, \[B\]"):
        recommend(WRITTEN, user)


def test_recommend_refuses_data_in_place_of_a_graph(world):
    message = r"'exclude' must be an InteractionGraph \(got HeteroData\)"
    with pytest.raises(TypeError, match=message):
        recommend(WRITTEN, torch.tensor([0]), exclude=world)


def test_evaluate_refuses_a_graph_in_place_of_data(world):
    message = r"'data' must be a HeteroData.*\(got InteractionGraph\)"
    with pytest.raises(TypeError, match=message):
        evaluate(WRITTEN, InteractionGraph.from_data(world))


def test_recommend_refuses_an_empty_list():
    with pytest.raises(ValueError, match=r"'k' must be >= 1 \(got 0\)"):
        recommend(WRITTEN, torch.tensor([0]), k=0)


def test_metrics_read_like_a_dictionary(world):
    metrics = evaluate(WRITTEN, world, k=(2,))
    assert set(metrics) == {"recall@2", "ndcg@2", "coverage@2", "popularity@2"}
    assert len(metrics) == 4
    assert f"recall@2: {5 / 18:.4f}" in repr(metrics)


FOUR = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")


@pytest.fixture(scope="module")
def ml_1m():
    if not ML_1M.is_dir():
        pytest.skip(f"{ML_1M} is absent")
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, 2))
    yield load_interactions(ML_1M / "natural")
    torch.set_num_threads(threads)


@pytest.mark.dataset
def test_published_lightgcn_tables_give_the_published_numbers(ml_1m):
    tables = Embeddings.load(ML_1M / "pretrained" / "lightgcn.npz")
    emb = light_propagate(tables, InteractionGraph.from_data(ml_1m), 3)
    metrics = evaluate(emb, ml_1m)
    assert len(metrics.user) == 5949
    assert [round(metrics[name], 4) for name in FOUR] == [
        0.0618,
        0.1193,
        0.0444,
        0.0652,
    ]


@pytest.mark.dataset
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Popularity(), (0.0467, 0.0896, 0.0455, 0.0604)),
        (ItemKNN(300), (0.0698, 0.1276, 0.0520, 0.0734)),
        (ItemKNN(), (0.0769, 0.1328, 0.0601, 0.0812)),
        (EASE(1000), (0.0708, 0.1344, 0.0506, 0.0742)),
    ],
    ids=repr,
)
def test_yardsticks_give_their_measured_numbers(ml_1m, model, expected):
    metrics = evaluate(model.scorer(InteractionGraph.from_data(ml_1m)), ml_1m)
    assert [metrics[name] for name in FOUR] == pytest.approx(expected, abs=2e-4)


def test_one_list_length_needs_no_tuple(data):
    scorer = Popularity().scorer(InteractionGraph.from_data(data))
    assert dict(evaluate(scorer, data, k=3)) == dict(evaluate(scorer, data, k=(3,)))


def test_negative_users_are_refused_instead_of_counting_from_the_end(data):
    scorer = Popularity().scorer(InteractionGraph.from_data(data))
    with pytest.raises(ValueError, match=r"'user' must hold rows >= 0 \(got -1\)"):
        recommend(scorer, torch.tensor([0, -1]), k=2)


def test_users_beyond_the_tables_or_the_graph_are_refused(data):
    graph = InteractionGraph.from_data(data)
    emb = Embeddings(torch.rand(2, 3), torch.rand(graph.num_items, 3))
    with pytest.raises(ValueError, match=r"'user' must hold rows < 2 \(got 2\)"):
        recommend(emb, torch.tensor([0, 2]), k=1)
    scorer, many = Popularity().scorer(graph), graph.num_users
    with pytest.raises(ValueError, match=rf"rows < {many} \(got {many}\)"):
        recommend(scorer, torch.tensor([many]), k=1, exclude=graph)


def test_embeddings_of_another_graph_are_refused(data):
    users, items = data["user"].num_nodes, data["item"].num_nodes
    with pytest.raises(ValueError, match="'user' must have one row per user"):
        evaluate(Embeddings(torch.ones(users + 1, 2), torch.ones(items, 2)), data)


def test_pairs_of_tables_and_arrays_are_ranked(data):
    emb = Embeddings(torch.randn(3, 2), torch.randn(4, 2))
    expected = evaluate(emb, data, k=2)
    arrays = Embeddings(*(table.numpy() for table in emb))
    for scorer in (tuple(emb), arrays, tuple(arrays)):
        assert dict(evaluate(scorer, data, k=2)) == dict(expected)
        assert torch.equal(
            recommend(scorer, torch.arange(3))[1], recommend(emb, torch.arange(3))[1]
        )


def test_rows_of_other_kinds_are_refused_with_the_remedy(data):
    emb = Embeddings(torch.randn(3, 2), torch.randn(4, 2))
    for user in ([0, 1], ["anna"]):
        with pytest.raises(TypeError, match="for ids of your own there is Pipeline"):
            recommend(emb, user)


def test_unknown_metrics_are_refused_with_the_nearest(world):
    metrics = evaluate(WRITTEN, world, k=2)
    with pytest.raises(KeyError, match=r"'Recall@2' .* did you mean 'recall@2'"):
        metrics["Recall@2"]
    with pytest.raises(KeyError, match="no metric 'x'"):
        metrics["x"]
    assert metrics.get("x") is None


def test_a_list_beyond_the_catalogue_is_said(data, caplog):
    emb = Embeddings(torch.randn(3, 2), torch.randn(4, 2))
    recommend(emb, torch.arange(3), k=4, exclude=InteractionGraph.from_data(data))
    assert caplog.text == ""
    recommend(emb, torch.arange(3), k=5, exclude=InteractionGraph.from_data(data))
    assert "'k' is 5, but there are 4 items" in caplog.text


def test_values_of_users_are_a_frame_in_their_own_ids(world):
    metrics = evaluate(WRITTEN, world, k=2)
    assert metrics.to_frame()["user"].tolist() == [0, 1, 2]
    world["user"].raw_id = ["a", "b", "c", "d"]
    frame = metrics.to_frame(world)
    assert frame.columns.tolist() == ["user", "recall@2", "ndcg@2", "popularity@2"]
    assert frame["user"].tolist() == ["a", "b", "c"]
    assert frame["recall@2"].tolist() == pytest.approx([1 / 2, 1 / 3, 0])
    assert "recall@2" in metrics._repr_html_()
