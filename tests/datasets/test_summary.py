import pytest
import torch
from torch_geometric.data import HeteroData

from ddrm_pyg.datasets.summary import plot_degrees, summarize
from ddrm_pyg.transforms.core import EDGE


@pytest.fixture
def labelled():
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 2, 5
    data[EDGE].edge_index = torch.tensor([[0, 0, 1], [0, 1, 1]])
    data[EDGE].edge_time = torch.tensor([7, -1, 9])
    data[EDGE].edge_rating = torch.tensor([5.0, 0.0, 2.5])
    data[EDGE].edge_is_noise = torch.tensor([False, False, True])
    data[EDGE].val_edge_label_index = torch.zeros(2, 0, dtype=torch.long)
    data[EDGE].test_edge_label_index = torch.tensor([[1], [4]])
    data[EDGE].test_edge_rating = torch.tensor([5.0])
    return data


def test_counts_by_hand(labelled):
    record = summarize(labelled)
    assert record.pop("noise") == {"train": pytest.approx(1 / 3)}
    assert record == {
        "users": 2,
        "items": 5,
        "interactions": 4,
        "train": 3,
        "val": 0,
        "test": 1,
        "density": 0.4,
        "time": [7, 9],
        "ratings": {"2.5": 1, "5": 2},
    }


@pytest.mark.parametrize(
    ("last", "unit"),
    [
        (99_999_999, None),
        (978300019, "s"),
        (1577836800.25, "s"),
        (1577836800123, "ms"),
        (1577836800123456, "us"),
        (1577836800123456789, "ns"),
    ],
)
def test_the_unit_of_times_is_told_by_their_size(labelled, last, unit):
    labelled[EDGE].edge_time = torch.tensor([0, -1, last]).to(torch.tensor(last).dtype)
    if isinstance(last, float):
        labelled[EDGE].edge_time = torch.tensor([0, -1, last], dtype=torch.float64)
    record = summarize(labelled)
    assert record["time"] == [0, last]
    assert record.get("time_unit") == unit


def test_unsplit_data_without_anything_else(data):
    del data[EDGE].val_edge_label_index, data[EDGE].test_edge_label_index
    assert summarize(data) == {
        "users": 3,
        "items": 4,
        "interactions": 3,
        "train": 3,
        "density": 0.25,
    }


def test_many_ratings_are_counted_in_bins(labelled):
    labelled[EDGE].edge_index = torch.zeros(2, 100, dtype=torch.long)
    labelled[EDGE].edge_rating = torch.arange(1, 101).float()
    labelled[EDGE].edge_time = torch.arange(100)
    labelled[EDGE].edge_is_noise = torch.zeros(100, dtype=torch.bool)
    ratings = summarize(labelled)["ratings"]
    assert next(iter(ratings)) == "1 to 10.9"
    assert list(ratings.values()) == [11, *[10] * 9]


def test_degrees_are_drawn(labelled, tmp_path):
    plot_degrees(labelled, tmp_path / "d.png")
    assert (tmp_path / "d.png").read_bytes().startswith(b"\x89PNG")
