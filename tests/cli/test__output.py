"""Tables in the caller's own ids."""

from __future__ import annotations

import csv
import json

import pandas as pd
import pytest
import torch
from torch_geometric.data import HeteroData

from ddrm_pyg.cli._output import (
    check_safe_csv,
    in_csv,
    lists,
    print_json,
    with_ids_in_csv,
    write_csv,
    write_ids,
    write_recommendations,
)


@pytest.fixture
def chunks():
    """Three users in two chunks; 4 is padding."""
    inf = float("inf")
    return [
        (
            torch.tensor([2, 0]),
            torch.tensor([[2.5, 1 / 3], [1.0, -inf]]),
            torch.tensor([[1, 3], [0, 4]]),
        ),
        (torch.tensor([1]), torch.full((1, 2), -inf), torch.tensor([[4, 4]])),
    ]


def test_json_is_one_line(capsys):
    print_json({"a": [1, None], "b": "ü"})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {"a": [1, None], "b": "ü"}


def test_ids_are_written_by_row(tmp_path):
    write_ids(tmp_path / "ids.csv", {"user": ["x, y", 'q"'], "item": [7]})
    text = (tmp_path / "ids.csv").read_text()
    assert text == 'kind,row,id\nuser,0,"x, y"\nuser,1,"q"""\nitem,0,7\n'


ODD = ["a\rb", "\r", "a\nb", "a\r\nb", 'a"\r,', "=1", " a "]


def read(path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file, strict=True))


def test_line_ends_within_ids_come_back(tmp_path):
    file = tmp_path / "r.csv"
    write_ids(file, {"user": ODD, "item": [7]})
    users = [["user", str(row), name] for row, name in enumerate(ODD)]
    assert read(file) == [["kind", "row", "id"], *users, ["item", "0", "7"]]
    columns = torch.arange(len(ODD))[None]
    chunk = (torch.tensor([0]), torch.full(columns.shape, 0.5), columns)
    write_recommendations(file, [chunk], ["\r"], ODD)
    lines = [["\r", name, "0.5"] for name in ODD]
    assert read(file) == [["user", "item", "score"], *lines]
    write_csv(file, pd.DataFrame({"user": ODD, "n": 3, "s": 0.25}), float_format="%.6g")
    assert read(file) == [["user", "n", "s"], *([name, "3", "0.25"] for name in ODD)]


def test_ids_are_safe_for_a_spreadsheet_only_if_asked():
    assert in_csv(["=1", "a"], safe=False) == ["=1", "a"]
    assert in_csv(["=1", "a"], safe=True) == ["'=1", "a"]
    numbers = torch.tensor([-5, 5])
    data = HeteroData({"user": {"raw_id": ["@u", "u"]}, "item": {"raw_id": numbers}})
    safe = with_ids_in_csv(data, safe=True)
    assert safe["user"].raw_id == ["'@u", "u"]
    assert safe["item"].raw_id is numbers
    assert with_ids_in_csv(data, safe=False)["user"].raw_id == ["@u", "u"]
    assert data["user"].raw_id == ["@u", "u"]


def test_safety_is_refused_where_there_is_no_csv():
    check_safe_csv(True, True, "r.csv")
    check_safe_csv(False, False, "r.parquet")
    with pytest.raises(ValueError, match=r"'--safe-csv' must .*got r\.tsv"):
        check_safe_csv(True, False, "r.tsv")


def test_lists_leave_padding_out(chunks):
    assert list(lists(chunks, ["a", "b", "c", "d"])) == [
        (2, ["b", "d"], [2.5, pytest.approx(1 / 3)]),
        (0, ["a"], [1.0]),
        (1, [], []),
    ]


def test_recommendations_are_parquet_where_the_file_is_called_so(chunks, tmp_path):
    pytest.importorskip("pyarrow")
    ids = (["u0", "u1", "u2"], [10, 11, 12, 13])
    write_recommendations(tmp_path / "list.parquet", chunks, *ids)
    frame = pd.read_parquet(tmp_path / "list.parquet")
    assert frame["user"].tolist() == ["u2", "u2", "u0"]
    assert frame["item"].tolist() == [11, 13, 10]
    assert frame["score"].tolist() == pytest.approx([2.5, 1 / 3, 1.0])


def test_recommendations_are_in_the_callers_ids(chunks, tmp_path, capsys):
    ids = ["ann, 0", "ben", "eva"], ["a", "b", "c", "d"]
    expected = 'user,item,score\neva,b,2.5\neva,d,0.333333\n"ann, 0",a,1\n'
    write_recommendations(tmp_path / "deep" / "list.csv", chunks, *ids)
    assert (tmp_path / "deep" / "list.csv").read_text() == expected
    write_recommendations(None, chunks, *ids)
    assert capsys.readouterr().out == expected
