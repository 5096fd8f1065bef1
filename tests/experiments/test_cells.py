"""Cells and results as files keep them."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file

from ddrm_pyg.experiments.cells import Cell, cell_from_record, chain

BASE = Cell("mf", 3, {"embedding_dim": 4}, {"epochs": 2})
CELL = Cell("ddrm", 4, {"hidden_dims": [8]}, {}, Cell("one_pass", base=BASE))


@pytest.mark.parametrize("cell", [BASE, CELL, Cell("mf+t-ce", clean={"drop_rate": 1})])
def test_cell_survives_json(cell):
    assert cell_from_record(json.loads(json.dumps(dataclasses.asdict(cell)))) == cell


def test_a_chain_begins_with_the_cell_and_ends_with_what_starts_from_nothing():
    assert chain(CELL) == [CELL, CELL.base, BASE]
    assert chain(BASE) == [BASE]


def test_result_reads_what_lies_in_its_folder(make_result, tmp_path):
    result = dataclasses.replace(make_result([0.5]), folder=tmp_path)
    tables = {"user": torch.rand(2, 3), "item": torch.rand(4, 3)}
    for name in ("embeddings", "tables", "weights"):
        save_file(tables, tmp_path / f"{name}.safetensors")
    assert torch.equal(result.embeddings().item, tables["item"])
    assert torch.equal(result.embeddings("tables").user, tables["user"])
    assert result.weights().keys() == tables.keys()
