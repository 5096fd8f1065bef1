import sys
from datetime import date

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from torch_geometric.data import HeteroData

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


PLAIN = {
    "user": [7, 7, 3],
    "item": ["b", "a", "b"],
    "rating": [4, 5.0, 1],
    "time": [1530921600, 1531008000, 1531094400],
}
ROWS = [*zip(*PLAIN.values(), strict=True)]


@pytest.mark.parametrize(
    "source",
    [
        PLAIN,
        PLAIN | {"unused": [1]},
        {name: np.array(values, dtype=object) for name, values in PLAIN.items()},
        {name: tuple(values) for name, values in PLAIN.items()},
        {name: pd.Series(values, index=[5, 5, 9]) for name, values in PLAIN.items()},
        PLAIN | {"user": torch.tensor([7, 7, 3]), "rating": torch.tensor([4.0, 5, 1])},
        PLAIN | {"time": np.array(["2018-07-07", "2018-07-08", "2018-07-09"], "M8[D]")},
        ROWS,
        [list(row) for row in ROWS],
        np.array(ROWS, dtype=object),
        np.array(ROWS, dtype="i8, U3, f4, i8").astype(
            [("user", "i8"), ("item", "U3"), ("rating", "f4"), ("time", "i8")]
        ),
        FRAME.to_dict("records"),
    ],
)
def test_columns_and_rows_of_any_kind_are_a_table(source):
    assert_same(load_interactions(source, split=False))


def assert_same(data):
    want = load_interactions(FRAME, split=False)
    assert data["user"].raw_id.tolist() == want["user"].raw_id.tolist()
    assert data["item"].raw_id == want["item"].raw_id
    for key, value in want[EDGE].items():
        assert torch.equal(value, data[EDGE][key]), key
        assert value.dtype == data[EDGE][key].dtype, key


ARROW_TIMES = ["s", "us", "ns"]


@pytest.mark.parametrize("unit", ARROW_TIMES)
@pytest.mark.parametrize("zone", [None, "Asia/Tokyo"])
def test_arrow_tables_are_read(unit, zone):
    arrow = pytest.importorskip("pyarrow", reason="the extra [parquet] is absent")
    time = arrow.array([t * 10**9 for t in PLAIN["time"]], arrow.int64())
    time = time.cast(arrow.timestamp("ns")).cast(arrow.timestamp(unit))
    kind = arrow.timestamp(unit, zone)
    table = arrow.table({**PLAIN, "time": time.cast(kind)})
    assert_same(load_interactions(table, split=False))
    two = arrow.concat_tables([table[:1], table[1:]])
    assert_same(load_interactions(two, split=False))
    assert_same(load_interactions(two.to_reader(), split=False))
    columns = {name: two.column(name) for name in PLAIN}
    assert_same(load_interactions(columns, split=False))
    frame = two.to_pandas(types_mapper=pd.ArrowDtype)
    assert_same(load_interactions(frame, split=False))


def test_days_and_categories_of_arrow_are_read():
    arrow = pytest.importorskip("pyarrow", reason="the extra [parquet] is absent")
    table = arrow.table(
        {
            **PLAIN,
            "user": arrow.array([7, 7, 3], arrow.uint32()),
            "item": arrow.array(["b", "a", "b"]).dictionary_encode(),
            "time": [date(2018, 7, day) for day in (7, 8, 9)],
        }
    )
    assert_same(load_interactions(table, split=False))
    assert_same(
        load_interactions(table.to_pandas(types_mapper=pd.ArrowDtype), split=False)
    )


def test_polars_frames_are_read():
    pytest.importorskip("pyarrow", reason="the extra [parquet] is absent")
    polars = pytest.importorskip("polars", reason="polars is absent")
    frame = polars.DataFrame(PLAIN, strict=False)
    moments = polars.from_epoch("time", time_unit="s")
    for one in (frame, frame.with_columns(moments), frame.to_dict()):
        assert_same(load_interactions(one, split=False))


def test_without_pyarrow_an_arrow_table_names_the_extra(monkeypatch):
    class Stream:
        def __arrow_c_stream__(self, requested_schema=None):
            raise AssertionError

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"Arrow tables need pyarrow.*\[parquet\]"):
        load_interactions(Stream())


def test_pairs_without_names_say_what_they_are_taken_for(caplog):
    data = load_interactions(np.array([[5, 2], [5, 1], [4, 2]]), split=False)
    assert data["user"].raw_id.tolist() == [4, 5]
    assert data[EDGE].edge_index.tolist() == [[1, 1, 0], [1, 0, 1]]
    assert caplog.messages == ["ndarray: assumed columns user, item"]


def test_what_is_in_memory_is_not_changed():
    columns = {"user": np.array([1, 1]), "item": np.array([3, 4])}
    columns |= {"rating": np.float32([4, 5]), "time": np.array([0.5, 0.25])}
    data = load_interactions(columns, split=False)
    for name in ("index", "rating", "time"):
        data[EDGE][f"edge_{name}"].fill_(0)
    assert {name: values.tolist() for name, values in columns.items()} == {
        "user": [1, 1],
        "item": [3, 4],
        "rating": [4, 5],
        "time": [0.5, 0.25],
    }


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ([], ValueError, "list: no rows"),
        ({"user": [], "item": []}, ValueError, "dict: no rows"),
        ({"user": [1]}, ValueError, "dict: no column 'item' (there are 'user')"),
        (
            {"user": [1, 2], "item": [1]},
            ValueError,
            "dict: columns must be equally long (got {'user': 2, 'item': 1})",
        ),
        ({"user": [1], "item": [None]}, ValueError, "dict: row 0: column 'item' is"),
        ([(1, 2), (1,)], ValueError, "list: row 1 is not like row 0 (got (1,))"),
        ([{"user": 1, "item": 2}, {"user": 1, "time": 2}], ValueError, "row 1 is not"),
        (["ab"], ValueError, "list: row 0 must be a dict or a tuple (got 'ab')"),
        ([1, 2], ValueError, "list: row 0 must be a dict or a tuple (got 1)"),
        (
            [(1, 2, 3)],
            ValueError,
            "list: rows must be (user, item) or (user, item, rat",
        ),
        (np.ones((2, 2)), ValueError, "ndarray: row 0: column 'user' is '1.0', expec"),
        (np.arange(4), ValueError, "ndarray: must be rows [n, 2] (got [4])"),
        (torch.zeros(2, 9), TypeError, "(got Tensor; from_hetero takes PyG data)"),
        ((HeteroData(),) * 3, TypeError, "(got tuple of HeteroData; from_hetero takes"),
        (7, TypeError, "'source' must be a path, a DataFrame, an Arrow table, a dict"),
        (None, TypeError, "(got NoneType; "),
    ],
)
def test_what_is_no_table_is_refused(source, error, message):
    with pytest.raises(error) as refused:
        load_interactions(source, split=False)
    assert message in str(refused.value)


def test_a_frame_is_split_like_a_file():
    frame = pd.DataFrame({"u": [1] * 10, "i": range(10), "when": range(10)})
    data = load_interactions(frame, user="u", item="i", time="when")
    assert data[EDGE].test_edge_label_index[1].tolist() == [8, 9]


@pytest.mark.parametrize(
    ("frame", "message"),
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
def test_bad_frames_are_refused(frame, message):
    with pytest.raises(ValueError, match="DataFrame") as error:
        load_interactions(frame, split=False)
    assert message in str(error.value)


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
    ("matrix", "arguments", "message"),
    [
        (sparse.csr_array((2, 2)), {}, "sparse matrix: no rows"),
        (sparse.csr_array(([0.0], ([0], [1]))), {}, "value at [0, 1] is 0.0, expected"),
        (sparse.csr_array([[np.nan]]), {}, "value at [0, 0] is nan, expected"),
        (sparse.csr_array([[1j]]), {}, "values must be numbers (got complex128)"),
        (sparse.eye(3), {"user": "u"}, "'user' does not apply to a sparse matrix"),
        (sparse.eye(3), {}, "sparse matrix: the split leaves no test pairs"),
        (sparse.eye(3), {"liked_from": 4}, "'liked_from' needs a rating column"),
    ],
)
def test_bad_matrices_are_refused(matrix, arguments, message):
    with pytest.raises(ValueError, match="matrix") as error:
        load_interactions(matrix, **arguments)
    assert message in str(error.value)


def test_a_repeated_pair_is_no_rating():
    user, item = [0, 0, 1, 1, 2, 2], [1, 1, 0, 2, 1, 0]
    matrix = sparse.coo_matrix((np.ones(6), (user, item)), shape=(3, 3))
    store = load_interactions(matrix, split=False)["user", "interacts", "item"]
    pairs = sorted(map(tuple, store.edge_index.T.tolist()))
    assert pairs == [(0, 1), (1, 0), (1, 2), (2, 0), (2, 1)]
    assert "edge_rating" not in store
