import csv
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddrm_pyg.datasets._delimited import (
    read_bare_csv,
    read_delimited,
    read_inter,
    read_ratings_dat,
)
from ddrm_pyg.transforms.core import EDGE

COLUMNS = {"user": "user", "item": "item", "rating": None, "time": None}


def raw_ids(data, kind):
    ids = data[kind].raw_id
    return ids.tolist() if isinstance(ids, torch.Tensor) else ids


def same(one, other):
    for kind in ("user", "item"):
        assert raw_ids(one, kind) == raw_ids(other, kind)
    for key, value in one[EDGE].items():
        assert torch.equal(value, other[EDGE][key])


IDS = st.one_of(
    st.integers(-20, 20).map(str),
    st.text('ab,"\n 0', min_size=1).filter(str.strip),
    st.from_regex(r"[ \t\n+-]?[+-]?0?[0-7][ \t\n]?", fullmatch=True),
)
ROWS = st.tuples(IDS, IDS, st.sampled_from([1, 2.5, 5]), st.integers(0, 2**40))


@given(rows=st.lists(ROWS, min_size=1, max_size=30), size=st.integers(1, 200))
def test_reading_in_blocks_equals_reading_at_once(tmp_path_factory, rows, size):
    path = tmp_path_factory.mktemp("blocks") / "r.csv"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("user", "item", "rating", "time"), *rows])
    path.write_text(text.getvalue())
    whole = read_delimited(path, COLUMNS).to_data()
    same(read_delimited(path, COLUMNS, size=size).to_data(), whole)
    first = dict.fromkeys((user, item) for user, item, _, _ in rows)
    pairs = whole[EDGE].edge_index.T.tolist()
    user, item = (list(map(str, raw_ids(whole, kind))) for kind in ("user", "item"))
    assert [(user[u], item[i]) for u, i in pairs] == [*first]


@pytest.mark.parametrize("size", [5, 1 << 20])
def test_lines_are_counted_across_blocks(tmp_path, size):
    path = tmp_path / "r.csv"
    path.write_text('user,item,rating\n\n1,"a\nb",3\n\n\n2,c,x\n')
    with pytest.raises(ValueError, match=r"^r\.csv:7: column 'rating' is 'x'"):
        read_delimited(path, COLUMNS, size=size)


def test_recbole_header_is_typed(tmp_path):
    path = tmp_path / "ml.inter"
    path.write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\tw:float_seq\n"
        "196\t242\t3.0\t881250949.0\t1 2\n007\ta,b\t4.5\t5\t\n"
    )
    data = read_inter(path, COLUMNS).to_data()
    assert data["user"].raw_id == ["007", "196"]
    assert data["item"].raw_id == ["242", "a,b"]
    assert data[EDGE].edge_rating.tolist() == [3, 4.5]
    assert data[EDGE].edge_time.tolist() == [881250949, 5]


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("user_id\titem_id", "r.inter:1: header field 'user_id' must be name:token"),
        ("user_id:int\titem_id:token", "header field 'user_id:int' must be"),
        ("user_id:token,item_id:token", "no column 'user' .there are 'user_id:t"),
        ("u:token\titem_id:token", "r.inter:1: no column 'user'"),
    ],
)
def test_other_inter_headers_are_refused(tmp_path, header, told):
    path = tmp_path / "r.inter"
    path.write_text(f"{header}\n1\t2\n")
    with pytest.raises(ValueError, match=told):
        read_inter(path, COLUMNS)


def test_tables_without_a_header(tmp_path):
    path = tmp_path / "ratings.dat"
    path.write_text("1::2::3::4\n1::5::3::9\n")
    dat = read_ratings_dat(path, {}).to_data()
    bare = tmp_path / "bare.csv"
    bare.write_text("2,3,4,1\n5,3,9,1\n")
    same(read_bare_csv(bare, ["item", "rating", "time", "user"]).to_data(), dat)
    with pytest.raises(ValueError, match="no column names to choose 'uid' from"):
        read_ratings_dat(path, {"user": "uid"})
