from datetime import date

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from ddrm_pyg import load_interactions
from ddrm_pyg.transforms.core import EDGE

FRAME = pd.DataFrame(
    {
        "user": [7, 7, 3],
        "item": ["b", "a", "b"],
        "rating": [4, 5, 1],
        "time": pd.to_datetime(["2018-07-07", "2018-07-08", "2018-07-09"]),
    }
)


def test_a_frame_is_a_table():
    data = load_interactions(FRAME, split=False)
    assert data["user"].raw_id.tolist() == [3, 7]
    assert data["item"].raw_id == ["a", "b"]
    assert data[EDGE].edge_index.T.tolist() == [[1, 1], [1, 0], [0, 1]]
    assert data[EDGE].edge_rating.tolist() == [4, 5, 1]
    assert data[EDGE].edge_time.tolist() == [
        1530921600 + day * 86400 for day in range(3)
    ]


@pytest.mark.parametrize(
    "changed",
    [
        {"user": pd.array([7, 7, 3], dtype="Int64")},
        {"user": np.array([7, 7, 3], dtype=np.uint64)},
        {"user": ["7", "7", "3"]},
        {"item": pd.Categorical(["b", "a", "b"])},
        {"time": FRAME["time"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")},
        {"time": ["2018-07-07", "2018-07-08", "2018-07-09"]},
        {"rating": pd.array([4, 5, 1], dtype="Float32")},
        {"user": pd.Series([np.int64(7), np.int64(7), np.int8(3)], dtype=object)},
        {"item": pd.Series([*map(np.str_, "bab")], dtype=object)},
        {"rating": pd.Series([*map(np.float32, (4, 5, 1))], dtype=object)},
        {"time": [date(2018, 7, day) for day in (7, 8, 9)]},
        {"time": pd.Series([*FRAME["time"].to_numpy()], dtype=object)},
        {"time": [1530921600.0, 1531008000.0, 1531094400.0]},
    ],
)
def test_the_type_of_a_column_does_not_matter(changed):
    one = load_interactions(FRAME, split=False)
    other = load_interactions(FRAME.assign(**changed), split=False)
    assert list(one["user"].raw_id) == list(other["user"].raw_id)
    assert list(one["item"].raw_id) == list(other["item"].raw_id)
    for key, value in one[EDGE].items():
        assert value.tolist() == other[EDGE][key].tolist()


def test_a_frame_is_split_like_a_file():
    frame = pd.DataFrame({"u": [1] * 10, "i": range(10), "when": range(10)})
    data = load_interactions(frame, user="u", item="i", time="when")
    assert data[EDGE].test_edge_label_index[1].tolist() == [8, 9]


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (FRAME.iloc[:0], "DataFrame: no rows"),
        (FRAME.assign(user=[1, None, 2]), "DataFrame: row 0: column 'user' is '1.0'"),
        (FRAME.assign(item=["a", None, "b"]), "DataFrame: row 1: column 'item' is"),
        (FRAME.assign(rating=[True, False, True]), "column 'rating' is 'True'"),
        (FRAME.assign(rating=["1", "2", "x"]), "DataFrame: row 2: column 'rating' is"),
        (FRAME.rename(columns={"user": "usr"}), "DataFrame: no column 'user'"),
        (FRAME.rename(columns={"rating": "user"}), "column 'user' is there twice"),
        (FRAME.assign(time=pd.NaT), "DataFrame: row 0: column 'time' is 'NaT'"),
    ],
)
def test_bad_frames_are_refused(frame, told):
    with pytest.raises(ValueError, match="DataFrame") as error:
        load_interactions(frame, split=False)
    assert told in str(error.value)


@pytest.mark.parametrize(
    "kind", [sparse.csr_matrix, sparse.csc_array, sparse.lil_array]
)
def test_a_matrix_keeps_its_row_and_column_numbers(kind):
    matrix = kind(np.array([[0, 1, 5, 0], [0, 0, 0, 0], [2, 0, 0, 0]]))
    data = load_interactions(matrix, split=False)
    assert data["user"].raw_id.tolist() == [0, 1, 2]
    assert data["item"].raw_id.tolist() == [0, 1, 2, 3]
    assert data[EDGE].edge_index.T.tolist() == [[0, 1], [0, 2], [2, 0]]
    assert data[EDGE].edge_rating.tolist() == [1, 5, 2]


def test_a_matrix_of_ones_has_no_ratings_and_is_split():
    data = load_interactions(sparse.csr_array(np.ones((4, 10), dtype=bool)))
    assert "edge_rating" not in data[EDGE]
    assert data[EDGE].edge_index.size(1) == 28
    assert data[EDGE].test_edge_label_index.size(1) == 8


@pytest.mark.parametrize(
    ("matrix", "arguments", "told"),
    [
        (sparse.csr_array((2, 2)), {}, "sparse matrix: no rows"),
        (sparse.csr_array(([0.0], ([0], [1]))), {}, "value at [0, 1] is 0.0, expected"),
        (sparse.csr_array([[np.nan]]), {}, "value at [0, 0] is nan, expected"),
        (sparse.csr_array([[1j]]), {}, "values must be numbers (got complex128)"),
        (sparse.eye(3), {"user": "u"}, "'user' does not apply to a sparse matrix"),
        (sparse.eye(3), {}, "sparse matrix: TemporalSplit"),
        (sparse.eye(3), {"liked_from": 4}, "'liked_from' needs a rating column"),
    ],
)
def test_bad_matrices_are_refused(matrix, arguments, told):
    with pytest.raises(ValueError, match="matrix") as error:
        load_interactions(matrix, **arguments)
    assert told in str(error.value)


def test_a_repeated_pair_is_no_rating():
    user, item = [0, 0, 1, 1, 2, 2], [1, 1, 0, 2, 1, 0]
    matrix = sparse.coo_matrix((np.ones(6), (user, item)), shape=(3, 3))
    store = load_interactions(matrix, split=False)["user", "interacts", "item"]
    pairs = sorted(map(tuple, store.edge_index.T.tolist()))
    assert pairs == [(0, 1), (1, 0), (1, 2), (2, 0), (2, 1)]
    assert "edge_rating" not in store
