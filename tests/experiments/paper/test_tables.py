"""The numbers of a table, by hand and by scipy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.paper.conditions import Condition
from ddrm_pyg.experiments.paper.plans import Block, Line
from ddrm_pyg.experiments.paper.published import published
from ddrm_pyg.experiments.paper.tables import (
    block_record,
    cell_records,
    distance,
    is_starred,
    misses,
)
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.ranking import METRICS

USERS = np.random.default_rng(0).random(30)
SEEDS = (Cell("mf", 0), Cell("mf", 1))


@pytest.fixture
def result(make_result):
    def make(ndcg, seed=0, method="mf", notes=None):
        made = make_result(list(ndcg), method)
        cell = Cell(method, seed)
        return dataclasses.replace(made, cell=cell, notes=notes or {})

    return make


def measured(lines, found, what="table2", data="ml-1m", axis=None):
    return block_record(Block("t", tuple(lines), axis), found, what, data)["lines"]


def test_means_and_deviations_are_over_seeds(result):
    found = [result([0.1, 0.3]), result([0.3, 0.5], seed=1)]
    (line,) = measured([Line("mf", SEEDS)], [found])
    assert line["mean"]["ndcg@20"] == pytest.approx(0.3)
    assert line["deviation"]["ndcg@20"] == pytest.approx(0.2 / np.sqrt(2))
    assert (line["seeds"], line["run"], line["asked"]) == ([0, 1], 2, 2)


def test_stars_are_scipys_and_holms(result):
    noise = np.random.default_rng(1).normal(size=(3, 30))
    shifts = (0.1, 0.0, -0.2)
    rows = [USERS + a + 0.05 * b for a, b in zip(shifts, noise, strict=True)]
    lines = [Line("mf", SEEDS)]
    lines += [Line(name, SEEDS, "mf") for name in ("up", "even", "down")]
    found = [[result(USERS), result(USERS + 0.1, seed=1)]]
    found += [[result(row), result(row + 0.1, seed=1)] for row in rows]
    records = measured(lines, found)
    p = [stats.ttest_rel(row, USERS).pvalue for row in np.float32(rows)]
    # each of the three is tested on four metrics that are multiples of one another
    twelve = sorted([value for value in p for _ in METRICS])
    for record, value in zip(records[1:], p, strict=True):
        place = twelve.index(value)
        running = max(v * (12 - i) for i, v in enumerate(twelve[: place + 1]))
        test = record["tests"]["ndcg@20"]
        assert test["p_holm"] == pytest.approx(min(running, 1), rel=1e-2)
    starred = [is_starred(record, "ndcg@20") for record in records]
    assert starred == [False, True, False, False]
    assert records[3]["tests"]["ndcg@20"]["p_holm"] < 0.01  # worse is no star


def test_only_seeds_that_both_have_are_tested(result):
    lines = [Line("mf", SEEDS), Line("+", SEEDS, "mf")]
    found = [
        [result(USERS), result(USERS + 9, seed=1)],
        [result(USERS + 1), None],
    ]
    record = measured(lines, found)[1]
    assert record["tests"]["ndcg@20"]["difference"] == pytest.approx(1)
    assert (record["run"], record["asked"]) == (1, 2)
    found[1] = [None, "ValueError: no"]
    record = measured(lines, found)[1]
    assert (record["tests"], record["mean"], record["deviation"]) == ({}, {}, {})
    assert record["failed"] == ["ValueError: no"]


def test_points_of_a_curve_are_tested_at_their_place(result):
    lines = [
        *(Line("mf", SEEDS[:1], at=0.0), Line("mf", SEEDS[:1], at=0.1)),
        *(Line("+", SEEDS[:1], "mf", at=0.0), Line("+", SEEDS[:1], "mf", at=0.1)),
    ]
    found = [[result(USERS + x)] for x in (0, 1, 5, 7)]
    records = measured(lines, found, "figure3", axis="noise")
    told = [r["tests"]["ndcg@20"]["difference"] for r in records[2:]]
    assert told == pytest.approx([5, 6])


def test_the_paper_stands_beside_and_fills_nothing(result):
    ours, missing = measured(
        [Line("mf", SEEDS), Line("ease", (Cell("ease"),))], [[result([0.0612])], [None]]
    )
    assert ours["paper"] == published("table2", "mf", "ml-1m")
    assert distance(ours, "ndcg@20") == pytest.approx(0.0612 / 0.0582 - 1)
    assert misses(ours)
    assert (missing["mean"], missing["paper"]) == ({}, {})
    assert distance(missing, "ndcg@20") is None
    assert not misses(missing)
    (own,) = measured([Line("mf", SEEDS)], [[result([0.1])]], data=None)
    assert own["paper"] == {}
    assert not misses(own)


def test_picked_depths_are_told(result):
    found = [result([0.1], notes={"num_layers": 5}), result([0.1], 1)]
    (line,) = measured([Line("mf best depth", SEEDS)], [found])
    assert line["depths"] == [5]


@pytest.mark.parametrize(
    ("best", "epochs", "val", "told"),
    [(30, 30, 0.1, [2]), (29, 30, 0.1, []), (30, 30, None, []), (None, None, 0.1, [])],
)
def test_only_what_the_last_epoch_won_was_cut(result, best, epochs, val, told):
    cell = Cell("mf", 2, fit={"epochs": epochs} if epochs else {})
    val = {} if val is None else dict.fromkeys(METRICS, val)
    one = dataclasses.replace(result([0.1]), cell=cell, best_epoch=best, val=val)
    (line,) = measured([Line("mf", (cell,))], [[one]])
    assert line["best_at_end"] == told


def test_seeds_are_those_of_what_a_line_starts_from(result):
    mean = Cell("history_mean", base=Cell("mf", 4))
    found = [dataclasses.replace(result([0.1]), cell=mean)]
    (line,) = measured([Line("mf history mean", (mean,))], [found])
    assert line["seeds"] == [4]


def test_cells_to_commit_are_small(result):
    base = Cell("mf", 4)
    derived = dataclasses.replace(result([0.25]), cell=Cell("history_mean", base=base))
    lines = (
        Line("ease", (Cell("ease"),)),
        Line("mf history mean", (derived.cell, derived.cell)),
        Line("mf", (base,), at=0.1, condition=Condition(noise_ratio=0.1)),
        Line("mf+ddrm", (base,), at=0.1),
    )
    found = [
        [result([0.5], None, "ease")],
        [derived, None],
        [result([0.5], 4)],
        [result([0.5], 4)],
    ]
    cells = cell_records(Block("t", lines, "gamma"), found, Source("world"))
    assert [list(cell.values())[:4] for cell in cells] == [
        ["ease", "world", None, None],
        ["mf history mean", "world", 4, "noisy validation"],
        ["mf", "world, random noise 0.1", 4, "noisy validation"],
        ["mf+ddrm, gamma 0.1", "world", 4, "noisy validation"],
    ]
    assert cells[1]["metrics"]["ndcg@20"] == 0.25
    assert tuple(cells[0]["metrics"]) == METRICS
