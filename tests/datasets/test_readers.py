import gzip
import os
import re
from pathlib import Path

import pandas as pd
import pytest
import torch

from ddrm_pyg.datasets import readers
from ddrm_pyg.datasets.readers import load_interactions
from ddrm_pyg.datasets.writers import save_interactions
from ddrm_pyg.transforms.core import EDGE, SPLITS, get_block

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
real_data = pytest.mark.skipif(
    not SHARED.is_dir(), reason="../shared/data is not here; it is not distributed"
)

# Two users, five items each; by time user 7 goes 10 11 12 13 14, user 8 backwards.
ROWS = [(7, 10 + i, 5.0, 100 + i) for i in range(5)]
ROWS += [(8, 10 + i, 4.0, 200 - i) for i in range(5)]


def write_csv(path, rows=ROWS, header="user,item,rating,time", delimiter=","):
    lines = [header, *(delimiter.join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def raw_pairs(data, split="train"):
    user_raw, item_raw = data["user"].raw_id, data["item"].raw_id
    pairs = get_block(data, split)["index"].T.tolist()
    return [(_plain(user_raw[u]), _plain(item_raw[i])) for u, i in pairs]


def _plain(value):
    return value.item() if isinstance(value, torch.Tensor) else value


# Tables


def test_csv_is_split_by_time_and_keeps_what_is_known(tmp_path, caplog):
    data = load_interactions(write_csv(tmp_path / "clicks.csv"))

    # By hand, n = 5: test = round(1.0) = 1, train = round(3.5) = 4, val = 0.
    assert raw_pairs(data) == [
        *((7, item) for item in (10, 11, 12, 13)),
        *((8, item) for item in (14, 13, 12, 11)),
    ]
    assert raw_pairs(data, "test") == [(7, 14), (8, 10)]
    assert raw_pairs(data, "val") == []
    assert data["user"].raw_id.tolist() == [7, 8]
    assert data["item"].raw_id.tolist() == [10, 11, 12, 13, 14]
    assert data[EDGE].edge_time.tolist()[:5] == [100, 101, 102, 103, 196]
    assert data[EDGE].test_edge_rating.tolist() == [5.0, 4.0]
    assert data[EDGE].edge_index.dtype == torch.int64
    assert data[EDGE].edge_rating.dtype == torch.float32
    assert "edge_is_noise" not in data[EDGE]
    assert caplog.messages == [
        "clicks.csv: assumed columns rating, time; each user split "
        "70/10/20 % by time; every interaction counts as liked"
    ]


def test_low_ratings_become_false_positives_and_never_enter_test(tmp_path):
    rows = [(1, i, 5, i) for i in range(10)] + [(1, 20, 3.5, 2), (1, 21, 1, 99)]
    path = write_csv(tmp_path / "r.csv", rows)
    data = load_interactions(path, liked_from=4, ratios=(0.6, 0.2, 0.2))

    assert raw_pairs(data) == [(1, i) for i in (0, 1, 2, 20, 3, 4, 5)]
    assert data[EDGE].edge_is_noise.tolist() == [i == 3 for i in range(7)]
    assert raw_pairs(data, "val") == [(1, 6), (1, 7), (1, 21)]
    assert data[EDGE].val_edge_is_noise.tolist() == [False, False, True]
    assert raw_pairs(data, "test") == [(1, 8), (1, 9)]


@pytest.mark.parametrize("split", [False, True, "global"])
@pytest.mark.parametrize("liked_from", [None, 2])
def test_indexes_are_int64_whatever_they_were_read_as(tmp_path, split, liked_from):
    pairs = [(user, item) for user in range(3) for item in range(20)]
    rows = [f"{u},{i},{1 + i % 5},{(7 * i + 5 * u) % 20}" for u, i in pairs]
    path = tmp_path / "r.csv"
    path.write_text("\n".join(["user,item,rating,time", *rows]))
    store = load_interactions(path, split=split, liked_from=liked_from)[EDGE]
    indexes = [value for key, value in store.items() if key.endswith("index")]
    assert [index.dtype for index in indexes] == [torch.int64] * (3 if split else 1)
    if split != "global":  # which leaves some out
        assert sum(index.size(1) for index in indexes) == len(rows)


def test_without_time_the_split_is_seeded(tmp_path, caplog):
    rows = [(u, i) for u in range(5) for i in range(20)]
    path = write_csv(tmp_path / "r.csv", rows, "user,item")
    one, again, other = (load_interactions(path, seed=s) for s in (1, 1, 2))

    assert raw_pairs(one, "test") == raw_pairs(again, "test")
    assert raw_pairs(one, "test") != raw_pairs(other, "test")
    assert [len(raw_pairs(one, split)) for split in SPLITS] == [70, 10, 20]
    assert "at random (no time column)" in caplog.messages[0]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("compressed", [False, True])
def test_the_header_tells_the_delimiter(tmp_path, delimiter, compressed):
    header = delimiter.join(["userId", "movieId", "rating", "timestamp"])
    path = write_csv(tmp_path / "r.csv", ROWS, header, delimiter)
    if compressed:
        packed = tmp_path / "r.tsv.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path = packed
    data = load_interactions(path, split=False)
    assert raw_pairs(data) == [row[:2] for row in ROWS]
    assert data[EDGE].edge_time.tolist() == [row[3] for row in ROWS]


def test_named_columns_are_read_whatever_else_is_there(tmp_path, caplog):
    path = tmp_path / "log.csv"
    path.write_text(
        '\ufeffts,"note",stars,sku,who\r\n'
        '5,"said ""hi"", twice\nover two lines",4.5,a,Zoë\r\n'
        "\r\n"
        "7,,2, b ,Al\r\n",
        newline="",
    )
    data = load_interactions(
        path, user="who", item="sku", rating="stars", time="ts", split=False
    )
    assert raw_pairs(data) == [("Zoë", "a"), ("Al", " b ")]
    assert data["user"].raw_id == ["Al", "Zoë"]
    assert data[EDGE].edge_rating.tolist() == [4.5, 2.0]
    assert data[EDGE].edge_time.tolist() == [5, 7]
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("ids", "raw"),
    [
        (["10", "9", "-3"], [-3, 9, 10]),
        (["007", "7"], ["007", "7"]),
        (["1.0", "1"], ["1", "1.0"]),
        (["NA", "nan", "null"], ["NA", "nan", "null"]),
        (["True", "False"], ["False", "True"]),
        (["9223372036854775807", "1"], [1, 9223372036854775807]),
        (["9223372036854775808", "1"], ["1", "9223372036854775808"]),
        (["1", "b"], ["1", "b"]),
        (["1", "9223372036854775808"], ["1", "9223372036854775808"]),
        (["1", "99999999999999999999"], ["1", "99999999999999999999"]),
        (["1", "1e3", "2.0"], ["1", "1e3", "2.0"]),
        (['"a,b"', "c"], ["a,b", "c"]),
        (["1", " 1"], [" 1", "1"]),
    ],
)
def test_ids_are_integers_only_where_written_as_such(tmp_path, ids, raw):
    rows = [(text, i) for i, text in enumerate(ids)]
    path = write_csv(tmp_path / "r.csv", rows, "user,item")
    data = load_interactions(path, split=False)
    got = data["user"].raw_id
    assert (got.tolist() if isinstance(got, torch.Tensor) else got) == raw


def test_spaces_around_names_and_numbers_do_not_count_and_those_of_ids_do(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("user, item ,rating , time\n 1 , a ,  3.5 , 7\n1,b , 4,8 \n")
    data = load_interactions(path, split=False)
    assert raw_pairs(data) == [(" 1 ", " a "), ("1", "b ")]
    assert data[EDGE].edge_rating.tolist() == [3.5, 4.0]
    assert data[EDGE].edge_time.tolist() == [7, 8]


def test_duplicates_are_kept_once_the_earliest(tmp_path, caplog):
    rows = [(1, 1, 5, 8), (1, 2, 5, 4), (1, 1, 2, 9), (1, 1, 1, 3)]
    path = write_csv(tmp_path / "r.csv", rows)
    data = load_interactions(path, split=False)
    assert raw_pairs(data) == [(1, 2), (1, 1)]
    assert data[EDGE].edge_time.tolist() == [4, 3]
    assert data[EDGE].edge_rating.tolist() == [5.0, 1.0]
    assert caplog.messages[0] == (
        "r.csv: 2 duplicate pairs (each kept once, the earliest)"
    )


def test_the_order_of_rows_does_not_decide_what_a_repeated_pair_is(tmp_path):
    rows = [(1, 7, 5, 100), (1, 10, 5, 200), (1, 9, 5, 300), (1, 8, 5, 400)]
    rows.append((1, 7, 1, 500))
    one = load_interactions(write_csv(tmp_path / "one.csv", rows))
    other = load_interactions(write_csv(tmp_path / "other.csv", rows[::-1]))
    assert raw_pairs(one, "test") == raw_pairs(other, "test") == [(1, 8)]
    for name, value in one[EDGE].items():
        assert torch.equal(value, other[EDGE][name]), name


def test_items_that_training_never_sees_are_counted(tmp_path, caplog):
    rows = [(1, i, 5, i) for i in range(10)]
    load_interactions(write_csv(tmp_path / "r.csv", rows))
    assert caplog.messages[-1] == "r.csv: 3 items are not in train"


@pytest.mark.parametrize(
    ("times", "kept"),
    [
        (["978300019.0", "1"], torch.tensor([978300019, 1])),
        (["978300019.25", "1"], torch.tensor([978300019.25, 1], dtype=torch.float64)),
        (["1577836800123456789", "1577836800123456788"], None),
    ],
)
def test_numbers_of_any_precision_stay_what_they_are(tmp_path, times, kept):
    rows = [(1, 1, 5, times[0]), (1, 2, 5, times[1])]
    path = write_csv(tmp_path / "r.csv", rows)
    time = load_interactions(path, split=False)[EDGE].edge_time
    kept = torch.tensor([*map(int, times)]) if kept is None else kept
    assert time.dtype == kept.dtype
    assert time.tolist() == kept.tolist()


def test_fractions_of_a_second_put_events_in_order(tmp_path):
    moments = [".900Z", ".500Z", ".100Z"]
    rows = [(1, n, 5, f"2020-01-01T00:00:00{m}") for n, m in enumerate(moments)]
    rows.append((1, 3, 5, "2020-01-01T00:00:01Z"))
    path = write_csv(tmp_path / "r.csv", rows)
    data = load_interactions(path, ratios=(0.5, 0.25, 0.25))
    assert raw_pairs(data) == [(1, 2), (1, 1)]
    assert raw_pairs(data, "val") == [(1, 0)]
    assert data[EDGE].val_edge_time.tolist() == [1577836800900]


def test_everyone_may_be_cut_at_the_same_moments(tmp_path, caplog):
    train = [(1, 1), (2, 2), (1, 3), (2, 4), (1, 2), (2, 1)]
    later = [(3, 1), (1, 4), (2, 3), (2, 9)]  # train knows neither 3 nor 9
    rows = [(*pair, 5, time) for time, pair in enumerate([*train, *later])]
    path = write_csv(tmp_path / "r.csv", rows[::-1])
    data = load_interactions(path, split="global", ratios=(0.6, 0.2, 0.2))
    assert sorted(raw_pairs(data)) == sorted(train)
    assert raw_pairs(data, "val") == [(1, 4)]
    assert raw_pairs(data, "test") == [(2, 3)]
    assert caplog.messages == [
        "r.csv: assumed columns rating, time; everyone cut at the same two moments, "
        "60/20/20 % of all interactions; every interaction counts as liked",
        "1 held-out interactions of 1 users that train does not have are left out",
        "1 held-out interactions of 1 items that train does not have are left out",
        "r.csv: 1 users have no train items",
        "r.csv: 1 items are not in train",
    ]


@pytest.mark.parametrize(
    ("header", "split", "message"),
    [
        ("user,item,when", "global", "r.csv: split='global' needs a column of times"),
        (
            "user,item,when",
            "both",
            "'split' must be one of ['global', 'user'] (got 'both')",
        ),
    ],
)
def test_a_split_that_cannot_be_made_is_refused(tmp_path, header, split, message):
    path = write_csv(tmp_path / "r.csv", [(1, i, i) for i in range(9)], header)
    with pytest.raises(ValueError, match="split") as error:
        load_interactions(path, split=split)
    assert message in str(error.value)


def test_columns_of_ratings_dat_may_be_left_aside(tmp_path):
    path = tmp_path / "ratings.dat"
    path.write_text("".join(f"1::{n}::5::soon\n" for n in range(9)))
    data = load_interactions(path, time=False, split=False)
    assert data[EDGE].edge_rating.tolist() == [5] * 9
    assert "edge_time" not in data[EDGE]


def test_ratings_dat_is_read_as_file_or_inside_its_folder(tmp_path, caplog):
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    lines = ["::".join(map(str, (u, i, int(r), t))) for u, i, r, t in ROWS]
    folder.joinpath("ratings.dat").write_bytes("\n".join(lines).encode("latin-1"))
    for path in (folder, folder / "ratings.dat"):
        data = load_interactions(path, liked_from=4.5)
        assert raw_pairs(data, "test") == [(7, 14)]
        assert int(data[EDGE].edge_is_noise.sum()) == 5
    assert caplog.messages[0] == (
        "ratings.dat: assumed each user split 70/10/20 % by time; ratings below 4.5 "
        "count as noise"
    )


# Each line: file content and what the message must say. The file is called r.csv.
REFUSED = [
    ("user,item,rating\n1,2,3\n4,5,abc\n", "r.csv:3: column 'rating' is 'abc', exp"),
    ("user,item,rating\n1,2,3\n\n4,5,NaN\n", "r.csv:4: column 'rating' is 'NaN'"),
    ("user,item,rating\n1,2,\n", "r.csv:2: column 'rating' is '', expected a number"),
    ("user,item,rating\n1,2,inf\n", "r.csv:2: column 'rating' is 'inf'"),
    ("user,item,rating\n1,2,1e300\n", "r.csv:2: column 'rating' is '1e"),
    ("user,item,rating\n1,2,True\n", "r.csv:2: column 'rating' is 'True'"),
    ('user,item,rating\n"1\n1",2,3\n4,5,x\n', "r.csv:4: column 'rating' is 'x'"),
    ("user,item,time\n1,2,01/02/2001\n", "r.csv:2: column 'time' is '01/02/2001'"),
    ("user,item,time\n1,2,now\n", "r.csv:2: column 'time' is 'now'"),
    ("user,item,time\n1,2,2001-01-01\n3,4,5\n", "r.csv:3: column 'time' is '5', exp"),
    ("user,item,time\n1,2,5\n3,4,2001-01-01\n", "r.csv:3: column 'time' is '2001-"),
    ("user,item,time\n1,2,2001-13-01\n", "r.csv:2: column 'time' is '2001-13-01'"),
    ("user,item,time\n1,2,99999999999999999999\n", "r.csv:2: column 'time'"),
    ("user,item\n1,2\n1\n", "r.csv:3: 1 fields, expected 2"),
    ("user,item\n1,2\n1,2,3\n", "r.csv:3: 3 fields, expected 2"),
    ("user,item\n1,2\n,3\n", "r.csv:3: column 'user' is '', expected an id"),
    ("user,item\n1,2\n1,  \n", "r.csv:3: column 'item' is '  ', expected an id"),
    ("usr,item\n1,2\n", "r.csv:1: no column 'user' (there are 'usr', 'item'; did you"),
    ("user;item,x\n1,2\n", "r.csv:1: no column 'user'"),
    ("user,item,user\n1,2,3\n", "r.csv:1: column 'user' is there twice"),
    ("user item\n1 2\n", "r.csv:1: no comma, tab, semicolon or bar in the header"),
    ("user,item\n", "r.csv: no rows"),
    ("", "r.csv: no rows"),
    ("\n\n", "r.csv: no rows"),
    (b"user,item\n1,\x00\n", "r.csv:2: not a text file"),
    (b"user,item\n1,2\n1,\xff\n", "r.csv:3: not utf-8 text"),
    ('user,item\n1,"2\n', "r.csv:"),
    ("user,item\n1,2\n", "leaves no test pairs"),
]


@pytest.mark.parametrize(("content", "message"), REFUSED)
def test_bad_tables_are_refused_with_file_line_rule_and_value(
    tmp_path, content, message
):
    path = tmp_path / "r.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_interactions(path)
    assert "\n" not in str(error.value)


def test_wrong_gzip_is_refused(tmp_path):
    whole = gzip.compress(b"user,item\n" + b"1,2\n" * 100)
    for content in (whole[:-10], whole[:5] + b"xxxx" + whole[9:-4], b"user,item\n1,2"):
        path = tmp_path / "r.csv.gz"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"r\.csv\.gz: cannot be read"):
            load_interactions(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ratios": (0.5, 0.1, 0.1)}, "'ratios' must sum to 1"),
        ({"ratios": (1.2, -0.4, 0.2)}, "'ratios' must be three shares >= 0"),
        ({"liked_from": float("nan")}, "'liked_from' must be a number (got nan)"),
        ({"liked_from": 6}, "leaves no test pairs"),
        ({"rating": "ratng"}, "no column 'ratng'"),
        ({"rating": "Ratng"}, "did you mean 'rating'?"),
        ({"user": "who"}, "no column 'who'"),
        ({"user": "item"}, "one column has two uses (got {'user': 'item', 'item':"),
    ],
)
def test_bad_arguments_are_refused_by_name(tmp_path, arguments, message):
    path = write_csv(tmp_path / "r.csv")
    with pytest.raises(ValueError, match=re.escape(message)):
        load_interactions(path, **arguments)


def test_liked_from_needs_ratings(tmp_path):
    path = write_csv(tmp_path / "r.csv", [(1, 2)], "user,item")
    with pytest.raises(ValueError, match="'liked_from' needs a rating column"):
        load_interactions(path, liked_from=4)


def test_paths_that_hold_nothing_known_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        load_interactions(tmp_path / "gone.csv")
    tmp_path.joinpath("notes.md").write_text("x")
    with pytest.raises(ValueError, match=r"looked for train_list.npy.*notes\.md"):
        load_interactions(tmp_path)
    with pytest.raises(ValueError, match=r"no reader for '\.md'"):
        load_interactions(tmp_path / "notes.md")


@pytest.mark.parametrize("name", ["R.CSV", "r.Tsv.GZ", "r.dat", "r.json"])
def test_the_suffix_does_not_hide_what_is_in_a_file(tmp_path, name):
    pytest.importorskip("pyarrow", reason="the extra [parquet] is absent")
    data = load_interactions(write_csv(tmp_path / "source.csv"), split=False)
    for kind in (".csv", ".jsonl", ".parquet"):
        if (kind == ".csv") == (name == "r.json"):
            continue
        save_interactions(data, tmp_path / f"saved{kind}")
        content = (tmp_path / f"saved{kind}").read_bytes()
        packed = name.endswith("GZ") and kind != ".parquet"
        (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
        assert raw_pairs(load_interactions(tmp_path / name, split=False)) == [
            row[:2] for row in ROWS
        ]


def test_an_encoding_or_a_separator_goes_with_a_text_only(tmp_path):
    path = write_csv(tmp_path / "r.csv", [("é", 1, 2, 3)], delimiter="^")
    path.write_text("user^item\né^1\n", encoding="latin-1")
    options = {"encoding": "latin-1", "separator": "^", "split": False}
    assert raw_pairs(load_interactions(path, **options)) == [("é", 1)]
    (tmp_path / "r.json").write_text('{"user": 1, "item": 2}\n')
    frame = pd.DataFrame({"user": [1], "item": [2]})
    for source, name in ((frame, "encoding"), (tmp_path / "r.json", "separator")):
        with pytest.raises(ValueError, match=f"'{name}' does not apply to"):
            load_interactions(source, **{name: ","})


def test_what_does_not_fit_into_memory_is_named(tmp_path, monkeypatch):
    def read(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(readers, "read_delimited", read)
    path = write_csv(tmp_path / "r.csv")
    with pytest.raises(MemoryError, match=r"r\.csv: does not fit into memory"):
        load_interactions(path)


def test_a_refused_input_leaves_nothing_behind(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("user,item\n1\n")
    with pytest.raises(ValueError, match="1 fields"):
        load_interactions(path)
    assert os.listdir(tmp_path) == ["r.csv"]


# Real data


@real_data
@pytest.mark.dataset
def test_published_natural_noise_split():
    data = load_interactions(SHARED / "ml-1m" / "natural")
    blocks = [get_block(data, split) for split in SPLITS]
    assert [b["index"].size(1) for b in blocks] == [429993, 130772, 57532]
    assert (data["user"].num_nodes, data["item"].num_nodes) == (5949, 3494)
    shares = [float(block["is_noise"].float().mean()) for block in blocks]
    assert [round(share, 3) for share in shares] == [0.393, 0.584, 0.0]
    assert len(data["item"].raw_id.unique()) == 3494


@real_data
@pytest.mark.dataset
def test_movielens_latest_small():
    path = SHARED / "ml-latest-small" / "ratings.csv"
    data = load_interactions(path, liked_from=4)
    sizes = [get_block(data, split)["index"].size(1) for split in SPLITS]
    assert sum(sizes) == 100_004
    assert (data["user"].num_nodes, data["item"].num_nodes) == (671, 9066)
    assert not data[EDGE].test_edge_is_noise.any()


@real_data
@pytest.mark.dataset
def test_gowalla():
    data = load_interactions(SHARED / "gowalla")
    sizes = {s: get_block(data, s)["index"].size(1) for s in SPLITS}
    assert sizes["train"] + sizes["val"] == 810_128
    assert sizes["test"] == 217_242
    assert abs(sizes["val"] / 810_128 - 0.1) < 0.005
    assert (data["user"].num_nodes, data["item"].num_nodes) == (29_858, 40_981)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "frame", "dict"])
def test_a_column_that_is_like_times_is_pointed_out(tmp_path, caplog, kind):
    frame = pd.DataFrame(
        {
            "user": ["a", "a", "b", "b"],
            "item": [*"xyxz"],
            "bought": pd.to_datetime(["2018-07-07 22:09:11"] * 4),
        }
    )
    path = tmp_path / f"clicks.{kind}"
    if kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "jsonl":
        frame.astype(str).to_json(path, orient="records", lines=True)
    elif kind == "parquet":
        pytest.importorskip("pyarrow", reason="the extra [parquet] is absent")
        frame.to_parquet(path)
    else:
        path = frame if kind == "frame" else frame.to_dict("list")
    load_interactions(path, split=False)
    name = path.name if isinstance(path, Path) else type(path).__name__
    assert caplog.messages == [
        f"{name}: 'bought' looks like times: with --time bought, in Python time=, DDRM "
        "learns what comes next"
    ]
    caplog.clear()
    load_interactions(path, split=False, time="bought")
    assert not any("looks like" in message for message in caplog.messages)
