import pytest
import torch
from torch_geometric.data import HeteroData

from ddrm_pyg.transforms import KCore, RatingThreshold, TemporalSplit, compact_ids
from ddrm_pyg.transforms.core import (
    EDGE,
    empty,
    get_block,
    require_split,
    seeded,
    take,
)


def make_data(pairs, num_users, num_items, **attributes):
    data = HeteroData()
    data["user"].num_nodes = num_users
    data["item"].num_nodes = num_items
    data["user"].raw_id = [f"u{i}" for i in range(num_users)]
    data["item"].raw_id = torch.arange(num_items) + 100
    data[EDGE].edge_index = torch.tensor(pairs).T.reshape(2, -1)
    for name, value in attributes.items():
        data[EDGE][f"edge_{name}"] = torch.tensor(value)
    return data


def pairs_of(data, split="train"):
    return get_block(data, split)["index"].T.tolist()


@pytest.mark.parametrize("dtype", [None, torch.int64])
@pytest.mark.parametrize("pick", [[2, 0, 2], []])
def test_columns_are_taken_as_they_are_or_as_another_type(dtype, pick):
    index = torch.tensor([[1, 2, 3], [4, 5, 6]], dtype=torch.int32)
    columns = torch.tensor(pick, dtype=torch.int32)
    taken = take(index, columns, dtype)
    assert taken.dtype == (dtype or torch.int32)
    assert torch.equal(taken, index[:, columns].to(taken.dtype))
    assert torch.equal(take(index[0], columns, dtype), taken[0])


@pytest.mark.parametrize("dtype", [torch.bool, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("size", [(0,), (2, 0), (2, 3)])
def test_memory_of_numpy_is_of_any_type_and_size(dtype, size):
    tensor = empty(size, dtype)
    assert tensor.shape == size
    assert tensor.dtype == dtype
    assert tensor.is_contiguous()
    assert tensor.untyped_storage().nbytes() == tensor.numel() * dtype.itemsize


def test_get_block_reads_the_attributes_of_each_split_under_its_names():
    data = make_data([[0, 1]], 1, 2, time=[5])
    data[EDGE].val_edge_label_index = torch.tensor([[0], [0]])
    data[EDGE].val_edge_is_noise = torch.tensor([True])

    assert {k: v.tolist() for k, v in get_block(data, "train").items()} == {
        "index": [[0], [1]],
        "time": [5],
    }
    assert {k: v.tolist() for k, v in get_block(data, "val").items()} == {
        "index": [[0], [0]],
        "is_noise": [True],
    }
    assert get_block(data, "test") == {}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"edge_time": [5, 6]}, r"'edge_time' .* interaction, 1 \(got shape \[2\]\)"),
        ({"edge_time": [float("nan")]}, r"'edge_time' .* known .* \(got 1 NaN of 1\)"),
        ({"edge_rating": [[1.0]]}, r"'edge_rating' .* \(got shape \[1, 1\]\)"),
    ],
)
def test_get_block_refuses_values_that_do_not_fit_the_pairs(values, message):
    data = make_data([[0, 1]], 1, 2)
    for name, value in values.items():
        data[EDGE][name] = torch.tensor(value)
    with pytest.raises(ValueError, match=message):
        get_block(data, "train")
    with pytest.raises(ValueError, match=message):
        TemporalSplit()(data)


def test_seeded_generators_do_not_share_a_state():
    a, b = seeded(3), seeded(3)
    assert torch.rand(2, generator=a).tolist() == torch.rand(2, generator=b).tolist()


def test_rating_threshold_marks_only_what_lies_below():
    data = make_data([[0, 0], [0, 1], [0, 2]], 1, 3, rating=[3.5, 4.0, 5.0])
    out = RatingThreshold(4.0)(data)

    assert out[EDGE].edge_is_noise.tolist() == [True, False, False]
    assert "edge_is_noise" not in data[EDGE]


def test_rating_threshold_drops_edges_and_keeps_nodes():
    data = make_data([[0, 0], [0, 1]], 1, 3, rating=[3.0, 4.0], time=[7, 8])
    out = RatingThreshold(4.0, drop=True)(data)

    assert pairs_of(out) == [[0, 1]]
    assert out[EDGE].edge_time.tolist() == [8]
    assert out["item"].num_nodes == 3
    assert "edge_is_noise" not in out[EDGE]
    assert pairs_of(data) == [[0, 0], [0, 1]]


def test_rating_threshold_needs_ratings():
    with pytest.raises(ValueError, match="needs 'edge_rating'"):
        RatingThreshold()(make_data([[0, 0]], 1, 1))


# Users 0 and 1 share items 0 and 1 (the 2-core). Item 2 has one liked pair, without
# which user 2 has one as well. User 0 disliked item 3, user 2 disliked item 4.
CHAIN = [[0, 0], [0, 1], [1, 0], [1, 1], [2, 1], [2, 2], [0, 3], [2, 4]]
CHAIN_NOISE = [False] * 6 + [True] * 2


def test_k_core_iterates_and_keeps_false_positives_of_core_users():
    data = make_data(CHAIN, 3, 5, is_noise=CHAIN_NOISE)
    out = KCore(2)(data)

    assert pairs_of(out) == [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2]]
    assert out[EDGE].edge_is_noise.tolist() == [False] * 4 + [True]
    assert (out["user"].num_nodes, out["item"].num_nodes) == (2, 3)
    assert out["user"].raw_id == ["u0", "u1"]
    assert out["item"].raw_id.tolist() == [100, 101, 103]
    assert data["item"].num_nodes == 5
    assert pairs_of(data) == CHAIN


def test_k_core_counts_every_pair_where_nothing_is_labelled():
    out = KCore(2)(make_data(CHAIN[:6], 3, 5))
    assert pairs_of(out) == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert "edge_is_noise" not in out[EDGE]


def test_k_core_refuses_an_empty_core_and_a_bad_k():
    with pytest.raises(ValueError, match=r"KCore\(k=3\) leaves no interactions"):
        KCore(3)(make_data(CHAIN, 3, 5))
    with pytest.raises(ValueError, match=r"'k' must be >= 1 \(got 0\)"):
        KCore(0)


def test_compact_ids_counts_held_out_pairs_and_carries_node_features():
    data = make_data([[2, 1]], 4, 4)
    data[EDGE].val_edge_label_index = torch.tensor([[0], [3]])
    data["user"].x = torch.arange(4.0).unsqueeze(1)
    out = compact_ids(data)

    assert pairs_of(out) == [[1, 0]]
    assert pairs_of(out, "val") == [[0, 1]]
    assert out["user"].raw_id == ["u0", "u2"]
    assert out["user"].x.tolist() == [[0.0], [2.0]]
    assert out["item"].raw_id.tolist() == [101, 103]
    assert pairs_of(data) == [[2, 1]]
    assert data["user"].num_nodes == 4


@pytest.mark.parametrize("transform", [RatingThreshold(), KCore(1), TemporalSplit()])
def test_transforms_of_unsplit_data_refuse_a_split(transform):
    data = make_data([[0, 0]], 1, 1, rating=[5.0])
    data[EDGE].val_edge_label_index = torch.zeros(2, 0, dtype=torch.long)
    with pytest.raises(ValueError, match="works on unsplit interactions"):
        transform(data)


def test_require_split_names_what_is_missing():
    with pytest.raises(ValueError, match=r"X works on split .*'val_edge_label_index'"):
        require_split(make_data([[0, 0]], 1, 1), "X")


def test_repr_states_every_setting():
    assert repr(KCore(5)) == "KCore(k=5)"
    assert repr(RatingThreshold(3)) == "RatingThreshold(threshold=3, drop=False)"
