"""The paper's numbers are what the settings say, and in the right columns."""

from __future__ import annotations

import pytest

from ddrm_pyg.experiments.settings import DATA_SETS, load_settings, shipped_name
from ddrm_pyg.paper.outline import PAPER_BACKENDS
from ddrm_pyg.paper.published import published
from ddrm_pyg.ranking import METRICS

ADDED = ("t-ce", "r-ce", "deca", "ddrm")
ROWS = (
    *("cdae", "adagcl", "multivae", "diffrec", *PAPER_BACKENDS),
    *(f"{backend}+{added}" for backend in PAPER_BACKENDS for added in ADDED),
)


@pytest.mark.parametrize("data", DATA_SETS)
@pytest.mark.parametrize("row", ROWS)
def test_settings_carry_the_same_row(row, data):
    backend, _, added = row.partition("+")
    name = shipped_name(added or backend, data, backend if added else "")
    kept = load_settings(name, added or backend).get("paper")
    row_of_paper = published("table2", row, data)
    assert tuple(row_of_paper) == METRICS
    if kept is not None:
        assert row_of_paper == kept


def test_columns_of_the_data_sets_are_not_mixed():
    assert published("table2", "mf+ddrm", "yelp")["recall@10"] == 0.0354
    assert published("table2", "mf+ddrm", "amazon-book")["ndcg@20"] == 0.0196
    assert published("table2", "sgl+ddrm", "ml-1m")["recall@20"] == 0.1261
    assert published("table3", "sgl+ddrm noise start", "yelp") == {
        **{"recall@10": 0.0213, "recall@20": 0.0364},
        **{"ndcg@10": 0.0133, "ndcg@20": 0.0179},
    }


@pytest.mark.parametrize(
    "asked",
    [
        ("table2", "ease", "ml-1m"),
        ("table2", "mf", None),
        ("table3", "sgl+ddrm", "ml-1m"),
        ("figure6", "mf+ddrm", "yelp"),
    ],
)
def test_nothing_is_made_up(asked):
    assert published(*asked) == {}
