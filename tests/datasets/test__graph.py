import torch
from hypothesis import given
from hypothesis import strategies as st

from ddrm_pyg.datasets._graph import build_graph, warn_untrained, widen
from ddrm_pyg.transforms.core import EDGE


def pairs(*of_split):
    return {"index": torch.tensor(of_split).T}


def test_a_repeated_pair_stays_where_it_came_first(caplog):
    blocks = {
        "train": pairs((1, 2), (0, 0), (1, 2)) | {"rating": torch.tensor([5, 4, 1.0])},
        "test": pairs((0, 0), (0, 1)),
    }
    data = build_graph("x", blocks, torch.tensor([7, 8]), ["a", "b", "c"])
    assert data[EDGE].edge_index.T.tolist() == [[1, 2], [0, 0]]
    assert data[EDGE].edge_rating.tolist() == [5, 4]
    assert data[EDGE].test_edge_label_index.T.tolist() == [[0, 1]]
    assert caplog.messages == ["x: 2 duplicate pairs (each kept once, the first)"]


def test_a_repeated_pair_stays_where_it_was_earliest(caplog):
    train = pairs((0, 0), (1, 1), (0, 0), (1, 1)) | {"time": torch.tensor([5, 5, 3, 5])}
    test = pairs((0, 0), (0, 1)) | {"time": torch.tensor([1, 2])}
    data = build_graph(
        "x", {"train": train, "test": test}, torch.arange(2), torch.arange(2)
    )
    assert data[EDGE].edge_index.T.tolist() == [[1, 1], [0, 0]]  # ties: the first
    assert data[EDGE].edge_time.tolist() == [5, 3]
    assert data[EDGE].test_edge_time.tolist() == [2]  # train goes before test
    assert caplog.messages == ["x: 3 duplicate pairs (each kept once, the earliest)"]


def test_pairs_that_are_one_number_in_32_bits_are_no_repeats(caplog):
    index = torch.tensor([[0, 0, 1, 0], [5, 5 + 2**32, 7, 5]])
    data = build_graph("x", {"train": {"index": index}}, range(2), range(2**33))
    assert data[EDGE].edge_index.T.tolist() == [[0, 5], [0, 5 + 2**32], [1, 7]]
    assert caplog.messages == ["x: 1 duplicate pairs (each kept once, the first)"]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2**31 - 1)), min_size=1),
    st.sampled_from([torch.int32, torch.int64]),
)
def test_repeats_are_those_of_a_set(pairs, dtype):
    pairs = pairs + pairs[::2]
    block = {"index": torch.tensor(pairs, dtype=dtype).T}
    data = build_graph("x", {"train": block}, range(4), range(2**31))
    assert [*map(tuple, data[EDGE].edge_index.T.tolist())] == [*dict.fromkeys(pairs)]
    widen(data)
    assert data[EDGE].edge_index.dtype == torch.int64
    assert [*map(tuple, data[EDGE].edge_index.T.tolist())] == [*dict.fromkeys(pairs)]


def test_nodes_that_cannot_be_learned_are_counted(caplog):
    blocks = {"train": pairs((0, 0)), "test": pairs((1, 1), (1, 2))}
    warn_untrained("x", build_graph("x", blocks, torch.arange(2), torch.arange(3)))
    assert caplog.messages == [
        "x: 1 users have no train items",
        "x: 2 items are not in train",
    ]
