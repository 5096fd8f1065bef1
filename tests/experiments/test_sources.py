"""Data sets by name or path."""

from __future__ import annotations

import os

import pytest

from ddrm_pyg.experiments.sources import DEFAULT, NAMED, Source


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "my.clicks.csv"
    rows = [f"{u},{i},{i % 5},{i}" for u in range(3) for i in range(10)]
    path.write_text("\n".join(["who,what,stars,when", *rows]))
    return path


def test_names_are_the_documented_ones():
    papers = {"ml-1m", "yelp", "amazon-book"}
    worlds = {"synthetic", "synthetic-still"}
    assert set(NAMED) == worlds | papers | {f"{name}-clean" for name in papers}


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("synthetic", "synthetic"),
        ("ml-1m", "ml-1m"),
        ("some/where/clicks.csv.gz", "clicks"),
        ("some/folder/", "folder"),
        ("some/ml-1m/natural", "ml-1m-natural"),
        (".", "here"),
    ],
)
def test_short_name(data, name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert Source(data).name == name


def test_located_is_the_same_from_everywhere(table, monkeypatch):
    monkeypatch.chdir(table.parent)
    source = Source(table.name, user="who")
    assert source.located() == Source(str(table.resolve()), user="who")
    assert source.located().located() == source.located()
    assert Source("synthetic").located() == Source("synthetic")


def test_a_run_is_named_by_an_option_only_where_it_is_used():
    before = {"data": "x.csv", "user": "user", "item": "item", "rating": None}
    before |= {"time": None, "liked_from": None, "ratios": (0.7, 0.1, 0.2)}
    assert Source("x.csv").record() == before
    latin = Source("x.csv", encoding="latin-1")
    assert latin.record() == before | {"encoding": "latin-1"}
    assert Source(**latin.record()) == latin


def test_a_source_is_named_by_its_options():
    assert DEFAULT.words() == ["--data", "synthetic"]
    source = Source("my clicks.csv", item="sku", liked_from=4.0, ratios=(0.8, 0.1, 0.1))
    assert source.words() == [
        *("--data", "my clicks.csv", "--item", "sku"),
        *("--liked-from", "4", "--ratios", "0.8,0.1,0.1"),
    ]
    exact = Source("r.csv", liked_from=3.1234567890123)
    assert exact.words()[-1] == "3.1234567890123"
    source = Source("r.csv", rating=False, time=False, split="global")
    words = ["--data", "r.csv", "--no-rating", "--no-time", "--split", "global"]
    assert source.words() == words


def test_a_split_reaches_the_loader(tmp_path):
    path = tmp_path / "r.csv"
    first = [f"0,{n},{n}" for n in range(10)]
    second = [f"1,{9 - n},{10 + n}" for n in range(10)]
    path.write_text("\n".join(["user,item,time", *first, *second]))
    source = Source(str(path), split="global", ratios=(0.75, 0.0, 0.25))
    assert source.record()["split"] == "global"
    assert "split" not in Source(str(path)).record()
    store = source.load()["user", "interacts", "item"]
    assert store.test_edge_label_index.tolist() == [[1] * 5, [4, 3, 2, 1, 0]]
    store = source.load(split=False)["user", "interacts", "item"]
    assert store.edge_time.numel() == 20


def test_an_encoding_and_a_separator_reach_the_loader(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("user^item\n" + "é^1\né^2\né^3\n", encoding="latin-1")
    source = Source(str(path), encoding="latin-1", separator="^")
    assert source.load()["user"].raw_id == ["é"]


def test_all_options_reach_the_loader(table):
    source = Source(str(table), "who", "what", "stars", "when", 1.0, (0.6, 0.2, 0.2))
    store = source.load()["user", "interacts", "item"]
    assert store.edge_index.size(1) + store.val_edge_label_index.size(1) == 24
    assert not store.test_edge_is_noise.any()
    assert int(store.edge_is_noise.sum() + store.val_edge_is_noise.sum()) == 6
    assert store.test_edge_time.tolist() == [8, 9] * 3


def test_named_set_is_loaded(monkeypatch):
    monkeypatch.setitem(NAMED, "tiny", lambda: "the data")
    assert Source("tiny").load() == "the data"
    with pytest.raises(
        ValueError, match=r"column options go with a file \(got --data t"
    ):
        Source("tiny", liked_from=4).load()


def test_missing_path_is_told_the_nearest_name():
    with pytest.raises(FileNotFoundError, match="did you mean 'ml-1m'"):
        Source("ml-1n").load()
    with pytest.raises(
        FileNotFoundError,
        match=r"set \(synthetic, synthetic-still, ml-1m, .*book-clean\)$",
    ):
        Source(os.path.join("no", "where.csv")).load()


@pytest.mark.parametrize(
    ("data", "noise"),
    [("yelp-clean", "clean"), ("a/ml-1m/random", "random"), ("a/mine.csv", None)],
)
def test_noise_settings_are_told_by_name(data, noise):
    assert Source(data).noise == noise
