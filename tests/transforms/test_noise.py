import pytest
import torch
from torch_geometric.data import HeteroData

from ddrm_pyg.transforms import NaturalNoise, RandomNoise, TemporalSplit
from ddrm_pyg.transforms.core import EDGE, get_block, set_block


def make_split(num_users=20, num_items=40, per_user=20, *, noise=False):
    """Each user has the even items: the first as time runs in train, and so on."""
    pairs = [[u, 2 * i] for u in range(num_users) for i in range(per_user)]
    data = HeteroData()
    data["user"].num_nodes = num_users
    data["item"].num_nodes = num_items
    data[EDGE].edge_index = torch.tensor(pairs).T
    data[EDGE].edge_time = torch.arange(len(pairs))
    data[EDGE].edge_rating = torch.full((len(pairs),), 5.0)
    if noise:  # a quarter of each user's timeline, spread evenly
        data[EDGE].edge_is_noise = torch.arange(len(pairs)) % 4 == 0
    return TemporalSplit((0.5, 0.25, 0.25))(data)


def rows(data, split):
    return get_block(data, split)["index"].T.tolist()


def test_natural_noise_keeps_the_stated_shares_in_their_old_order():
    data = make_split()
    out = NaturalNoise((0.5, 0.1), seed=0)(data)

    assert (len(rows(data, "train")), len(rows(data, "val"))) == (200, 100)
    assert (len(rows(out, "train")), len(rows(out, "val"))) == (100, 10)
    assert rows(out, "test") == rows(data, "test")
    time = out[EDGE].edge_time
    assert torch.equal(time, time.sort().values)
    place = torch.searchsorted(data[EDGE].edge_time, time)
    assert torch.equal(data[EDGE].edge_index[:, place], out[EDGE].edge_index)


def test_one_share_serves_both_and_seeds_repeat():
    data = make_split()
    out, again = NaturalNoise(0.3, seed=4)(data), NaturalNoise(0.3, seed=4)(data)
    assert (len(rows(out, "train")), len(rows(out, "val"))) == (60, 30)
    assert rows(out, "train") == rows(again, "train")
    assert rows(out, "train") != rows(NaturalNoise(0.3, seed=5)(data), "train")


def test_natural_noise_without_shares_restores_the_clean_sizes():
    data = make_split(noise=True)
    liked = int((~data[EDGE].edge_is_noise).sum())
    liked_val = int((~data[EDGE].val_edge_is_noise).sum())
    out = NaturalNoise(None)(data)

    assert liked < len(rows(data, "train"))
    assert len(rows(out, "train")) == liked
    assert len(rows(out, "val")) == liked_val
    assert bool(out[EDGE].edge_is_noise.any())


def test_natural_noise_refuses():
    with pytest.raises(ValueError, match=r"'keep' must lie in \(0, 1\] \(got 0\)"):
        NaturalNoise(0)
    with pytest.raises(ValueError, match="needs 'edge_is_noise'"):
        NaturalNoise(None)(make_split())
    unsplit = HeteroData({"user": {"num_nodes": 1}, "item": {"num_nodes": 1}})
    unsplit[EDGE].edge_index = torch.zeros(2, 1, dtype=torch.long)
    with pytest.raises(ValueError, match="NaturalNoise works on split"):
        NaturalNoise(0.5)(unsplit)


def test_random_noise_replaces_the_share_and_labels_it():
    data = make_split()
    out = RandomNoise(0.3, seed=0)(data)

    for split, size in (("train", 200), ("val", 100)):
        before, after = get_block(data, split), get_block(out, split)
        noise = after["is_noise"]
        assert after["index"].size(1) == size
        assert int(noise.sum()) == round(0.3 * size)
        # Every even item is observed, so all noise is odd, and nothing else moved.
        assert torch.equal(after["index"][1] % 2 == 1, noise)
        assert torch.equal(after["index"][:, ~noise], before["index"][:, ~noise])
        assert torch.equal(after["index"][0], before["index"][0])
        assert torch.equal(after["time"], before["time"])
        assert after["rating"][noise].unique().tolist() == [0.0]
        assert after["rating"][~noise].unique().tolist() == [5.0]
    assert rows(out, "test") == rows(data, "test")
    together = rows(out, "train") + rows(out, "val") + rows(out, "test")
    assert len({tuple(pair) for pair in together}) == len(together)
    assert "edge_is_noise" not in data[EDGE]


def test_random_noise_draws_unobserved_items_uniformly():
    # 1,000 users see item 0 in train, 1 in val and 2 in test; 3, 4, 5 are free.
    users = torch.arange(1000)
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 1000, 6
    data[EDGE].edge_index = torch.stack([users, users * 0])
    data[EDGE].val_edge_label_index = torch.stack([users, users * 0 + 1])
    data[EDGE].test_edge_label_index = torch.stack([users, users * 0 + 2])
    out = RandomNoise(0.9, seed=0)(data)

    count = torch.bincount(out[EDGE].edge_index[1], minlength=6).tolist()
    assert count[:3] == [100, 0, 0]
    # Binomial(900, 1/3) has a standard deviation of 14.
    assert all(abs(n - 300) < 70 for n in count[3:])


def test_random_noise_can_use_up_every_free_item():
    data = make_split(num_users=3, num_items=7, per_user=4)  # 0 2 4 6 seen, 1 3 5 free
    full = RandomNoise(0.99, seed=0)(data)
    assert get_block(full, "train")["is_noise"].all()
    drawn = rows(full, "train") + rows(full, "val")
    assert sorted(drawn) == [[u, i] for u in range(3) for i in (1, 3, 5)]


def test_random_noise_refuses():
    with pytest.raises(ValueError, match=r"'ratio' must lie in \[0, 1\) \(got 1\)"):
        RandomNoise(1)
    data = make_split(num_users=1, num_items=7, per_user=4)
    data["item"].num_nodes = 4
    for split in ("train", "val", "test"):
        set_block(data, split, {"index": get_block(data, split)["index"] // 2})
    with pytest.raises(ValueError, match="user 0 has only 0 unobserved items"):
        RandomNoise(0.5)(data)
    unsplit = HeteroData({"user": {"num_nodes": 1}, "item": {"num_nodes": 1}})
    unsplit[EDGE].edge_index = torch.zeros(2, 1, dtype=torch.long)
    with pytest.raises(ValueError, match="RandomNoise works on split"):
        RandomNoise()(unsplit)


def test_random_noise_of_nothing_changes_nothing_but_adds_labels():
    data = make_split()
    out = RandomNoise(0.0)(data)
    assert rows(out, "train") == rows(data, "train")
    assert not out[EDGE].edge_is_noise.any()


def test_repr_states_every_setting():
    assert repr(NaturalNoise((0.6, 0.5), 1)) == "NaturalNoise(keep=(0.6, 0.5), seed=1)"
    assert repr(RandomNoise(0.1)) == "RandomNoise(ratio=0.1, seed=0)"
