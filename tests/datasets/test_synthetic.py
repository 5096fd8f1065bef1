import hashlib

import pytest
import torch

from ddrm_pyg.datasets import synthetic
from ddrm_pyg.datasets.synthetic import SyntheticInteractions

EDGE = ("user", "interacts", "item")
SMALL = (60, 100, 1400)


@pytest.fixture(scope="module", params=[(0, True), (1, True), (0, False)])
def default(request):
    seed, moving = request.param
    return SyntheticInteractions(seed=seed, moving=moving)


@pytest.fixture(scope="module")
def moving():
    return SyntheticInteractions(1000, 320, 40_000, seed=2)[0]


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
    assert 0.61 <= auroc(popularity[item], ~store.edge_is_noise) <= 0.66
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


def test_still_world_has_its_old_bits():
    store = SyntheticInteractions(*SMALL, moving=False)[0][EDGE]
    values = torch.stack([*store.edge_index, store.edge_time, store.edge_rating.long()])
    digest = hashlib.sha256(values.numpy().tobytes()).hexdigest()
    assert digest == "5ac7c10ddf236e0036712b6f9e5c2b4e4a094495ffb05a3515eaf03a5a0883b4"


def test_seasons_begin_and_fade():
    season = synthetic._seasons(4000, torch.Generator().manual_seed(0))
    assert season.shape == (4000, 12)
    assert torch.allclose(season.mean(1), torch.ones(4000, dtype=torch.float64))
    always = (season == 1).all(1)
    assert float(always.double().mean()) == pytest.approx(0.3, abs=0.03)
    before, after = season[~always, :-1], season[~always, 1:]
    assert (after[before > 0] > 0).all()  # what came out stays
    faded = (before / after)[before > 0].log()
    assert torch.allclose(faded, torch.full_like(faded, 1 / 5))
    first = (season[~always] > 0).double().argmax(1)
    assert torch.bincount(first).double().div(len(first)).sub(1 / 12).abs().max() < 0.03


def test_tastes_last_for_a_while():
    """What is still the same l clicks later: 6 / (6 + l), and chance."""
    truth = synthetic._plant(
        400, 640, 8, synthetic.MOVING, torch.Generator().manual_seed(0)
    )
    user = torch.arange(400).repeat_interleave(300)
    shelf, aisle = synthetic._runs(truth, user, torch.Generator().manual_seed(1))
    led = shelf < 8
    assert float(led.double().mean()) == pytest.approx(0.8, abs=0.01)
    assert (aisle[~led] == -1).all()
    assert set(aisle[led].tolist()) == set(range(8))
    same = {}
    for lag in (1, 10, 299):
        pair = led[:-lag] & led[lag:] & (user[:-lag] == user[lag:])
        here = (shelf[:-lag] == shelf[lag:]) & (aisle[:-lag] == aisle[lag:])
        same[lag] = float(here[pair].double().mean())
    chance = same[299]
    for lag in (1, 10):
        stays = 6 / (6 + lag)
        assert same[lag] == pytest.approx(stays + (1 - stays) * chance, abs=0.05)


def test_an_aisle_is_picked_from_in_proportion():
    table = torch.tensor([[1.0, 1, 2, 4, 4, 4, 2, 2] * 2, [1.0] * 16]).double()
    share = table / table.sum(1, keepdim=True)
    row = torch.tensor([0, 0, 1]).repeat_interleave(20_000)
    aisle = torch.tensor([3, -1, 7]).repeat_interleave(20_000)
    item = synthetic._pick_in_aisle(
        share.cumsum(1), row, aisle, torch.Generator().manual_seed(0)
    )
    first, whole, last = item.split(20_000)
    assert set(first.tolist()) == {6, 7}  # 8 aisles of 2 columns
    assert set(last.tolist()) == {14, 15}
    drawn = whole.bincount(minlength=16) / 20_000
    assert torch.allclose(drawn, share[0].float(), atol=0.01)


def test_clicks_of_a_moment_share_an_aisle(moving):
    user, item = moving[EDGE].edge_index
    aisle = item * 8 // 320
    near = user[1:] == user[:-1]
    shared = float((aisle[1:] == aisle[:-1])[near].double().mean())
    far = user[50:] == user[:-50]
    later = float((aisle[50:] == aisle[:-50])[far].double().mean())
    assert shared > 1.5 * later


@pytest.mark.parametrize("moves", [True, False])
def test_popularity_moves_with_the_year(moves):
    data = SyntheticInteractions(1000, 320, 40_000, seed=2, moving=moves)[0]
    user, item = data[EDGE].edge_index
    quarter = (data[EDGE].edge_time - synthetic.FIRST_DAY) * 4 // (365 * 86_400)
    count = [
        item[(quarter == q) & (user % 2 == half)].bincount(minlength=320).double()
        for q in (0, 3)
        for half in (0, 1)
    ]
    within = torch.cosine_similarity(count[0], count[1], dim=0)
    across = torch.cosine_similarity(count[0], count[3], dim=0)
    if moves:
        assert across < 0.65 * within
    else:
        assert across == pytest.approx(float(within), abs=0.05)


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
