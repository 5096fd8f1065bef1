"""Showing and converting data sets."""

from __future__ import annotations

import json
import os

import pytest

from ddrm_pyg.datasets import load_interactions
from ddrm_pyg.experiments.runner import fingerprint
from ddrm_pyg.experiments.sources import NAMED

ROWS = [(u, i, 1 + (u + i) % 5, 1_500_000_000 + i) for u in range(3) for i in range(10)]


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Three users with ten items each, and the working directory of the test."""
    monkeypatch.chdir(tmp_path)
    lines = ["who,what,stars,when", *(",".join(map(str, row)) for row in ROWS)]
    path = tmp_path / "r.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


NAMES = ["--user", "who", "--item", "what", "--rating", "stars", "--time", "when"]
COLUMNS = {"user": "who", "item": "what", "rating": "stars", "time": "when"}


def test_a_table_is_described(call, table):
    answer = call("data", "describe", table, *NAMES, "--json")
    record = json.loads(answer.out)
    expected = load_interactions(table, **COLUMNS)
    assert record == {
        "users": 3,
        "items": 10,
        "interactions": 30,
        "train": 21,
        "val": 3,
        "test": 6,
        "density": 1.0,
        "time": [1_500_000_000, 1_500_000_009],
        "time_unit": "s",
        "ratings": {str(star): 6 for star in range(1, 6)},
        "fingerprint": fingerprint(expected),
    }


def test_the_table_of_a_description_says_the_same(call, table):
    out = call("data", "describe", table, *NAMES, "--out", "d.png").out
    shown = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert shown["interactions"] == "30"
    assert shown["density"] == "100.0000%"
    assert shown["time"] == (
        "1500000000 to 1500000009 (2017-07-14 to 2017-07-14, in s since 1970)"
    )
    assert shown["ratings"] == "1: 6, 2: 6, 3: 6, 4: 6, 5: 6"
    assert (table.parent / "d.png").read_bytes().startswith(b"\x89PNG")


def test_a_known_name_is_described(call, monkeypatch, table):
    monkeypatch.setitem(NAMED, "ml-1m", lambda: load_interactions(table, **COLUMNS))
    assert json.loads(call("data", "describe", "ml-1m", "--json").out)["users"] == 3


@pytest.mark.parametrize("name", ["o.csv", "o.tsv.gz", "o.inter", "o.jsonl", "folder"])
def test_what_is_converted_describes_alike(call, table, name):
    answer = call("data", "convert", table, *NAMES, "--out", name, "--json")
    assert json.loads(answer.out)["out"] == name
    one = json.loads(call("data", "describe", table, *NAMES, "--json").out)
    two = json.loads(call("data", "describe", name, "--json").out)
    assert one == two


def test_a_folder_brings_the_ids_along(call, table):
    call("data", "convert", table, *NAMES, "--out", "lists", "--layout", "lightgcn")
    assert sorted(os.listdir("lists")) == ["ids.csv", "test.txt", "train.txt"]
    ids = (table.parent / "lists" / "ids.csv").read_text().splitlines()
    assert ids[:3] == ["kind,row,id", "user,0,0", "user,1,1"]
    assert len(ids) == 1 + 3 + 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["describe", "r.csv"], "no column 'user' (there are 'who', 'what', 'stars', "),
        (["describe", "r.csv"], "--user, in Python user=, names the column to use"),
        (["describe", "gone.csv"], "gone.csv: neither a file, a folder nor a known"),
        (["describe", "yelp"], "yelp_academic_dataset_review.json is not here"),
        (["describe", "amazon-book"], "ratings_Books.csv is not here"),
        (["describe", "r.csv", *NAMES, "--out", "d.jpg"], "'--out' must end in .png"),
        (["describe"], "Missing argument 'PATH|NAME'"),
        (["convert", "r.csv", *NAMES], "Missing option '--out'"),
        (["convert", "r.csv", *NAMES, "--out", "r.csv"], "'--out' must not be there"),
        (["convert", "r.csv", *NAMES, "--out", "o.xls"], "no writer for '.xls'"),
        (["convert", "r.csv", *NAMES, "--out", "o", "--layout", "x"], "'x' is not one"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_written(
    call, table, words, message
):
    content = table.read_bytes()
    assert message in call("data", *words).error
    left = [path for path in table.parent.rglob("*") if path.is_file()]
    assert left == [table]
    assert table.read_bytes() == content


def test_milliseconds_are_described(call, tmp_path):
    path = tmp_path / "ms.csv"
    path.write_text("user,item,time\n1,2,1577836800123\n1,3,1577836800456\n")
    out = call("data", "describe", path).out
    assert (
        "1577836800123 to 1577836800456 (2020-01-01 to 2020-01-01, in ms since 1970)"
    ) in out


def test_what_is_too_small_to_split_is_described(call, tmp_path):
    path = tmp_path / "small.csv"
    path.write_text("user,item\n1,2\n3,4\n")
    answer = call("data", "describe", path, "--json")
    record = json.loads(answer.out)
    assert {k: record[k] for k in ("users", "items", "interactions", "train")} == {
        "users": 2,
        "items": 2,
        "interactions": 2,
        "train": 2,
    }
    assert "test" not in record
    assert "not split: small.csv: the split leaves no test pairs" in answer.err


def test_what_is_odd_is_said_once_where_nothing_can_be_split(call, tmp_path):
    path = tmp_path / "small.csv"
    rows = ["1,2,2018-07-01", "1,2,2018-07-01", "3,4,2018-07-02"]
    path.write_text("\n".join(["user,item,bought_at", *rows]))
    warnings = ["1 duplicate pairs", "not split: small.csv"]
    hints = ["'bought_at' looks like times", "assumed each user split"]
    said, quiet = (call("data", "describe", path, *q).err for q in ([], ["-q"]))
    assert [said.count(words) for words in warnings + hints] == [1, 1, 1, 1]
    assert [quiet.count(words) for words in warnings + hints] == [1, 1, 0, 0]


def test_columns_that_cannot_be_used_are_left_aside(call, tmp_path):
    path = tmp_path / "odd.csv"
    path.write_text("user,item,rating,time\n" + "1,{},,soon\n" * 9)
    path.write_text(path.read_text().format(*range(9)))
    answer = call("data", "describe", path)
    assert "column 'rating' is '', expected a number; --no-rating" in answer.err
    answer = call("data", "describe", path, "--no-rating")
    assert "--no-time, in Python time=False, reads without it" in answer.err
    record = json.loads(
        call("data", "describe", path, "--no-rating", "--no-time", "--json").out
    )
    assert record["interactions"] == 9
    assert "time" not in record
    answer = call("data", "describe", path, "--no-time", "--time", "time")
    assert "'--no-time' does not go with '--time time'" in answer.err


def test_ids_are_as_they_are_or_safe_for_a_spreadsheet(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "user,item\n=1,@a\n'=1,b\n-5,-\n"
    (tmp_path / "r.csv").write_text(text)
    call("data", "convert", "r.csv", "--out", "plain.csv")
    assert (tmp_path / "plain.csv").read_text() == text
    call("data", "convert", "r.csv", "--out", "safe.csv", "--safe-csv")
    safe = "user,item\n'=1,'@a\n''=1,b\n'-5,'-\n"
    assert (tmp_path / "safe.csv").read_text() == safe
    error = call("data", "convert", "r.csv", "--out", "o.tsv", "--safe-csv").error
    assert error == "'--safe-csv' must go with CSV (got o.tsv)"
