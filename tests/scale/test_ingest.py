"""A world has the rows, pairs, times and splits of ``load_interactions``."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddrm_pyg.datasets import load_interactions
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.scale.ingest import shard
from ddrm_pyg.scale.world import World


def write(path, rows, header=("user", "item", "time"), delimiter=","):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([header, *rows])
    return path


def assert_same(world, data):
    assert world.num_users == data["user"].num_nodes
    assert world.num_items == data["item"].num_nodes
    for kind in ("user", "item"):
        ids = data[kind].raw_id
        ids = ids.tolist() if isinstance(ids, torch.Tensor) else ids
        assert world.ids(kind, 0, len(ids)).tolist() == ids
    for split in ("train", "val", "test"):
        pairs = []
        for part in range(world.num_shards):
            own = world.edge_index(part, (split,))
            pairs.append(own + torch.tensor([[world.bounds(part)[0]], [0]]))
        expected = InteractionGraph.from_data(data, splits=(split,)).edge_index
        assert torch.equal(torch.cat(pairs, 1), expected)
        assert world.num_edges[split] == expected.size(1)
    degree = InteractionGraph.from_data(data).degree("item")
    assert torch.equal(world.item_degree(), degree)


NAMES = st.one_of(
    st.sampled_from(
        ["7", "07", "-7", "-0", "10", "9", "é", "z", "Z", "\U0001f600", "ﬀ"]
    ),
    st.text("a\"',;é \t|", min_size=1, max_size=4).filter(str.strip),
)
IDS = st.one_of(st.lists(NAMES, min_size=6, max_size=12), st.just([*"0123456789"]))


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(IDS, IDS, st.data())
def test_rows_are_those_of_load_interactions(tmp_path_factory, users, items, data):
    row = st.tuples(st.sampled_from(users), st.sampled_from(items), st.integers(0, 3))
    rows = data.draw(st.lists(row, min_size=1, max_size=40))
    rows += [(users[0], item, 5) for item in items]  # enough for a test pair
    folder = tmp_path_factory.mktemp("ingest")
    path = write(folder / "data.csv", rows)
    if len(set(items)) < 3:
        return  # too few for a test pair
    expected = load_interactions(path)
    assert_same(shard([path], folder / "world", memory="50MB"), expected)


def lines(form, *more):
    """Three people with five items each, in some form of row, and more rows."""
    return [form.format(f"u{u}", f"i{i}") for u in range(3) for i in range(5)] + [*more]


TEXTS = {
    "quotes between tabs": ("a.tsv", ["user\titem", *lines("{}\t{}", 'u2\t"i4"')]),
    "an open quote": (
        "a.tsv",
        ["user\titem", *lines("{}\t{}", 'u1\t"12 inch', "u1\tx", 'u2\ty"')],
    ),
    "a quoted header": ("a.tsv", ['"user"\t"item"', *lines('"{}"\t"{}"')]),
    "a separator in a name": ("a.csv", ['"a,b,c,d";user;item', *lines("1;{};{}")]),
    "Excel": ("a.csv", ["sep=;", "user;item", *lines("{};{}")]),
    "two colons": ("a.csv", ["user::item", *lines("{}::{}", "u1::i:5")]),
    "blank lines": ("a.csv", ["", "", "user,item", *lines("{},{}\n")]),
    "a line end in a name": ("a.csv", ['"us\ner",user,item', *lines("1,{},{}")]),
    "equal names": ("a.csv", ["x,x,user,User,item", *lines("1,2,{},U,{}")]),
    "JSON by content": ("a.csv", lines('{{"user": "{}", "item": "{}"}}')),
    "capitals": ("A.CSV", ["user,item", *lines("{},{}")]),
    "other names": ("a.csv", ["userId,movieId", *lines("{},{}")]),
}


@pytest.mark.parametrize(("name", "rows"), TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("packed", [False, True])
def test_texts_are_cut_as_by_load_interactions(tmp_path, name, rows, packed):
    text = "".join(f"{row}\n" for row in rows).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if packed else text)
    world = shard([tmp_path / name], tmp_path / "world", time=False)
    assert_same(world, load_interactions(tmp_path / name))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user,item\nu,é\n", r"a.csv:2: not utf-8 text$"),
        ("user,item\n" + "u,i\n" * 20_000 + "u,é\n", r"a.csv: .*20002: Invalid unic"),
        ("user,item\nu,i\nu,i,2\n", r"a.csv: .*Line: 3: Expected .*: 2 Found: 3"),
        ("user,item,item\nu,i,j\n", r"a.csv:?1?: column 'item' is there twice"),
    ],
)
def test_texts_that_are_none_are_told_where(tmp_path, text, message):
    (tmp_path / "a.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        shard([tmp_path / "a.csv"], tmp_path / "world", time=False)


def test_several_files_are_one_table(tmp_path):
    rows = [(f"u{n % 5}", f"i{n % 7}", n % 3) for n in range(60)]
    whole = write(tmp_path / "whole.csv", rows)
    parts = [
        write(tmp_path / "a.csv.gz", rows[:20]),
        write(tmp_path / "b.tsv", rows[20:40], delimiter="\t"),
        tmp_path / "c.parquet",
        tmp_path / "d.jsonl",
    ]
    frame = pd.DataFrame(rows, columns=["user", "item", "time"])
    frame[40:50].to_parquet(parts[2])
    frame[50:].to_json(parts[3], orient="records", lines=True)
    assert_same(shard(parts, tmp_path / "world"), load_interactions(whole))


EVENT = st.tuples(
    st.integers(0, 5),
    st.integers(0, 7),
    st.sampled_from(["0", "1", "2.5", "2", "9"]),
    st.sampled_from(["1", "3.9", "4", "4.1", "5"]),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(EVENT, min_size=1, max_size=60),
    st.fixed_dictionaries(
        {},
        optional={
            "liked_from": st.sampled_from([4.0, 4.1, 0.0, 9.0]),
            "time": st.just(False),
            "split": st.just("global"),
            "ratios": st.sampled_from([(0.5, 0.2, 0.3), (0.4, 0.0, 0.6)]),
            "seed": st.integers(0, 3),
        },
    ),
)
def test_splits_are_those_of_load_interactions(tmp_path_factory, rows, options):
    folder = tmp_path_factory.mktemp("ingest")
    path = write(folder / "data.csv", rows, ("user", "item", "time", "rating"))
    # ratings that are not asked for are not read
    source = {} if "liked_from" in options else {"rating": False}
    reason = "test pair|needs '?edge_time|needs times|needs a column of times"
    try:
        expected = load_interactions(path, **source, **options)
    except ValueError as error:
        assert re.search(reason, str(error))  # noqa: PT017
        with pytest.raises(ValueError, match=reason):
            shard([path], folder / "world", **options)
        assert os.listdir(folder) == ["data.csv"]
        return
    world = shard([path], folder / "world", **options)
    assert_same(world, expected)
    columns = pd.read_parquet(world.pairs_path("train", 0)).columns.tolist()
    assert columns == ["user", "item", *(["time"] if "time" not in options else [])]


JSON_IDS = st.one_of(
    st.integers(-3, 12),
    st.integers(2**63 - 2, 2**64 + 2),
    st.sampled_from(["5", "05", "-0", "x", 'a"b', "a\\b", "é", " x", str(2**64)]),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(JSON_IDS, min_size=1, max_size=5, unique_by=repr))
def test_ids_of_json_lines_are_those_of_load_interactions(tmp_path_factory, users):
    folder = tmp_path_factory.mktemp("ingest")
    path = folder / "data.jsonl"
    with path.open("w") as file:
        for n in range(9 * len(users)):
            row = {"user": users[n // 9], "item": n * 7 % 11, "time": n}
            file.write(json.dumps(row) + "\n")
    if len({str(user) for user in users}) == len(users):
        assert_same(shard([path], folder / "world"), load_interactions(path))
        return
    for read in (load_interactions, lambda path: shard([path], folder / "world")):
        with pytest.raises(ValueError, match=r"the number (\d+) and the text '\1'"):
            read(path)


@pytest.mark.parametrize("value", [5.0, 5.5, True, None, [1], {"a": 1}, 1e30])
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_what_is_no_id_is_refused_as_there(tmp_path, value, suffix):
    frame = pd.DataFrame({"user": [value], "item": ["a"], "time": [1]})
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        path.write_text(json.dumps({"user": value, "item": "a", "time": 1}))
    for read in (load_interactions, lambda path: shard([path], tmp_path / "world")):
        with pytest.raises(ValueError, match=r"column 'user' .*id"):
            read(path)


def test_one_id_is_written_in_one_way_in_all_files(tmp_path):
    rows = [("5", f"i{n % 7}", n) for n in range(20)]
    frame = pd.DataFrame(rows, columns=["user", "item", "time"])
    frame.to_parquet(tmp_path / "texts.parquet")
    frame["user"] = 5
    frame.to_parquet(tmp_path / "numbers.parquet")
    write(tmp_path / "table.csv", rows)  # may be either
    for name in ("texts.parquet", "numbers.parquet"):
        shard([tmp_path / "table.csv", tmp_path / name], tmp_path / f"to {name}")
    files = [tmp_path / "texts.parquet", tmp_path / "numbers.parquet"]
    with pytest.raises(ValueError, match=r"users have the number 5 and the text '5'"):
        shard(files, tmp_path / "world")


def test_columns_ratios_and_fractions(tmp_path):
    rows = [(n % 4, n % 9, f"{100 - n}.{n}") for n in range(36)]
    path = write(tmp_path / "a.csv", rows, ("who is", "Bo'ok", "When"))
    names = {"user": "who is", "item": "Bo'ok", "time": "When"}
    ratios = (0.5, 0.2, 0.3)
    world = shard([path], tmp_path / "world", **names, ratios=ratios)
    assert_same(world, load_interactions(path, **names, ratios=ratios))


def test_timestamps_are_seconds(tmp_path):
    rows = [(n % 3, n % 8, 1_700_000_000 + 7 * (n % 5)) for n in range(24)]
    frame = pd.DataFrame(rows, columns=["user", "item", "time"])
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame["time"] = pd.to_datetime(frame["time"], unit="s")
    frame.to_parquet(tmp_path / "a.parquet")
    world = shard([tmp_path / "a.parquet"], tmp_path / "world")
    assert_same(world, load_interactions(tmp_path / "a.csv"))


def assert_same_times(world, data):
    """Of train: same numbers, same type."""
    expected = data[EDGE].edge_time
    parts = [world.pairs_path("train", n) for n in range(world.num_shards)]
    times = torch.cat(
        [torch.tensor(pd.read_parquet(path)["time"].to_numpy()) for path in parts]
    )
    assert times.dtype == expected.dtype
    assert torch.equal(times, expected)


DATES = {
    "days": lambda n: f"2020-02-{1 + n % 29:02}",
    "minutes": lambda n: f"1969-12-31 {n % 24:02}:{n % 60:02}",
    "seconds": lambda n: f"2020-02-29T23:59:{n:02}Z",
    "zones": lambda n: f"2020-01-01 12:00:{n:02}{n % 24 - 12:+03}:{n % 4 * 15:02}",
    "milliseconds": lambda n: f"2020-01-01T00:00:00.{n * 25}+0130",
    "microseconds": lambda n: f"1960-01-01 00:00:00.{n * 7:06}",
    "nanoseconds": lambda n: f"2020-01-01 00:00:00.{n * 7 % 31:09}",
    "finer": lambda n: f"2020-01-01 00:00:00.{n * 7 % 31:09}9",
    "some fractions": lambda n: "2020-01-01 00:00:00" + f".{n}5" * (n == 7),
}


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize("kind", DATES)
def test_dates_are_those_of_load_interactions(tmp_path, kind, suffix):
    rows = [(n % 3, n * 7 % 11, DATES[kind](n)) for n in range(40)]
    path = tmp_path / f"a.{suffix}"
    if suffix == "csv":
        write(path, rows)
    else:
        frame = pd.DataFrame(rows, columns=["user", "item", "time"])
        frame.to_json(path, orient="records", lines=True)
    expected = load_interactions(path)
    world = shard([path], tmp_path / "world")
    assert_same(world, expected)
    assert_same_times(world, expected)


@pytest.mark.parametrize(
    "time",
    [
        "2018-02-30",
        "2018-07-07 24:00",
        "2018-07-07 22:60",
        "2018-07-07 22:09:60",
        "2018-07-07T",
        "2018-07-07Z",
        "2018-07-07 22:09:11+24:00",
        "2018-07-07 22:09:11 UTC",
        "07.07.2018",
        "20180707T22",
        "today",
    ],
)
def test_what_is_no_date_is_refused_as_there(tmp_path, time):
    path = write(tmp_path / "a.csv", [("u", "a", time)])
    with pytest.raises(ValueError, match="a number of seconds, or a date like"):
        load_interactions(path)
    with pytest.raises(ValueError, match=r"must hold a time in every row \(1 do"):
        shard([path], tmp_path / "world")


def test_dates_that_no_unit_holds_are_refused(tmp_path):
    times = ["3000-01-01", *(f"2020-01-01 00:00:00.{n:09}" for n in range(9))]
    path = write(tmp_path / "a.csv", [("u", n, t) for n, t in enumerate(times)])
    with pytest.raises(ValueError, match="expected a number of seconds, or a date"):
        load_interactions(path)
    with pytest.raises(ValueError, match=r"'sources': .*Overflow"):
        shard([path], tmp_path / "world")


@pytest.mark.parametrize("zone", [None, "Asia/Tokyo"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_fractions_of_a_second_put_events_in_order(tmp_path, unit, zone):
    start = np.datetime64("2020-01-01", unit)
    rows = [(n % 3, n * 7 % 11, start + n * 13 % 29) for n in range(40)]
    frame = pd.DataFrame(rows, columns=["user", "item", "time"])
    frame["time"] = frame["time"].dt.tz_localize(zone)
    frame.to_parquet(tmp_path / "a.parquet")
    world = shard([tmp_path / "a.parquet"], tmp_path / "world")
    expected = load_interactions(tmp_path / "a.parquet")
    assert_same(world, expected)
    assert_same_times(world, expected)


@pytest.mark.parametrize("apart", [True, False])
def test_ties_in_time_are_said_as_by_load_interactions(tmp_path, caplog, apart):
    """Three of four interactions have the time of the one before, or one of four."""
    moments = [1, 2, 3, 4, 4] if apart else [1, 1, 1, 1, 4]
    rows = [
        (f"u{u}", f"i{i}", 10 * u + t) for u in range(3) for i, t in enumerate(moments)
    ]
    path = write(tmp_path / "a.csv", rows)
    load_interactions(path)
    here = [m for m in caplog.messages if "order of the rows" in m]
    caplog.clear()
    shard([path], tmp_path / "world")
    assert [m for m in caplog.messages if "order of the rows" in m] == here
    assert len(here) == (not apart)
    assert apart or here[0].startswith("75 % of users' interactions have the time")


def test_of_repeated_pairs_the_earliest_counts(tmp_path):
    rows = [(n % 3, n * 7 % 11, f"{100 - n // 9}.{n % 9}") for n in range(99)]
    path = write(tmp_path / "a.csv", rows)
    world = shard([path], tmp_path / "world")
    expected = load_interactions(path)
    assert_same(world, expected)
    table = pd.read_parquet(world.pairs_path("train", 0))
    assert table["time"].tolist() == expected[EDGE].edge_time.tolist()


def test_little_memory_gives_the_same(tmp_path):
    rows = [(f"u{n * 7 % 9001}", f"i{n * 11 % 501}", n % 997) for n in range(120_000)]
    path = write(tmp_path / "a.csv", rows)
    world = shard([path], tmp_path / "world", memory="100MB", rows_per_shard=8192)
    assert world.num_shards == 2
    assert_same(world, load_interactions(path))
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "world"]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([("", "a", 1), ("  ", "b", 2)], {}, r"'user' must hold an id .*\(2 do not\)"),
        ([("u", "", 1)], {}, r"'item' must hold an id in every row \(1 do not\)"),
        ([("u", "a", "noon")], {}, r"'time' must hold a time in every row \(1 do not"),
        ([("u", "a", "")], {}, "'time' must hold a time"),
        ([("u", "a", 1)], {}, "no test pairs: no user has enough liked"),
        ([], {}, "'sources': no rows"),
        ([("u", "a", 1)], {"user": "uid"}, r"a.csv: no column 'uid' \(there are 'us"),
        ([("u", "a", 1)], {"rows_per_shard": 100}, "must be a multiple of 8192"),
        ([("u", "a", 1)], {"ratios": (1, 0, 0)}, "'ratios' must leave"),
        ([("u", "a", 1)], {"liked_from": 4.0}, r"no column 'rating'"),
        ([("u", "a", 1)], {"liked_from": float("nan")}, "must be a number"),
        ([("u", "a", 1)], {"split": "all"}, "'scope' must be"),
        ([("u", "a", 1)], {"split": "global", "time": False}, "a column of times"),
        ([("u", "a", 1)], {"split": "global"}, "times that tell interactions apart"),
        ([("u", "a", 1)], {"memory": "lots"}, "'memory' must be a size such as '4GB' "),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    tmp_path, rows, options, message
):
    path = write(tmp_path / "a.csv", rows)
    with pytest.raises(ValueError, match=message):
        shard([path], tmp_path / "world", **options)
    assert os.listdir(tmp_path) == ["a.csv"]


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(ValueError, match=r"must be .csv, .tsv, .parquet or .jsonl"):
        shard([tmp_path / "a.xlsx"], tmp_path / "world")
    with pytest.raises(FileNotFoundError, match=r"b.csv: no such file"):
        shard([tmp_path / "b.csv"], tmp_path / "world")
    with pytest.raises(ValueError, match="'sources' must not be empty"):
        shard([], tmp_path / "world")


def test_a_folder_in_use_is_left_alone(tmp_path):
    path = write(tmp_path / "a.csv", [("u", "a", 1)])
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "mine").touch()
    with pytest.raises(ValueError, match="must be a new folder or an empty one"):
        shard([path], tmp_path / "world")
    with pytest.raises(FileNotFoundError, match="not a world"):
        World.open(tmp_path / "world")
