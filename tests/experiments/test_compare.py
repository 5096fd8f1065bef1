from __future__ import annotations

import io
import logging
import math
import sys
from dataclasses import replace

import pandas as pd
import pytest
import torch

from ddrm_pyg.datasets.synthetic import SyntheticInteractions
from ddrm_pyg.experiments import memory
from ddrm_pyg.experiments.cells import Cell, starts_from_past
from ddrm_pyg.experiments.compare import (
    Comparison,
    Cost,
    as_tables,
    cannot_say,
    compare,
    to_frame,
    verdict,
    with_default_ddrm,
)
from ddrm_pyg.experiments.methods import yardsticks
from ddrm_pyg.experiments.plug_in import default_ddrm
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.tables import CorrectedTest
from ddrm_pyg.graph.interaction_graph import EDGE
from ddrm_pyg.significance import PairedTest, holm, paired_test

FIT = {"epochs": 2, "batch_size": 512}


@pytest.fixture(scope="module")
def data():
    return SyntheticInteractions(60, 80, 1200)[0]


@pytest.fixture
def runner(data, tmp_path):
    return Runner(data, tmp_path, progress=False)


def mf(seed: int = 0) -> Cell:
    return Cell("mf", seed, {"embedding_dim": 4}, FIT)


def ddrm(seed: int = 0) -> Cell:
    model = {"hidden_dims": [4], "num_train_timesteps": 2, "num_inference_steps": 2}
    return Cell("ddrm", seed, model, FIT, mf(seed))


def past(seed: int = 0) -> Cell:
    model = {"train_start": "past", "num_start_steps": 0, "hidden_dims": [4]}
    return Cell("ddrm", seed, model, FIT, mf(seed))


def test_rows_are_tested_against_the_best_yardstick(runner):
    methods = {"past": [past()], "mf": [mf(0), mf(1)], "mf+ddrm": [ddrm()]}
    rows = compare(runner, methods)
    free, aware = (
        [row for row in rows if row.order_aware is order_aware]
        for order_aware in (False, True)
    )
    assert rows == [*free, *aware]
    assert [row.name for row in free] == [*yardsticks(), "mf", "mf+ddrm"]
    assert [row.name for row in aware] == [*yardsticks(order_aware=True), "past"]
    raw = []
    for block, count in ((free, 3), (aware, 2)):
        scores = {row.name: row.metrics["ndcg@20"] for row in block[:count]}
        (best,) = [row for row in block if row.is_rival]
        assert best.name == max(scores, key=scores.__getitem__)
        assert (best.rival, best.tested) == (None, None)
        others = [row for row in block if row is not best]
        assert {row.rival for row in others} == {best.name}
        own = [paired_test(row.metrics, best.metrics) for row in others]
        assert [row.tested.test for row in others] == own
        raw += own
    adjusted = holm([test.p_value for test in raw])
    assert [row.tested.p_holm for row in rows if row.tested] == adjusted


def test_rows_are_told_as_they_come_also_when_it_goes_on(runner, caplog):
    for _ in range(2):  # the second time all are read
        caplog.clear()
        with caplog.at_level(logging.INFO, "ddrm_pyg"):
            rows = compare(runner, {"mf": [mf(0)]})
        lines = [line for line in caplog.messages if "test NDCG@20" in line]
        expected = {f"{r.name}: test NDCG@20 {r.metrics['ndcg@20']:.4f}" for r in rows}
        assert {*lines} == expected
        assert lines[-1].startswith("mf: ")


def test_no_order_has_no_order_aware_rows(data, tmp_path, caplog):
    plain = data.clone()
    del plain[EDGE].edge_time
    rows = compare(Runner(plain, tmp_path, progress=False), {"past": [past()]})
    assert [row.name for row in rows] == [*yardsticks()]
    assert "past is left out: it reads an order that nothing tells" in caplog.text
    plain[EDGE].in_order = True
    rows = compare(Runner(plain, tmp_path, progress=False), {})
    names = [*yardsticks(), *yardsticks(order_aware=True)]
    assert [row.name for row in rows] == names


def test_nothing_picks_how_fast_histories_fade_without_validation(
    data, tmp_path, caplog
):
    short = data.clone()
    short[EDGE].val_edge_label_index = torch.empty(2, 0, dtype=torch.int64)
    rows = compare(Runner(short, tmp_path, progress=False), {})
    assert [row.name for row in rows] == [*yardsticks()]
    assert "no validation split: nothing picks how fast" in caplog.text


def test_order_plugs_in_what_learns_from_it_beside_the_published(data):
    methods = {"mf": [mf(0), mf(1)], "mf+ddrm": [ddrm(0), ddrm(1)]}
    rows = with_default_ddrm(methods, data, epochs=3)
    assert list(rows) == ["mf", "mf+ddrm", "mf+ddrm, published"]
    assert rows["mf+ddrm, published"] == methods["mf+ddrm"]
    for seed, cell in enumerate(rows["mf+ddrm"]):
        assert cell == default_ddrm(mf(seed), data, seed=seed, epochs=3)
        assert starts_from_past(cell)
    plain = data.clone()
    del plain[EDGE].edge_time
    assert with_default_ddrm(methods, plain) == methods


def test_seeds_are_averaged_user_by_user(runner):
    rows = compare(runner, {"mf": [mf(0), mf(1)]})
    (row,) = [row for row in rows if row.name == "mf"]
    a, b = (runner.run(mf(seed)).test for seed in (0, 1))
    mean = (a.per_user["ndcg@20"] + b.per_user["ndcg@20"]) / 2
    assert torch.allclose(row.metrics.per_user["ndcg@20"], mean)
    assert row.metrics["coverage@20"] == pytest.approx(
        (a["coverage@20"] + b["coverage@20"]) / 2
    )
    spread = abs(a["recall@10"] - b["recall@10"]) / math.sqrt(2)  # n - 1
    assert row.deviation("recall@10") == pytest.approx(spread)
    assert row.record()["seeds"] == [0, 1]


def test_costs_include_what_a_row_starts_from(runner):
    rows = compare(runner, {"mf+ddrm": [ddrm()]})
    (row,) = [row for row in rows if row.name == "mf+ddrm"]
    base, last = runner.run(mf()), runner.run(ddrm())
    assert row.cost.seconds == pytest.approx(base.seconds + last.seconds)
    assert row.cost.peak_memory == max(base.peak_memory, last.peak_memory)
    assert base.num_parameters == (60 + 80) * 4
    assert row.cost.num_parameters == base.num_parameters + last.num_parameters


def test_what_a_closed_form_is_the_base_of_counts_what_is_trained(runner):
    svd = Cell("svd", model={"embedding_dim": 4})
    cell = replace(ddrm(), base=svd)
    rows = compare(runner, {"svd+ddrm": [cell]})
    (row,) = [row for row in rows if row.name == "svd+ddrm"]
    assert row.cost.num_parameters == runner.run(cell).num_parameters > 0


def test_closed_forms_train_nothing_and_have_one_result(runner):
    for row in compare(runner, {}):
        assert row.cost.num_parameters is None
        assert row.deviation("ndcg@20") is None
        assert row.record()["seeds"] == []


def test_interrupted_comparison_goes_on_with_the_missing_method(
    data, tmp_path, monkeypatch
):
    methods = {"mf": [mf()], "mf+ddrm": [ddrm()]}
    straight = compare(Runner(data, tmp_path / "a", progress=False), methods)
    ran = []
    train = Runner.train

    def stop_at_ddrm(self, cell, model):
        ran.append(cell.method)
        if cell.method == "ddrm" and len(ran) < 3:
            raise KeyboardInterrupt
        return train(self, cell, model)

    monkeypatch.setattr(Runner, "train", stop_at_ddrm)
    with pytest.raises(KeyboardInterrupt):
        compare(Runner(data, tmp_path / "b", progress=False), methods)
    resumed = compare(Runner(data, tmp_path / "b", progress=False), methods)
    assert ran == ["mf", "ddrm", "ddrm"]
    for ours, theirs in zip(resumed, straight, strict=True):
        assert dict(ours.metrics) == dict(theirs.metrics)


def test_what_does_not_fit_is_left_out_and_said(runner, monkeypatch, caplog):
    monkeypatch.setattr(memory, "free_memory", lambda _: 7 * 80**2)
    rows = compare(runner, {})
    assert [row.name for row in rows] == ["popularity", "item_knn", "item_knn+recency"]
    assert "ease is left out: ease on 60 users and 80 items needs about" in caplog.text


def test_what_lacks_its_extra_is_left_out_and_said(runner, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    groups = Cell("ldiffrec", 0, {"latent_dim": 4}, FIT, mf())
    rows = compare(runner, {"mf": [mf()], "ldiffrec": [groups]})
    names = [*yardsticks(), "mf", *yardsticks(order_aware=True)]
    assert [row.name for row in rows] == names
    assert "ldiffrec is left out: group_items needs scikit-learn" in caplog.text


NOTHING = Cost(0, 0, None)


@pytest.fixture
def row(make_result):
    """Makes a row that was tested."""

    def make(name, difference, relative, p, method="mf"):
        test = CorrectedTest(PairedTest(difference, relative, p, 9), p)
        results = [make_result([0.5], method)]
        return Comparison(name, results, NOTHING, rival="ease", tested=test)

    return make


@pytest.fixture
def yardstick(make_result):
    """Makes a row that the others of its block are tested against."""

    def make(name):
        return Comparison(name, [make_result([0.5], name)], NOTHING, is_rival=True)

    return make


def test_verdict_needs_significance_and_a_percent(row, yardstick):
    ease = yardstick("ease")
    rows = [
        ease,
        row("better", 0.1, 0.011, 0.009),
        row("better, but not by much", 0.1, 0.009, 0.001),
        row("better, perhaps", 0.1, 0.5, 0.011),
        row("worse", -0.1, -0.5, 0.001),
        row("better than nothing", 0.1, math.nan, 0.001),
    ]
    words = {
        "yardstick": "ease",
        "above": ["better", "better than nothing"],
        "below": ["worse"],
    }
    assert verdict(rows) == {**words, "order_aware": None}
    aware = [yardstick("ease+recency"), row("past", -0.1, -0.5, 0.001, "sasrec")]
    assert verdict([*rows, *aware]) == {
        **words,
        "order_aware": {"yardstick": "ease+recency", "above": [], "below": ["past"]},
    }


def test_a_row_without_a_yardstick_is_neither_above_nor_below(make_result, yardstick):
    alone = Comparison("past", [make_result([0.5], "sasrec")], NOTHING)
    ease = yardstick("ease")
    assert verdict([ease, alone])["order_aware"] is None
    assert verdict([ease, alone])["above"] == []


def test_claims_follow_from_what_is_known(data):
    assert cannot_say(data) == []
    plain = data.clone()
    del plain[EDGE].edge_is_noise
    assert len(cannot_say(plain)) == 2
    assert "meant to take" in cannot_say(plain)[0]
    del plain[EDGE].edge_time
    assert any("no times" in sentence for sentence in cannot_say(plain))
    plain[EDGE].in_order = True
    assert len(cannot_say(plain)) == 2


@pytest.fixture
def compared(make_result) -> list[Comparison]:
    several = [
        replace(make_result(ndcg), cell=Cell("mf", seed), best_epoch=9)
        for seed, ndcg in enumerate(([0.2, 0.4], [0.4, 0.6]))
    ]
    one = [make_result([0.1, 0.3])]
    tests = {
        "popularity": CorrectedTest(PairedTest(-0.1, -1 / 3, 0.5, 2), 1.0),
        "mf": CorrectedTest(PairedTest(0.1, 1 / 3, 0.004, 2), 0.0123),
        "from nothing": CorrectedTest(PairedTest(0.3, math.nan, 0.004, 2), 0.0),
    }
    return [
        Comparison(
            name,
            results,
            cost,
            is_rival=name == "ease",
            rival="ease" if name in tests else None,
            tested=tests.get(name),
        )
        for name, results, cost in (
            ("popularity", one, Cost(0.26, 3 << 20, None)),
            ("ease", [make_result([0.3, 0.3], coverage=1.0)], Cost(1, 0, None)),
            ("mf", several, Cost(12.34, 5 << 20, 640)),
            ("from nothing", one, Cost(0, 0, 7)),
        )
    ]


def test_table_is_as_people_see_it(compared, golden):
    # means of .3 and .5: deviation .2 / sqrt(2)
    (table,) = as_tables(compared)
    assert table.text() + "\n" == golden("compare.txt")


def test_each_block_has_its_own_table_and_stars(compared):
    *free, last = compared
    aware = [replace(last.result, cell=Cell("sasrec"))]
    free_table, aware_table = as_tables([*free, replace(last, results=aware)])
    assert free_table.title == "order-free: knows who took what"
    assert aware_table.title == "order-aware: knows in which order, too"
    assert [row[0] for row in free_table.rows] == ["popularity", "ease", "mf"]
    (row,) = aware_table.rows
    assert row[:2] == ["from nothing", "0.1400*"]  # the best of those it stands beside
    assert (len(free_table.notes), len(aware_table.notes)) == (0, 5)  # once, below


def test_frame_is_the_records(compared):
    frame = to_frame(compared)
    records = [row.record() for row in compared]
    assert list(frame.columns) == list(records[0])[1:]
    assert frame.loc["mf", "ndcg@20"] == records[2]["ndcg@20"] == pytest.approx(0.4)
    assert frame.loc["mf", ["seeds", "best_epoch", "against"]].tolist() == [
        *("0 1", "9 9", "ease")
    ]
    again = pd.read_csv(io.StringIO(frame.to_csv()), index_col="name")
    assert again["p_holm"].dropna().tolist() == [1.0, 0.0123, 0.0]
    assert "640," in frame.to_csv()  # a whole number, though others have none
