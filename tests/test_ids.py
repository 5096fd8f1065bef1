from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from ddrm_pyg.ids import align, raw_ids, read_ids, rows_of, spreadsheet_safe

IDS = ["c", "a", "b"]
TABLE = np.array([[3.0, 30.0], [1.0, 10.0], [2.0, 20.0]], dtype=np.float32)


def write_csv(folder):
    path = folder / "vectors.csv"
    path.write_text("id,x,y\nc,3,30\na,1,10\nb,2,20\n")
    return path


def write_tsv(folder):
    path = folder / "vectors.tsv"
    path.write_text("x\ty\tid\n3\t30\tc\n1\t10\ta\n2\t20\tb\n")
    return path


def write_parquet(folder):
    pytest.importorskip("pyarrow")
    path = folder / "vectors.parquet"
    pd.DataFrame({"id": IDS, "vector": list(TABLE)}).to_parquet(path)
    return path


SOURCES = {
    "pair": lambda _: (IDS, TABLE),
    "tensors": lambda _: (np.array(IDS), torch.from_numpy(TABLE)),
    "mapping": lambda _: dict(zip(IDS, TABLE, strict=True)),
    "frame of numbers": lambda _: pd.DataFrame(TABLE).assign(id=IDS),
    "frame of vectors": lambda _: pd.DataFrame({"id": IDS, "v": list(TABLE)}),
    "csv": write_csv,
    "tsv": write_tsv,
    "parquet": write_parquet,
}


@pytest.mark.parametrize("form", SOURCES)
def test_vectors_come_in_the_order_that_is_wanted(form, tmp_path):
    aligned = align(SOURCES[form](tmp_path), ["a", "b", "c"], "'user'")
    assert aligned.tolist() == [[1, 10], [2, 20], [3, 30]]


@given(st.permutations(range(6)), st.integers(0, 6))
def test_any_order_gives_the_same_rows(order, count):
    table = torch.arange(6.0).unsqueeze(1)
    aligned = align((list(order), table[list(order)]), list(range(count)), "x")
    assert torch.equal(aligned, table[:count])


def test_texts_of_numbers_keep_their_zeros(tmp_path):
    path = tmp_path / "v.csv"
    path.write_text("id,x\n007,1\n7,2\n")
    assert align(path, ["007", "7"], "x").tolist() == [[1], [2]]
    assert align(path, [7], "x").tolist() == [[2]]


def test_other_ids_are_left_out_and_counted(caplog):
    assert align((IDS, TABLE), ["b"], "'item'").tolist() == [[2, 20]]
    assert "'item': 2 of 3 vectors" in caplog.text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((["a", "b"], TABLE[:2]), "1 of 3 ids are unknown .the first is 'c'"),
        ((["a", "b", "c", "a"], np.eye(4)), "once .'a' is there twice"),
        ((IDS, TABLE[:2]), r"one vector per id .got 3 ids and .* \[2, 2\]"),
        ((IDS, TABLE[:, 0]), "one vector per id"),
        ({"a": [1], "b": [1, 2], "c": [1]}, "equally long"),
        (pd.DataFrame({"x": [1.0]}), "must have a column 'id'"),
        (pd.DataFrame({"id": [1]}), "must have a column 'id'"),
    ],
)
def test_what_does_not_align_is_refused(source, message):
    with pytest.raises(ValueError, match=f"^'user': .*{message}"):
        align(source, ["a", "b", "c"], "'user'")


def test_other_sources_and_files_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"a mapping, a DataFrame or a file \(got int"):
        align(3, ["a"], "'user'")
    with pytest.raises(FileNotFoundError, match="no such file"):
        align(tmp_path / "v.csv", ["a"], "'user'")
    path = tmp_path / "v.txt"
    path.touch()
    with pytest.raises(ValueError, match=r"the suffix must be one of \.parquet"):
        align(path, ["a"], "'user'")
    path = tmp_path / "v.csv"
    path.write_text("id,x\na,\n")
    with pytest.raises(ValueError, match=r"v\.csv: columns must be numbers"):
        align(path, ["a"], "'user'")


@pytest.mark.parametrize("name", ["", " ", "Unnamed: 0"])
def test_an_index_is_no_part_of_a_vector(name, tmp_path):
    # it would be another dimension of either table, and rank by the order of rows
    frame = pd.DataFrame(TABLE).assign(id=IDS)
    frame.insert(0, name, [0, 1, 2])
    frame.to_csv(tmp_path / "v.csv", index=False)
    for source in (frame, tmp_path / "v.csv"):
        with pytest.raises(ValueError, match=r"^'user': every .* name .*index=False"):
            align(source, IDS, "'user'")


@pytest.mark.parametrize("text", ["", "id,x\na,1\nb,1,2\n"])
def test_what_is_no_table_is_refused_by_file(text, tmp_path):
    (tmp_path / "v.csv").write_text(text)
    for read in (read_ids, lambda path: align(path, ["a"], "'user'")):
        with pytest.raises(ValueError, match=r"v.csv: not a readable .csv file \("):
            read(tmp_path / "v.csv")


def test_rows_of_ids():
    assert rows_of(["b", "a"], ["a", "b"], "x").tolist() == [1, 0]
    assert rows_of([], ["a"], "x").tolist() == []
    with pytest.raises(ValueError, match="x: 1 of 2 ids are unknown"):
        rows_of(["a", "z"], ["a"], "x")


def test_raw_ids_of_every_kind():
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 2, 2
    data["item"].raw_id = torch.tensor([7, 5])
    assert raw_ids(data, "user") == [0, 1]
    assert raw_ids(data, "item") == [7, 5]
    data["user"].raw_id = ["x", "y"]
    assert raw_ids(data, "user") == ["x", "y"]


def test_ids_of_rows_are_read_as_they_are_written(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_bytes("007\n 7\r\nna\n\ncafé".encode())
    assert read_ids(path) == ["007", " 7", "na", "", "café"]
    assert read_ids(write_csv(tmp_path)) == IDS
    assert read_ids(write_tsv(tmp_path)) == IDS
    (tmp_path / "rows.csv").write_text("n,id\n0,007\n1,NA\n")
    assert read_ids(tmp_path / "rows.csv") == ["007", "NA"]


def test_ids_of_rows_are_refused_by_file(tmp_path):
    (tmp_path / "ids.csv").write_text("name\nann\n")
    with pytest.raises(ValueError, match=r"ids.csv: must have a column 'id'"):
        read_ids(tmp_path / "ids.csv")
    with pytest.raises(FileNotFoundError, match=r"none.txt: no such file"):
        read_ids(tmp_path / "none.txt")
    (tmp_path / "ids.json").write_text("[]")
    with pytest.raises(ValueError, match=r"suffix must be one of .parquet"):
        read_ids(tmp_path / "ids.json")


def test_what_a_spreadsheet_would_run_gets_a_quote():
    run = ["=1+1", "+7", "-0", "@a", "\tb", "\rc", "'=1"]
    kept = ["a=", "7", " =1", "'a", "", "'", "\nb", -5, 7]
    assert spreadsheet_safe([*run, *kept]) == [*(f"'{name}" for name in run), *kept]


@given(ids=st.lists(st.text("'=+-@\t\ra"), unique=True))
def test_no_two_ids_become_one_and_none_is_run(ids):
    safe = spreadsheet_safe(ids)
    assert len({*safe}) == len(ids)
    assert not any(name.startswith((*"=+-@\t\r",)) for name in safe)
