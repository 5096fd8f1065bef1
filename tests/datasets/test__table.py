from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddrm_pyg.datasets._table import Table, _Parts, _rank, objects
from ddrm_pyg.transforms.core import EDGE

COLUMNS = {role: role for role in ("user", "item", "rating", "time")}


def table_of(*blocks, **columns):
    columns = columns or {"user": "u", "item": "i"}
    table = Table("t", columns, inferred=[], typed=False)
    for number, block in enumerate(blocks):
        values = {
            role: v if isinstance(v, np.ndarray) else objects(v)
            for role, v in block.items()
        }
        table.append(values, f"block {number}, row {{}}".format)
    return table


def ids(data):
    raw = data["user"].raw_id
    return raw.tolist() if isinstance(raw, torch.Tensor) else raw


@pytest.mark.parametrize(
    ("one", "two", "raw"),
    [
        ([5, 3], [3, 4], [3, 4, 5]),
        ([5, 3], ["3", "b"], ["3", "5", "b"]),  # 3 and "3" are one
        (["5", "3"], [3], [3, 5]),
        (["a "], ["a", " a"], [" a", "a", "a "]),
        (["+7", "7"], ["-0", "0"], ["+7", "-0", "0", "7"]),
        ([2**63], ["1"], ["1", str(2**63)]),
    ],
)
def test_blocks_agree_on_ids(one, two, raw):
    blocks = ({"user": v, "item": [*range(10, 10 + len(v))]} for v in (one, two))
    assert ids(table_of(*blocks).to_data()) == raw


@given(st.lists(st.integers(-9, 9) | st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_integers_are_ranked_as_numpy_ranks_them(values):
    ids, rank = np.unique(np.array(values, dtype=np.int64), return_inverse=True)
    ours = _rank(np.array(values, dtype=np.int64))
    np.testing.assert_array_equal(ours[0], rank)
    np.testing.assert_array_equal(ours[1], ids)


def test_a_source_that_tells_numbers_from_texts_may_not_use_both_for_one_id():
    table = Table("t", {"user": "u", "item": "i"}, inferred=[])
    table.append({"user": np.array([5, 6]), "item": objects([1, "a"])}, str)
    table.append({"user": objects(["5"]), "item": objects(["b"])}, str)
    with pytest.raises(ValueError, match="t: column 'u' has the number 5 and the text"):
        table.to_data()


def test_dates_and_moments_are_seconds_in_utc():
    moment = np.array(["2018-07-07T22:09:11"], dtype="datetime64[ms]")
    for times in (
        ["2018-07-07 22:09:11"],
        ["2018-07-08T00:09:11+02:00"],
        moment,
        [1531001351],
    ):
        data = table_of({"user": [1], "item": [2], "time": times}, **COLUMNS).to_data
        with pytest.raises(ValueError, match="need at least one array"):
            data()  # no ratings were given: the table was promised four columns
        columns = {"user": "u", "item": "i", "time": "t"}
        block = {"user": [1], "item": [2], "time": times}
        assert table_of(block, **columns).to_data()[EDGE].edge_time.item() == 1531001351


def times_of(*blocks):
    table = Table("t", {"user": "u", "item": "i", "time": "t"}, inferred=[])
    start = 0
    for block in blocks:
        row = np.arange(start, start := start + len(block))
        time = block if isinstance(block, np.ndarray) else objects(block)
        table.append({"user": row, "item": row, "time": time}, "row {}".format)
    return table.to_data()[EDGE].edge_time


DAY = 1577836800  # 2020-01-01 in seconds since 1970


@pytest.mark.parametrize(
    ("blocks", "kept"),
    [
        ([np.array([5, 3], np.uint64)], [5, 3]),
        ([[2**60 + 1, str(2**60)]], [2**60 + 1, 2**60]),
        ([np.array([2.0, 3.0]), np.array([1])], [2, 3, 1]),
        ([np.array([1]), np.array([0.5])], [1.0, 0.5]),
        ([[date(2020, 1, 1), datetime(2020, 1, 2)]], [DAY, DAY + 86400]),
        ([[pd.Timestamp("2020-01-01", tz="Asia/Tokyo")]], [DAY - 9 * 3600]),
        ([[np.datetime64("2020-01-01", "D")], ["2020-01-01"]], [DAY, DAY]),
        ([np.array(["2020-01-01T00:00:00.000"], "M8[ms]")], [DAY]),
        ([["2020-01-01T00:00:00.5"], ["2020-01-01"]], [DAY * 1000 + 500, DAY * 1000]),
        ([np.array([1, 10**9], "M8[ns]"), np.array([1], "M8[s]")], [1, 10**9, 10**9]),
        ([[pd.Timestamp(7), pd.Timestamp(1000)]], [7, 1000]),
        ([["2020-01-01T00:00:00.000001Z"]], [DAY * 10**6 + 1]),
        ([["3000-01-01"]], [32503680000]),
    ],
)
def test_times_keep_their_full_precision(blocks, kept):
    time = times_of(*blocks)
    assert time.dtype == (torch.float64 if 0.5 in kept else torch.int64)
    assert time.tolist() == kept


@pytest.mark.parametrize(
    ("blocks", "kind"),
    [
        ([np.array([0.5]), np.array([2**53 + 1])], "float64"),
        ([["3000-01-01"], ["2020-01-01T00:00:00.000000001"]], r"datetime64\[ns\]"),
    ],
)
def test_times_that_no_type_holds_exactly_are_refused(blocks, kind):
    with pytest.raises(ValueError, match=f"t: times cannot .* too large for {kind}"):
        times_of(*blocks)


@given(st.lists(st.integers(0, 2**62), min_size=2, unique=True))
def test_moments_keep_their_order(numbers):
    time = times_of(np.array(numbers, "M8[ns]"))
    assert time.argsort().tolist() == np.argsort(numbers).tolist()


@pytest.mark.parametrize(
    ("role", "values", "message"),
    [
        ("user", [1, None], "block 0, row 1: column 'user' is 'None', expected an id"),
        ("user", [True], "row 0: column 'user' is 'True', expected an id"),
        ("user", np.array([1.0]), "row 0: column 'user' is '1.0', expected an id (an"),
        ("item", ["a", " "], "row 1: column 'item' is ' ', expected an id"),
        ("item", ["a\ud800"], "row 0: column 'item' is"),
        ("rating", ["1", "x"], "row 1: column 'rating' is 'x', expected a number"),
        ("rating", [1, 10**400], "row 1: column 'rating' is '1000"),
        ("rating", np.array([True]), "row 0: column 'rating' is 'True'"),
        ("time", ["2018-01-01", "x"], "row 1: column 'time' is 'x', expected a number"),
        ("time", ["today"], "row 0: column 'time' is 'today'"),
        ("time", np.array(["NaT"], "datetime64[s]"), "row 0: column 'time' is 'NaT'"),
        ("time", [date(2020, 1, 1), 5], "row 1: column 'time' is '5', expected"),
        ("time", [pd.NaT], "row 0: column 'time' is 'NaT'"),
        ("time", [True], "row 0: column 'time' is 'True', expected a number"),
        ("time", np.array([2**63], np.uint64), "row 0: column 'time' is '9223372036"),
        ("time", ["1", "2018-01-01"], "row 1: column 'time' is '2018-01-01', expected"),
    ],
)
def test_a_bad_value_is_refused_with_its_place(role, values, message):
    with pytest.raises(ValueError, match="expected") as error:
        table_of({role: values}, **COLUMNS)
    assert message in str(error.value)


def test_dates_in_one_block_forbid_numbers_in_the_next():
    blocks = {"time": ["2018-01-01"]}, {"time": np.array([5])}
    with pytest.raises(ValueError, match="block 1, row 0: column 'time' is '5'"):
        table_of(*blocks, **COLUMNS)


@pytest.mark.parametrize("role", ["rating", "time"])
def test_a_refused_column_says_how_to_read_without_it(role):
    with pytest.raises(ValueError, match=r"block 0, row 0: column '.*'") as error:
        table_of({role: ["x"]}, **COLUMNS)
    assert str(error.value).endswith(
        f"; --no-{role}, in Python {role}=False, reads without it"
    )


def test_a_refused_id_is_needed():
    with pytest.raises(ValueError, match=r"expected an id$"):
        table_of({"user": [None]}, **COLUMNS)


def test_parts_of_one_type_grow_into_one_piece():
    parts = _Parts()
    blocks = [np.arange(n, dtype=np.int32) for n in (3, 0, 50, 1)]
    for block in (*blocks, np.array([7]), np.array([8, 9])):
        parts.append(block)
    assert len(parts) == 57
    narrow, wide = parts.take()
    np.testing.assert_array_equal(narrow, np.concatenate(blocks))
    assert narrow.dtype == np.int32
    assert wide.tolist() == [7, 8, 9]
    assert len(parts) == 0
    assert parts.take() == []
