import sys
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddrm_pyg.datasets import _parquet
from ddrm_pyg.datasets._header import is_parquet
from ddrm_pyg.datasets._memory import read_columns
from ddrm_pyg.datasets._parquet import read_parquet
from ddrm_pyg.transforms.core import EDGE

COLUMNS = {"user": "user", "item": "item", "rating": None, "time": None}


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"pip install 'ddrm_pyg\[parquet\]'"):
        read_parquet(tmp_path / "r.parquet", COLUMNS)


@pytest.fixture
def write(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra [parquet] is absent")
    parquet = pytest.importorskip("pyarrow.parquet")

    def to_file(**columns):
        path = tmp_path / "r.parquet"
        parquet.write_table(pyarrow.table(columns), path)
        return path

    return to_file


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_batches_make_one_table(write, size):
    path = write(
        user=[3, 1, 3, 2],
        note=["x"] * 4,
        item=pd.Categorical(["b", "a", "a", "c"]),
        rating=[1, 2, 3, 4.5],
        time=[datetime(2018, 7, 7, 22, 9, s, tzinfo=UTC) for s in range(4)],
    )
    data = read_parquet(path, COLUMNS, size=size).to_data()
    assert data["user"].raw_id.tolist() == [1, 2, 3]
    assert data["item"].raw_id == ["a", "b", "c"]
    assert data[EDGE].edge_index.T.tolist() == [[2, 1], [0, 0], [2, 0], [1, 2]]
    assert data[EDGE].edge_rating.tolist() == [1, 2, 3, 4.5]
    assert data[EDGE].edge_time.tolist() == [1531001340 + s for s in range(4)]


def test_one_row_group_at_a_time_is_in_memory(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra [parquet] is absent")
    path = tmp_path / "r.parquet"
    count = 200_000
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        random.integers(0, 2**60, (count, 2)), columns=["user", "item"]
    )
    frame.to_parquet(path, row_group_size=count // 20)
    usual = pyarrow.default_memory_pool()
    pool = pyarrow.proxy_memory_pool(usual)
    pyarrow.set_memory_pool(pool)
    try:
        read_parquet(path, COLUMNS)
    finally:
        pyarrow.set_memory_pool(usual)
    assert 0 < pool.max_memory() < 16 * count / 4
    assert pool.bytes_allocated() == 0


@pytest.mark.parametrize("unit", ["us", "ns"])
def test_fractions_of_a_second_are_kept(write, unit):
    time = np.array(["2020-01-01T00:00:00.9", "2020-01-01T00:00:00.1"], f"M8[{unit}]")
    path = write(user=[1, 1], item=[1, 2], time=time)
    edge_time = read_parquet(path, COLUMNS).to_data()[EDGE].edge_time
    assert edge_time.tolist() == [1577836800900, 1577836800100]


def test_days_are_times_too(write):
    path = write(user=[1], item=[2], time=[date(1970, 1, 3)])
    assert read_parquet(path, COLUMNS).to_data()[EDGE].edge_time.item() == 2 * 86400


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": [1, None]}, "r.parquet: row 1: column 'user' is 'None', expected an"),
        ({"user": [1.0, 2.0]}, "r.parquet: row 0: column 'user' is '1.0', expected an"),
        ({"user": [[1], [2]]}, "r.parquet: row 0: column 'user' is '[1]', expected"),
        (
            {"rating": ["5", "x"]},
            "r.parquet: row 1: column 'rating' is 'x', expected",
        ),
        ({"rating": [True, True]}, "r.parquet: row 0: column 'rating' is 'True'"),
        (
            {"usr": [1, 2], "user": None},
            "r.parquet: no column 'user' (there are",
        ),
    ],
)
def test_bad_values_are_refused_with_their_row(write, columns, message):
    table = {"user": [1, 2], "item": [3, 4]} | columns
    path = write(**{name: values for name, values in table.items() if values})
    with pytest.raises(ValueError, match=r"r\.parquet") as error:
        read_parquet(path, COLUMNS, size=1)
    assert message in str(error.value)


def test_gigabytes_in_a_row_group_are_refused_before_they_are_read(write, monkeypatch):
    path = write(user=["a" * 100_000] * 2, item=[1, 2], note=["b"] * 2)
    monkeypatch.setattr(_parquet, "LARGEST_CHUNK", 100_000)
    with pytest.raises(ValueError, match=r"r\.parquet: column 'user' has \d+ bytes in"):
        read_parquet(path, COLUMNS)
    read_parquet(path, COLUMNS | {"user": "note"})


def test_chunks_of_a_small_row_group_are_not_looked_at():
    """Where one is damaged, pyarrow aborts the process: no exception, no message."""

    class Group:
        total_byte_size = _parquet.LARGEST_CHUNK
        num_columns = 1

        def column(self, place):
            raise AssertionError("must not be reached")

    class Metadata:
        num_row_groups = 1

        def row_group(self, place):
            return Group()

    _parquet._check_chunks(Path("r.parquet"), Metadata(), ["user"])


def test_a_truncated_file_is_refused(write):
    path = write(user=[1], item=[2])
    whole = path.read_bytes()
    for content in (whole[:-9], whole[:50], b"PAR1", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"^r\.parquet: not a whole parquet file"):
            read_parquet(path, COLUMNS)
        assert is_parquet(path) == bool(content)


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "7", "07", " é"]), st.text("1b", min_size=1)),
        min_size=1,
    ),
    st.integers(1, 4),
)
def test_texts_coded_by_arrow_are_those_of_a_frame(tmp_path_factory, rows, size):
    pytest.importorskip("pyarrow", reason="the extra [parquet] is absent")
    frame = pd.DataFrame(rows, columns=["user", "item"])
    path = tmp_path_factory.mktemp("coded") / "x.parquet"
    frame.to_parquet(path, row_group_size=3)
    data = read_parquet(path, COLUMNS, size=size).to_data()
    expected = read_columns(frame, COLUMNS).to_data()
    for kind in ("user", "item"):
        assert list(data[kind].raw_id) == list(expected[kind].raw_id)
    assert data[EDGE].edge_index.equal(expected[EDGE].edge_index)
