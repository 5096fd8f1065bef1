"""Table 1: counts by hand, and the paper's beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddrm_pyg.experiments.paper.table1 import table1, table1_sheet
from ddrm_pyg.experiments.sources import Source

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"
TRAIN = [[0, 0], [0, 1], [1, 1], [1, 2]]


@pytest.fixture
def natural(tmp_path):
    """Two noise settings of a data set of the paper, tiny."""
    for noise, train in {"natural": TRAIN, "clean": TRAIN[:3]}.items():
        folder = tmp_path / "ml-1m" / noise
        folder.mkdir(parents=True)
        splits = {"train": train, "valid": [[0, 2]], "test": [[1, 0]]}
        for split, pairs in splits.items():
            np.save(folder / f"{split}_list.npy", np.array(pairs))
    return Source(str(tmp_path / "ml-1m" / "natural"))


def test_both_columns_are_counted(natural):
    record = table1(natural)
    assert record["measured"]["N"]["interactions"] == 6
    assert record["measured"]["R"]["interactions"] == 5
    assert record["paper"]["N"] == {
        **{"users": 5949, "items": 3494},
        "interactions": 618297,
    }
    table = table1_sheet(record, "tiny")
    assert table.head == [
        *("", "#User (N)", "#Item (N)", "#Int. (N)"),
        *("#User (R)", "#Item (R)", "#Int. (R)"),
    ]
    assert table.rows == [
        ["tiny", "2", "3", "6", "2", "3", "5"],
        ["paper", "5,949", "3,494", "618,297", "5,949", "2,810", "571,531"],
    ]
    assert table.notes == ["N: 4 train, 1 val, 1 test.", "R: 3 train, 1 val, 1 test."]


def test_only_natural_noise_is_counted_as_such(natural, monkeypatch):
    folder = Path(natural.data).parent
    monkeypatch.chdir(folder)
    (folder / "random").mkdir()
    for path in (folder / "natural").iterdir():
        (folder / "random" / path.name).write_bytes(path.read_bytes())
    for noise in ("clean", "random", str(folder / "clean")):
        measured = table1(Source(noise))["measured"]
        assert {n: told["interactions"] for n, told in measured.items()} == {"R": 5}
    assert table1(Source("natural"))["measured"].keys() == {"N", "R"}


def test_own_data_have_one_column(tmp_path):
    path = tmp_path / "clicks.csv"
    rows = [f"{u},{i}" for u in range(4) for i in range(10)]
    path.write_text("\n".join(["user,item", *rows]) + "\n")
    record = table1(Source(str(path)))
    assert record["paper"] == {}
    table = table1_sheet(record, "clicks")
    assert table.rows == [
        ["clicks", "4", "10", "40", "", "", ""],
        ["paper", *[""] * 6],
    ]


@pytest.mark.dataset
@pytest.mark.skipif(
    not SHARED.is_dir(), reason="../shared/data is not here; it is not distributed"
)
def test_published_ml_1m_is_table1():
    record = table1(Source(str(SHARED / "ml-1m" / "natural")))
    for noise, counts in record["paper"].items():
        measured = record["measured"][noise]
        assert {name: measured[name] for name in counts} == counts
