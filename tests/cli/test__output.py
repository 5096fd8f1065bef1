"""Tables in the caller's own ids."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch

from ddrm_pyg.cli._output import (
    lists,
    print_json,
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
