import csv
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from ddrm_pyg.datasets import SyntheticInteractions, writers
from ddrm_pyg.datasets.readers import load_interactions
from ddrm_pyg.datasets.writers import csv_quoting, is_csv, save_interactions
from ddrm_pyg.graph.sequences import tells_order
from ddrm_pyg.transforms.core import EDGE, SPLITS, get_block

TEXTS = [".csv", ".csv.gz", ".tsv", ".tsv.gz", ".inter", ".jsonl", ".jsonl.gz"]
TABLES = [*TEXTS, ".parquet"]


def raw(data, kind):
    ids = data[kind].raw_id
    return ids.tolist() if isinstance(ids, torch.Tensor) else ids


def assert_same(one, other):
    for kind in ("user", "item"):
        assert one[kind].num_nodes == other[kind].num_nodes
        assert raw(one, kind) == raw(other, kind)
    for split in SPLITS:
        block, again = get_block(one, split), get_block(other, split)
        assert block.keys() == again.keys()
        for name in block:
            assert torch.equal(block[name], again[name]), (split, name)


NUMBERS = st.integers(-(2**62), 2**62)
TIMES = st.one_of(st.integers(-(2**40), 2**40), st.sampled_from([0.5, 1577836800.25]))
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)
IDS = st.one_of(NUMBERS, NAMES.map(str.strip).filter(bool))
ROW = st.tuples(
    IDS,
    IDS,
    st.floats(0.5, 5, width=32),
    TIMES.filter(lambda time: time != -1),  # unknown
)


@pytest.mark.parametrize("suffix", TABLES)
@given(rows=st.lists(ROW, min_size=1, max_size=12))
def test_a_table_comes_back_as_it_was(tmp_path_factory, suffix, rows):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="the extra [parquet] is absent")
    for column in [*zip(*rows, strict=True)][:2]:  # 5 beside "5" is refused
        assume(len({*map(str, column)}) == len({(type(v), v) for v in column}))
    frame = pd.DataFrame(rows, columns=["user", "item", "rating", "time"], dtype=object)
    data = load_interactions(frame, split=False)
    path = tmp_path_factory.mktemp("out") / f"r{suffix}"
    save_interactions(data, path)
    assert_same(load_interactions(path, split=False), data)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", TABLES)
def test_odd_texts_come_back_or_are_refused(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="the extra [parquet] is absent")
    path = tmp_path / f"r{suffix}"
    for name in ("a\rb", "a\nb", "a\r\nb", "a\tb", '"a', '"a"', 'a""b', "a,b", " a "):
        frame = pd.DataFrame({"user": [name, "5"], "item": ["x", name]})
        data = load_interactions(frame, split=False)
        if suffix.startswith((".tsv", ".inter")) and set(name) & {*"\t\r\n"}:
            with pytest.raises(ValueError, match="ids must have no tabs and no line"):
                save_interactions(data, path)
            assert not path.exists()
        else:
            save_interactions(data, path)
            assert_same(load_interactions(path, split=False), data)
            path.unlink()


@pytest.fixture(scope="module")
def world():
    return SyntheticInteractions(num_users=40, num_items=80, num_interactions=800)[0]


def test_an_npy_folder_keeps_everything(world, tmp_path):
    shifted = world.clone()
    shifted["user"].raw_id = torch.arange(40) * 3 + 5
    shifted["item"].raw_id = torch.arange(80) + 1
    shifted["item"].raw_id[4] = -5  # unknown, as the reader marks it
    save_interactions(shifted, tmp_path / "out")
    assert_same(load_interactions(tmp_path / "out"), shifted)


@pytest.mark.parametrize("in_order", [False, True])
def test_an_npy_folder_keeps_whether_there_is_an_order(world, tmp_path, in_order):
    bare = world.clone()
    for split in SPLITS:
        prefix = "" if split == "train" else f"{split}_"
        bare[EDGE].pop(f"{prefix}edge_time", None)
    if in_order:
        bare[EDGE].in_order = True
    save_interactions(bare, tmp_path / "out")
    again = load_interactions(tmp_path / "out")
    assert_same(again, bare)
    assert tells_order(again) is in_order


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([f"{i}x" for i in range(40)], "cannot hold ids that are texts"),
        (torch.arange(40).flip(0), "cannot hold the id 0"),
    ],
)
def test_ids_that_labels_cannot_hold_are_said(world, tmp_path, caplog, ids, message):
    world = world.clone()
    world["user"].raw_id = ids
    save_interactions(world, tmp_path / "out")
    assert message in caplog.text
    assert load_interactions(tmp_path / "out")["user"].raw_id.tolist() == [*range(40)]


def test_a_lightgcn_folder_keeps_pairs_and_gives_validation_to_train(world, tmp_path):
    save_interactions(world, tmp_path / "out", layout="lightgcn")
    data = load_interactions(tmp_path / "out")

    def pairs(data, *splits):
        index = [get_block(data, split)["index"] for split in splits]
        return sorted(torch.cat(index, dim=1).T.tolist())

    assert pairs(data, "test") == pairs(world, "test")
    assert pairs(data, "train", "val") == pairs(world, "train", "val")


def test_a_table_of_split_data_holds_all_splits_and_says_so(world, tmp_path, caplog):
    save_interactions(world, tmp_path / "r.csv")
    assert "r.csv: a table does not keep the split" in caplog.text
    assert len(pd.read_csv(tmp_path / "r.csv")) == sum(
        get_block(world, split)["index"].size(1) for split in SPLITS
    )


def test_what_a_table_cannot_hold_is_left_out_and_said(world, tmp_path, caplog):
    noisy = world.clone()
    noisy[EDGE].edge_rating[:3] = 0
    noisy[EDGE].edge_time[:2] = -1
    save_interactions(noisy, tmp_path / "r.csv")
    total = len(pd.read_csv(tmp_path / "r.csv"))
    for message in (
        "a table does not keep noise labels",
        f"the column rating is left out, as 3 of {total} are unknown (0)",
        f"the column time is left out, as 2 of {total} are unknown (-1)",
    ):
        assert f"r.csv: {message}" in caplog.text
    assert [*pd.read_csv(tmp_path / "r.csv")] == ["user", "item"]


@pytest.mark.parametrize("lost", ["labels", "valid", "test", "train"])
def test_a_folder_cut_off_while_written_is_no_folder(
    world, tmp_path, monkeypatch, lost
):
    real = writers.atomic_path

    @contextmanager
    def full(path):
        if path.stem.startswith(lost):
            raise OSError("no space left")
        with real(path) as temporary:
            yield temporary

    monkeypatch.setattr(writers, "atomic_path", full)
    with pytest.raises(OSError, match="no space left"):
        save_interactions(world, tmp_path / "out")
    with pytest.raises((ValueError, FileNotFoundError)):
        load_interactions(tmp_path / "out")


def test_packed_files_have_the_same_bytes_each_time(world, tmp_path):
    for name in ("a.csv.gz", "a.jsonl.gz"):
        one, two = tmp_path / "1" / name, tmp_path / "2" / name
        for path in (one, two):
            save_interactions(world, path)
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(
    ("name", "layout", "message"),
    [
        ("r.xlsx", "npy", "no writer for '.xlsx'"),
        ("r.parquet.gz", "npy", "no writer for '.gz'"),
        ("r.gz", "npy", "no writer for '.gz'"),
        ("out", "pkl", "'layout' must be one of npy, lightgcn (got pkl)"),
    ],
)
def test_unknown_formats_are_refused_and_nothing_is_written(
    world, tmp_path, name, layout, message
):
    with pytest.raises(ValueError, match=r"must be|no writer") as error:
        save_interactions(world, tmp_path / name, layout=layout)
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_needs_a_split(tmp_path):
    data = HeteroData()
    data["user"].num_nodes = data["item"].num_nodes = 1
    data[EDGE].edge_index = torch.zeros(2, 1, dtype=torch.long)
    with pytest.raises(ValueError, match="a folder needs split interactions"):
        save_interactions(data, tmp_path / "out")
    assert np.array_equal(list(tmp_path.iterdir()), [])


def test_lone_carriage_returns_are_quoted():
    assert csv_quoting(["a", "b\rc"]) == csv.QUOTE_NONNUMERIC
    assert csv_quoting(["a", "b\nc", ""]) == csv.QUOTE_MINIMAL


def test_tables_between_commas_are_told():
    names = ["r.csv", "r.csv.gz", "r.tsv", "r.parquet", "folder"]
    assert [is_csv(Path(name)) for name in names] == [True, True, False, False, False]
