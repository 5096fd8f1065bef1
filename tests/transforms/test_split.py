import itertools
import math
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from ddrm_pyg.transforms import HoldOutValidation, TemporalSplit
from ddrm_pyg.transforms import split as split_module
from ddrm_pyg.transforms.core import EDGE, get_block, take
from ddrm_pyg.transforms.split import check_ratios, count_ties, order_by_user


def make_data(pairs, num_users, num_items, **attributes):
    data = HeteroData()
    data["user"].num_nodes = num_users
    data["item"].num_nodes = num_items
    data[EDGE].edge_index = torch.tensor(pairs).T.reshape(2, -1)
    for name, value in attributes.items():
        data[EDGE][f"edge_{name}"] = torch.tensor(value)
    return data


def items_of(data, split):
    return get_block(data, split)["index"][1].tolist()


def one_user(num_items, **attributes):
    return make_data([[0, i] for i in range(num_items)], 1, num_items, **attributes)


def test_pairs_in_order_are_split_as_if_they_had_times():
    pairs = [[1, 3], [0, 0], [0, 4], [1, 1], [0, 2], [0, 1], [1, 0], [1, 2]]
    one, other = make_data(pairs, 2, 5), make_data(pairs, 2, 5, time=[*range(8)])
    one[EDGE].in_order = True
    for data in (one := TemporalSplit()(one), TemporalSplit()(other)):
        assert items_of(data, "train") == [0, 4, 2, 3, 1, 0]
        assert items_of(data, "test") == [1, 2]
    assert one[EDGE].in_order is True


def test_a_random_order_is_no_order():
    assert "in_order" not in TemporalSplit()(one_user(10))[EDGE]


def test_a_column_is_let_go_before_the_next_is_cut(monkeypatch):
    data = one_user(10, time=[*range(10)])
    time = weakref.ref(data[EDGE].edge_time)
    alive = []

    def watch(value, pick, dtype):
        alive.append((value.dim(), time() is not None))
        return take(value, pick, dtype)

    monkeypatch.setattr(split_module, "take", watch)
    TemporalSplit().forward(data)
    assert alive == [(1, True)] * 3 + [(2, False)] * 3


def test_temporal_split_cuts_by_time_and_carries_attributes():
    time = [90, 80, 70, 60, 50, 40, 30, 20, 10, 0]  # item 9 came first
    rating = [float(t) for t in time]
    data = one_user(10, time=time, rating=rating)
    out = TemporalSplit((0.7, 0.1, 0.2))(data)

    assert items_of(out, "train") == [9, 8, 7, 6, 5, 4, 3]
    assert items_of(out, "val") == [2]
    assert items_of(out, "test") == [1, 0]
    assert out[EDGE].edge_time.tolist() == [0, 10, 20, 30, 40, 50, 60]
    assert out[EDGE].test_edge_rating.tolist() == [80.0, 90.0]
    assert items_of(data, "train") == list(range(10))
    assert get_block(data, "test") == {}


def test_temporal_split_in_the_order_of_the_published_ml_1m():
    data = one_user(10, time=list(range(10)))
    out = TemporalSplit((0.7, 0.1, 0.2), order=("train", "test", "val"))(data)

    assert items_of(out, "test") == [7, 8]
    assert items_of(out, "val") == [9]


def test_temporal_split_keeps_the_order_of_ties():
    out = TemporalSplit((0.5, 0.0, 0.5))(one_user(4, time=[1, 1, 1, 1]))
    assert items_of(out, "train") == [0, 1]
    assert items_of(out, "test") == [2, 3]


def test_false_positives_go_to_train_up_to_its_end_and_later_ones_to_validation():
    # Liked at 1 2 3 (train), 5 (val), 7 (test); disliked at 0, 2, 4, 6, 8.
    time = [1, 2, 3, 5, 7, 0, 2, 4, 6, 8]
    noise = [False] * 5 + [True] * 5
    data = one_user(10, time=time, is_noise=noise)
    out = TemporalSplit((0.6, 0.2, 0.2))(data)

    assert items_of(out, "train") == [5, 0, 1, 6, 2]
    assert out[EDGE].edge_is_noise.tolist() == [True, False, False, True, False]
    assert items_of(out, "val") == [7, 3, 8, 9]
    assert out[EDGE].val_edge_is_noise.tolist() == [True, False, True, True]
    assert items_of(out, "test") == [4]
    assert out[EDGE].test_edge_is_noise.tolist() == [False]


def test_false_positives_of_a_user_who_liked_nothing_go_to_train():
    pairs = [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]
    noise = [False, False, False, True, True]
    data = make_data(pairs, 2, 3, time=[0, 1, 2, 3, 4], is_noise=noise)
    out = TemporalSplit()(data)
    assert get_block(out, "train")["index"].T.tolist() == [*pairs[:2], *pairs[3:]]


# By hand: test = round(.2 n), >= 1 from n = 3; train = round(.7 n); val the rest.
@pytest.mark.parametrize(
    ("num_liked", "sizes"),
    [
        (3, [2, 0, 1]),
        (4, [3, 0, 1]),
        (5, [4, 0, 1]),
        (7, [5, 1, 1]),
        (10, [7, 1, 2]),
        (15, [11, 1, 3]),
        (100, [70, 10, 20]),
    ],
)
def test_block_sizes(num_liked, sizes):
    out = TemporalSplit()(one_user(num_liked, time=list(range(num_liked))))
    assert [len(items_of(out, split)) for split in ("train", "val", "test")] == sizes


def test_users_with_one_or_two_liked_items_have_one_to_train_on():
    pairs = [[0, 0], [1, 0], [1, 1], [2, 0], [2, 1], [2, 2]]
    out = TemporalSplit((0.1, 0.0, 0.9))(make_data(pairs, 3, 3, time=[0] * 6))
    assert get_block(out, "train")["index"].tolist() == [[0, 1, 2], [0, 0, 0]]
    assert get_block(out, "test")["index"].tolist() == [[1, 2, 2], [1, 1, 2]]


def test_without_time_the_split_is_random_and_seeded():
    first, again, other = (TemporalSplit(seed=seed)(one_user(50)) for seed in (1, 1, 2))
    assert items_of(first, "test") == items_of(again, "test")
    assert items_of(first, "test") != items_of(other, "test")
    blocks = [items_of(first, split) for split in ("train", "val", "test")]
    assert sorted(itertools.chain(*blocks)) == list(range(50))


@pytest.mark.parametrize("far", [10, 2**62])
def test_order_by_user_sorts_moments_within_users(far):
    user = torch.tensor([1, 0, 1, 0, 1])
    moment = torch.tensor([far, -5, -far, -5, 0])
    assert order_by_user(user, moment).tolist() == [1, 3, 2, 4, 0]
    assert order_by_user(user[:0], moment[:0]).tolist() == []


@pytest.mark.parametrize(
    "dtype", [torch.int16, torch.int32, torch.int64, torch.float32, torch.float64]
)
def test_order_by_user_takes_moments_of_any_type(dtype):
    draw = torch.Generator().manual_seed(0)
    user = torch.randint(40, (5000,), generator=draw)
    moment = torch.randint(-20_000, 20_000, (5000,), generator=draw).to(dtype)
    naive = sorted(range(5000), key=lambda e: (user[e].item(), moment[e].item()))
    assert order_by_user(user, moment).tolist() == naive


@pytest.mark.parametrize("few", [1, 7, 10_000])
@pytest.mark.parametrize("latest", [50, 2**60])
def test_pairs_are_looked_at_few_at_a_time(monkeypatch, few, latest):
    monkeypatch.setattr(split_module, "_FEW", few)
    draw = torch.Generator().manual_seed(0)
    user = torch.randint(9, (300,), generator=draw)
    time = torch.randint(20, (300,), generator=draw)
    time[0] = latest
    order = order_by_user(user, time)
    naive = sorted(range(300), key=lambda e: (user[e].item(), time[e].item()))
    assert order.tolist() == naive
    assert order.dtype == torch.int32
    counted = split_module._count_ties_in(user[order], time, order)
    assert counted == count_ties(user[order], time[order])


def test_a_split_without_test_pairs_is_refused():
    with pytest.raises(ValueError, match="leaves no test pairs"):
        TemporalSplit()(one_user(1))
    with pytest.raises(ValueError, match="leaves no test pairs"):
        TemporalSplit()(one_user(3, is_noise=[True, True, True]))
    alone = two_moments()  # nobody whom train knows comes back
    with pytest.raises(ValueError, match=r"no test pairs: .* that train does not have"):
        TemporalSplit((0.5, 0.0, 0.5), scope="global")(alone)


def two_moments():
    """User 0 takes three items at one moment, and user 1 at a later one."""
    data = one_user(6)
    data["user"].num_nodes = 2
    data[EDGE].edge_index[0, 3:] = 1
    data[EDGE].edge_time = torch.tensor([5, 5, 5, 9, 9, 9])
    return data


def test_an_order_that_is_mostly_that_of_the_rows_is_said(caplog):
    TemporalSplit()(two_moments())
    assert caplog.messages == [
        "100 % of users' interactions have the time of the one before: these are taken "
        "in the order of the rows"
    ]
    caplog.clear()
    half = two_moments()
    half[EDGE].edge_time = torch.tensor([5, 5, 6, 7, 9, 9])  # one tie of two, each
    TemporalSplit()(half)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("ratios", "message"),
    [
        ((0.5, 0.5), "three shares"),
        ((0.9, -0.1, 0.2), "three shares"),
        ((float("nan"), 0.5, 0.5), "three shares"),
        ((0.7, 0.1, 0.1), "sum to 1"),
        ((0.9, 0.1, 0.0), "a train and a test share"),
    ],
)
def test_check_ratios_refuses(ratios, message):
    with pytest.raises(ValueError, match=message):
        check_ratios(ratios)


def test_order_must_name_each_block():
    with pytest.raises(ValueError, match="'order' must name"):
        TemporalSplit(order=("train", "test", "test"))


def test_hold_out_validation_takes_a_rounded_share_of_each_user():
    # Shares of .1: 20 -> 2, 15 -> 1.5 -> 2, 4 -> 0.4 -> 0.
    counts = [20, 15, 4]
    pairs = [[u, i] for u, n in enumerate(counts) for i in range(n)]
    data = make_data(pairs, 3, 20, rating=[float(i) for _, i in pairs])
    out = HoldOutValidation(0.1, seed=0)(data)

    val = get_block(out, "val")
    assert torch.bincount(val["index"][0], minlength=3).tolist() == [2, 2, 0]
    assert val["rating"].tolist() == val["index"][1].tolist()
    together = torch.cat([out[EDGE].edge_index, val["index"]], dim=1).T.tolist()
    assert sorted(together) == pairs
    again = HoldOutValidation(0.1, seed=0)(data)
    assert torch.equal(again[EDGE].edge_index, out[EDGE].edge_index)
    with pytest.raises(ValueError, match="a validation split already"):
        HoldOutValidation()(out)


def test_hold_out_validation_refuses_a_share_outside_0_1():
    with pytest.raises(ValueError, match=r"'share' must lie in \(0, 1\) \(got 1\)"):
        HoldOutValidation(1)


def test_repr_states_every_setting():
    assert repr(TemporalSplit(seed=3)) == (
        "TemporalSplit(ratios=(0.7, 0.1, 0.2), order=('train', 'val', 'test'), seed=3)"
    )
    assert repr(HoldOutValidation()) == "HoldOutValidation(share=0.1, seed=0)"


def at(*events, users=3, items=4):
    """Unsplit interactions of (user, item, time, liked)."""
    user, item, time, liked = zip(*events, strict=True)
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = users, items
    data[EDGE].edge_index = torch.tensor([user, item])
    data[EDGE].edge_time = torch.tensor(time)
    data[EDGE].edge_is_noise = ~torch.tensor(liked)
    return data


def test_one_moment_parts_everyones_past_from_the_future(caplog):
    data = at(
        (0, 0, 50, True),  # the 5th of ten: train
        (0, 1, 10, True),
        (0, 2, 90, True),  # test
        (1, 1, 20, True),
        (1, 0, 70, False),  # a false positive of validation
        (1, 2, 100, False),  # one of test: left out
        (2, 3, 95, True),  # an item and a user that train does not have
        (0, 0, 30, True),
        (1, 2, 40, True),
        (1, 0, 60, True),
    )
    split = TemporalSplit((0.6, 0.1, 0.3), scope="global")
    with caplog.at_level("WARNING", "ddrm_pyg"):
        out = split(data)
    store = out[EDGE]
    assert store.edge_index.T.tolist() == [
        [0, 1],
        [0, 0],
        [0, 0],
        [1, 1],
        [1, 2],
        [1, 0],
    ]
    assert store.edge_time.tolist() == [10, 30, 50, 20, 40, 60]
    assert store.val_edge_label_index.T.tolist() == [[1, 0]]
    assert store.val_edge_is_noise.tolist() == [True]
    assert store.test_edge_label_index.T.tolist() == [[0, 2]]
    assert "1 held-out interactions of 1 users that train does not have" in caplog.text
    assert "1 held-out interactions of 1 items that train does not have" in caplog.text
    assert "noise after the last 30 % began is left out: 1 interactions" in caplog.text
    assert repr(split).endswith("scope='global')")


@given(st.integers(0, 999), st.integers(12, 60))
def test_no_later_interaction_is_trained_on(seed, count):
    generator = torch.Generator().manual_seed(seed)
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 3, 4
    data[EDGE].edge_index = torch.stack(
        [torch.randint(n, (count,), generator=generator) for n in (3, 4)]
    )
    data[EDGE].edge_time = torch.randperm(count, generator=generator)
    store = TemporalSplit(scope="global")(data)[EDGE]
    blocks = [store.edge_time, store.val_edge_time, store.test_edge_time]
    assert blocks[0].numel() == math.floor(0.7 * count + 0.5 + 1e-9)
    assert blocks[0].max() < min(block.min() for block in blocks[1:] if len(block))
    if len(blocks[1]) and len(blocks[2]):
        assert blocks[1].max() < blocks[2].min()


def test_a_global_split_needs_times_and_the_order_of_time():
    data = at((0, 0, 5, True), (0, 1, 5, True), (1, 2, 5, True))
    with pytest.raises(ValueError, match="needs 'edge_time' that tells interactions"):
        TemporalSplit(scope="global")(data)
    del data[EDGE]["edge_time"]
    with pytest.raises(ValueError, match="scope='user' does without"):
        TemporalSplit(scope="global")(data)
    with pytest.raises(ValueError, match=r"'order' must be .* with scope='global'"):
        TemporalSplit(order=("train", "test", "val"), scope="global")
    with pytest.raises(ValueError, match="'scope' must be one of"):
        TemporalSplit(scope="world")
