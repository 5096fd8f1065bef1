"""Tables are read row by row, whatever their size."""

from __future__ import annotations

import json

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from ddrm_pyg.mapped import open_tables


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tables.safetensors"


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64],
)
def test_rows_are_those_that_were_saved(path, dtype):
    table = (100 * torch.randn(70_000, 3)).to(dtype)
    save_file({"a": table, "degree": table[:, 0].contiguous()}, path)
    mapped = open_tables(path)
    assert mapped["a"].dtype == dtype
    assert (mapped["a"].num_rows, mapped["a"].shape) == (70_000, (70_000, 3))
    assert torch.equal(mapped["a"].rows(65_530, 65_540), table[65_530:65_540])
    assert torch.equal(mapped["degree"].rows(0, 70_000), table[:, 0])
    assert torch.equal(torch.cat(list(mapped["a"].blocks())), table)
    index = torch.tensor([3, 69_999, 3])
    assert torch.equal(mapped["a"].take(index), table[index])


@given(st.integers(0, 9), st.integers(0, 9))
def test_any_range_of_rows(tmp_path_factory, start, stop):
    path = tmp_path_factory.getbasetemp() / "nine.safetensors"
    table = torch.arange(18.0).view(9, 2)
    save_file({"a": table}, path)
    mapped = open_tables(path)["a"]
    if start <= stop:
        assert torch.equal(mapped.rows(start, stop), table[start:stop])
    else:
        with pytest.raises(ValueError, match="'a' has rows 0 to 9"):
            mapped.rows(start, stop)


def test_what_is_read_is_the_callers_own(path):
    save_file({"a": torch.zeros(2, 2)}, path)
    mapped = open_tables(path)["a"]
    mapped.rows(0, 2).fill_(1)
    assert float(mapped.rows(0, 2).sum()) == 0


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_empty_tables_are_tables(path, shape):
    save_file({"a": torch.zeros(shape)}, path)
    assert open_tables(path)["a"].rows(0, shape[0]).shape == shape


def test_a_table_larger_than_memory(path):
    """A file with holes: it takes no space, and is as long as it says."""
    num_rows = 2 * psutil.virtual_memory().total // (4 * 64)
    span = [0, num_rows * 64 * 4]
    entry = {"dtype": "F32", "shape": [num_rows, 64], "data_offsets": span}
    header = json.dumps({"user": entry}).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + span[1])
    table = open_tables(path)["user"]
    assert table.num_rows == num_rows
    assert float(table.rows(num_rows - 5, num_rows).abs().sum()) == 0


def write_header(path, header, data=b"\0" * 8, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if length is None else length
    path.write_bytes(length.to_bytes(8, "little") + text + data)


GOOD = {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "header",
    [
        b"nonsense",
        {"a": {**GOOD, "dtype": "U8"}},
        {"a": {**GOOD, "shape": [3, 1]}},
        {"a": {**GOOD, "shape": [-2, -1]}},
        {"a": {**GOOD, "shape": "no"}},
        {"a": {**GOOD, "data_offsets": [0, 12], "shape": [3, 1]}},
        {"a": {**GOOD, "data_offsets": [4, 8], "shape": [1, 1]}},
        {"a": {**GOOD, "data_offsets": [8, 0]}},
        {"a": GOOD, "b": GOOD},
        {"a": {"dtype": "F32"}},
        {"a": 3},
        [1],
    ],
)
def test_a_broken_file_is_refused(path, header):
    write_header(path, header)
    with pytest.raises(ValueError, match=r"tables.safetensors: not a readable"):
        open_tables(path)


@pytest.mark.parametrize("length", [0, 3, 1 << 40])
def test_a_broken_length_is_refused(path, length):
    write_header(path, {"a": GOOD}, length=length)
    with pytest.raises(ValueError, match="not a readable"):
        open_tables(path)


def test_a_truncated_file_is_refused(path):
    save_file({"a": torch.ones(40, 3)}, path)
    for keep in (0, 5, 60, path.stat().st_size - 1):
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(ValueError, match="not a readable"):
            open_tables(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors: no such file"):
        open_tables(tmp_path / "none.safetensors")
