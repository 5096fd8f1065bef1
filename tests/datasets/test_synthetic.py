import pytest
import torch

from ddrm_pyg.datasets.synthetic import SyntheticInteractions

EDGE = ("user", "interacts", "item")
SMALL = (60, 100, 1400)


@pytest.fixture(scope="module", params=[0, 1])
def default(request):
    return SyntheticInteractions(seed=request.param)


@pytest.fixture(scope="module")
def small():
    return SyntheticInteractions(*SMALL)


def splits(data):
    """Name, pairs, time, rating and noise label of each split."""
    store = data[EDGE]
    for name, prefix, index in (
        ("train", "", "edge_index"),
        ("val", "val_", "edge_label_index"),
        ("test", "test_", "edge_label_index"),
    ):
        values = [
            store[f"{prefix}edge_{key}"] for key in ("time", "rating", "is_noise")
        ]
        yield name, store[f"{prefix}{index}"], *values


def all_pairs(data):
    return torch.cat([pair for _, pair, *_ in splits(data)], dim=1)


def auroc(score, positive):
    """Chance that a positive scores above a negative; ties count half."""
    high = score[positive].bincount(minlength=int(score.max()) + 1).double()
    low = score[~positive].bincount(minlength=int(score.max()) + 1).double()
    wins = (high * (low.cumsum(0) - low / 2)).sum()
    return float(wins / (high.sum() * low.sum()))


def test_auroc_of_the_tests_by_hand():
    score = torch.tensor([3, 1, 1, 2])
    positive = torch.tensor([True, True, False, False])
    # (3>1) + (3>2) + (1=1)/2 + (1<2) = 2.5 of 4 pairs
    assert auroc(score, positive) == pytest.approx(2.5 / 4)


def test_sizes(default):
    data = default[0]
    assert len(default) == 1
    assert (data["user"].num_nodes, data["item"].num_nodes) == (2000, 1500)
    count = torch.tensor([pair.shape[1] for _, pair, *_ in splits(data)])
    assert count.sum() == 110_000
    train, val, test = (count / count.sum()).tolist()
    assert train == pytest.approx(0.70, abs=0.02)
    assert val == pytest.approx(0.195, abs=0.01)
    assert test == pytest.approx(0.10, abs=0.01)


def test_shape_is_that_of_natural_noise(default):
    store = default[0][EDGE]
    assert float(store.edge_is_noise.float().mean()) == pytest.approx(0.39, abs=0.01)
    item = store.edge_index[1]
    popularity = item.bincount(minlength=1500)
    assert 0.62 <= auroc(popularity[item], ~store.edge_is_noise) <= 0.66
    head = popularity.sort(descending=True).values[:150].sum() / popularity.sum()
    assert 0.45 <= float(head) <= 0.52


def test_activity_has_a_long_tail_and_everyone_has_every_split(default):
    least = {"train": 7, "val": 1, "test": 2}
    for name, pair, *_ in splits(default[0]):
        activity = pair[0].bincount(minlength=2000)
        assert activity.min() >= least[name]
        if name == "train":
            assert 0.5 <= activity.median() / activity.float().mean() <= 0.65
        if name == "val":  # "at least one" is the rare case
            assert (activity >= 3).float().mean() > 0.9


def test_noise_gathers_on_bait_on_low_quality_and_off_taste(default):
    store, truth = default[0][EDGE], default.truth
    user, item = store.edge_index
    noise = store.edge_is_noise
    match = (truth.user_taste[user] * truth.item_topic[item]).sum(1)
    assert truth.item_bait[item[noise]].mean() > truth.item_bait[item[~noise]].mean()
    quality = truth.item_quality[item]
    assert quality[noise].mean() < quality[~noise].mean() - 0.3
    assert match[noise].mean() < 0.9 * match[~noise].mean()


def test_no_pair_occurs_twice(default):
    user, item = all_pairs(default[0])
    assert item.max() < 1500
    assert (user * 1500 + item).unique().numel() == user.numel()


def test_labels_follow_ratings_and_test_is_liked(default):
    for name, _, _, rating, noise in splits(default[0]):
        assert rating.dtype == torch.float32
        assert set(rating.unique().tolist()) <= {1.0, 2.0, 3.0, 4.0, 5.0}
        assert torch.equal(noise, rating < 4)
        assert bool(noise.any()) is (name != "test")


def test_each_user_goes_by_time(default):
    """Train, then val and test; val's liked clicks come before test's."""
    last_train = torch.zeros(2000, dtype=torch.int64)
    last_liked = torch.zeros(2000, dtype=torch.int64)
    for name, (user, _), time, _, noise in splits(default[0]):
        assert time.dtype == torch.int64
        same_user = user[1:] == user[:-1]
        assert (user[1:] >= user[:-1]).all()
        assert (time[1:] > time[:-1])[same_user].all()
        assert (time > last_train[user]).all()
        assert (time > last_liked[user])[~noise].all()
        if name == "train":
            last_train.scatter_reduce_(0, user, time, reduce="amax")
        last_liked.scatter_reduce_(
            0, user[~noise], time[~noise], reduce="amax", include_self=True
        )


def test_users_click_in_sessions(default):
    store = default[0][EDGE]
    gap = store.edge_time.diff()[store.edge_index[0].diff() == 0]
    assert 0.03 <= float((gap > 3600).float().mean()) <= 0.08


def test_data_holds_no_truth_and_ids_are_not_rows(small):
    data = small[0]
    for node, count in (("user", 60), ("item", 100)):
        assert set(data[node].keys()) == {"num_nodes", "raw_id"}
        assert data[node].raw_id.dtype == torch.int64
        assert data[node].raw_id.unique().numel() == count
        assert data[node].raw_id.min() > 10_000
    assert data.edge_types == [EDGE]
    values = {"edge_time", "edge_rating", "edge_is_noise"}
    held_out = {f"{s}_{v}" for s in ("val", "test") for v in values}
    index = {"edge_index", "val_edge_label_index", "test_edge_label_index"}
    assert set(data[EDGE].keys()) == values | held_out | index
    assert data.validate()
    assert data[EDGE].num_edges == data[EDGE].edge_time.numel()


def test_same_seed_same_bits_whatever_the_threads_and_the_global_generator(small):
    threads = torch.get_num_threads()
    before = torch.get_rng_state()
    try:
        torch.set_num_threads(3)
        many = SyntheticInteractions(seed=5)
        torch.set_num_threads(1)
        one = SyntheticInteractions(seed=5)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(before, torch.get_rng_state())
    for key, value in many[0][EDGE].items():
        assert torch.equal(value, one[0][EDGE][key]), key
    for a, b in zip(many.truth, one.truth, strict=True):
        assert torch.equal(a, b)


def test_another_seed_is_another_world(small):
    other = SyntheticInteractions(*SMALL, seed=1)
    assert not torch.equal(all_pairs(small[0]), all_pairs(other[0]))


@pytest.mark.parametrize(
    "size",
    [(1, 80, 20), (1, 100, 25), (40, 80, 800), (40, 81, 810), (30, 200, 1500)],
)
def test_small_sizes(size):
    num_users, num_items, num_interactions = size
    data = SyntheticInteractions(*size, num_topics=2)[0]
    user, item = all_pairs(data)
    assert user.numel() == num_interactions
    assert (user * num_items + item).unique().numel() == user.numel()
    for _, pair, *_ in splits(data):
        assert pair[0].bincount(minlength=num_users).min() >= 1


def test_transform_is_applied_on_access():
    def mark(data):
        data.marked = True
        return data

    assert SyntheticInteractions(*SMALL, transform=mark)[0].marked


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_users": 0}, r"'num_users' must be >= 1 \(got 0\)"),
        ({"num_items": 79}, r"'num_items' must be >= 80 \(got 79\)"),
        ({"num_topics": 1}, r"'num_topics' must be >= 2 \(got 1\)"),
        (
            {"num_interactions": 39_999},
            r"'num_interactions' must be between 20 \* num_users = 40000 and "
            r"num_users \* num_items / 4 = 750000 \(got 39999\)",
        ),
        ({"num_interactions": 750_001}, r"= 750000 \(got 750001\)"),
    ],
)
def test_impossible_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SyntheticInteractions(**arguments)
