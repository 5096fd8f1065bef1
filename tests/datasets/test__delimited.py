import csv
import gzip
import io
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddrm_pyg.datasets._delimited import (
    _num_characters,
    read_bare_csv,
    read_delimited,
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
    st.text('ab,"\r\n 0', min_size=1).filter(str.strip),
    st.from_regex(r"[ \t\r\n+-]?[+-]?0?[0-7][ \t\r\n]?", fullmatch=True),
)
ROWS = st.tuples(IDS, IDS, st.sampled_from([1, 2.5, 5]), st.integers(0, 2**40))


@given(rows=st.lists(ROWS, min_size=1, max_size=30), size=st.integers(1, 200))
def test_reading_in_blocks_equals_reading_at_once(tmp_path_factory, rows, size):
    path = tmp_path_factory.mktemp("blocks") / "r.csv"
    text = io.StringIO()
    writer = csv.writer(text)  # whose line end is \r\n: it quotes both
    writer.writerows([("user", "item", "rating", "time"), *rows])
    path.write_text(text.getvalue(), newline="")
    whole = read_delimited(path, COLUMNS).to_data()
    same(read_delimited(path, COLUMNS, size=size).to_data(), whole)
    first = dict.fromkeys((user, item) for user, item, _, _ in rows)
    pairs = whole[EDGE].edge_index.T.tolist()
    user, item = (list(map(str, raw_ids(whole, kind))) for kind in ("user", "item"))
    assert [(user[u], item[i]) for u, i in pairs] == [*first]


FIELDS = st.sampled_from(["7", "-3", "1234567890123", "07", "+7", "-0", "1e3", "2.0"])


@given(rows=st.lists(st.lists(FIELDS, min_size=2, max_size=4), min_size=2))
def test_only_rows_of_plain_integers_are_taken_for_them(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("plain") / "r.csv"
    path.write_text("\n".join(map(",".join, [["user", "item", "time"], *rows])))
    odd = [line for line, row in enumerate(rows, start=2) if len(row) != 3]
    if odd:
        message = rf"^r\.csv:{odd[0]}: {len(rows[odd[0] - 2])} fields, expected 3"
        with pytest.raises(ValueError, match=message):
            read_delimited(path, COLUMNS)
        return
    data = read_delimited(path, COLUMNS).to_data()
    for kind, column in zip(("user", "item"), zip(*rows, strict=True), strict=False):
        assert {*map(str, raw_ids(data, kind))} == {*column}


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_characters_of_integers_are_counted(values):
    expected = sum(map(len, map(str, values)))
    assert _num_characters(np.array(values, dtype=np.int64)) == expected


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
    data = read_delimited(path, COLUMNS).to_data()
    assert data["user"].raw_id == ["007", "196"]
    assert data["item"].raw_id == ["242", "a,b"]
    assert data[EDGE].edge_rating.tolist() == [3, 4.5]
    assert data[EDGE].edge_time.tolist() == [881250949, 5]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("user_id\titem_id", "r.inter:1: header field 'user_id' must be name:token"),
        ("user_id:int\titem_id:token", "header field 'user_id:int' must be"),
        ("u:token\titem_id:token", "r.inter:1: no column 'user'"),
    ],
)
def test_other_inter_headers_are_refused(tmp_path, header, message):
    path = tmp_path / "r.inter"
    path.write_text(f"{header}\n1\t2\n")
    with pytest.raises(ValueError, match=message):
        read_delimited(path, COLUMNS)


def test_tables_without_a_header(tmp_path):
    path = tmp_path / "ratings.dat"
    path.write_text("1::2::3::4\n1::5::3::9\n")
    dat = read_delimited(path, COLUMNS).to_data()
    bare = tmp_path / "bare.csv"
    bare.write_text("2,3,4,1\n5,3,9,1\n")
    same(read_bare_csv(bare, ["item", "rating", "time", "user"]).to_data(), dat)
    with pytest.raises(ValueError, match="no column names to choose 'uid' from"):
        read_delimited(path, {"user": "uid"})


def read(tmp_path, name, content, **options):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_delimited(path, COLUMNS, **options).to_data()


@pytest.mark.parametrize(
    ("name", "content", "users"),
    [
        ("r.tsv", 'user\titem\nu1\t"foo\nu2\tbar"\n"u3"\ta "b" c\n', None),
        ("r.csv", 'user,item\nu1,5" disk\n"u2","say ""hi"""\n"u3", "x"\n', None),
        ("r.csv", "sep=;\nuser;item\nu1;a,b\nu2;c\n", ["u1", "u2"]),
        ("r.csv", "user;item;note\nu1;a;1,5\nu2;b;2,5\n", ["u1", "u2"]),
        ("r.tsv", '"user"\t"item"\n"u1"\t"a\tb"\n', ["u1"]),
        ("r.csv", "\n\nuser,item\r\n\r\nu1,a\r\n", ["u1"]),
        ("r.csv", 'user,"item"\n"u\r1","a"\n"u\n1","b"\n"u\r\n1",c\n', None),
        ("r.inter", "user_id:token,item_id:token\nu1,a\n", ["u1"]),
        ("r.dat", "userId\tmovieId\trating\nu1\ta\t3\n", ["u1"]),
        ("r.dat.gz", "u1\ta\t3\nu2\tb\t4\n", ["u1", "u2"]),
        ("u.data", "u1\ta\t3\t5\nu2\tb\t4\t6\n", ["u1", "u2"]),
        ("r.dat", "u1|a|3|5\nu2|b|4|6\n", ["u1", "u2"]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_is_in_a_file_tells_how_to_read_it(
    tmp_path, name, content, users, encoding
):
    expected = {
        "r.tsv": ['"u3"', "u1", "u2"],
        "r.csv": ["u1", "u2", "u3"]
        if "disk" in content
        else ["u\n1", "u\r1", "u\r\n1"],
    }
    content = content.encode(encoding)
    raw = gzip.compress(content) if name.endswith(".gz") else content
    data = read(tmp_path, name, raw)
    assert raw_ids(data, "user") == sorted(users or expected[name])


def test_an_encoding_and_a_separator_may_be_named(tmp_path):
    content = "user^item\né^a b\n".encode("latin-1")
    data = read(tmp_path, "r.csv", content, encoding="latin-1", separator="^")
    assert raw_ids(data, "user") == ["é"]
    spaced = read(tmp_path, "r.csv", 'user item\n1 "a b"\n', separator=" ")
    assert raw_ids(spaced, "item") == ["a b"]
    tabbed = read(tmp_path, "r.csv", "user\titem\tx,y\n1\ta,b\tc\n", separator="\\t")
    assert raw_ids(tabbed, "user") == [1]
    for separator in ("", "ab", "x", "7", '"', "\n", "§"):
        with pytest.raises(ValueError, match="'separator' must be '::' or one ASCII"):
            read(tmp_path, "r.csv", content, separator=separator)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "r.csv",
            'user,item\n1,a\n2,"say \\"hi\\""\n',
            r"r.csv:3: text after the clos",
        ),
        ("r.csv", 'user,item\n1,"a\n2,b\n', "r.csv:2: a quote from here on is not clo"),
        ("r.csv", "1,2\n3,4\n", "r.csv:1: no header: the first row must name"),
        ("r.dat", "1\t2\t3\t4\t5\n", "r.dat:1: 5 fields and no header, expected user"),
        ("r.dat", "a\tb\tc\n1\t2\t3\n", "r.dat:1: no column 'user' (there are 'a', 'b"),
        ("r.csv", "user item\n1 2\n", "--separator, in Python separator=, names"),
        ("r.csv", b"user,item\n\xe9,2\n", "r.csv:2: not utf-8 text; --encoding, in"),
        ("r.csv", "sep=;\n", "r.csv: no rows"),
        ("r.inter", "user\titem\n1\t2\n", "header field 'user' must be name:token or"),
    ],
)
@pytest.mark.parametrize("size", [7, 1 << 20])
def test_what_does_not_fit_is_refused_with_what_to_do(
    tmp_path, name, content, message, size
):
    with pytest.raises(ValueError, match=re.escape(message)):
        read(tmp_path, name, content, size=size)


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("end", ["", "\n"])
def test_a_row_of_blanks_is_refused_wherever_it_is(tmp_path, place, end, size):
    lines = ["user,item", "1,2"]
    lines.insert(place, "  ")
    path = tmp_path / "r.csv"
    path.write_text("\n".join(lines) + end)
    with pytest.raises(ValueError, match=rf"r\.csv:{place + 1}: 1 fields, expected 2"):
        read_delimited(path, COLUMNS, size=size)
