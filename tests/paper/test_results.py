"""The numbers of a table, by hand and by scipy, and Table 1 by counting."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ddrm_pyg.datasets.synthetic import SyntheticInteractions
from ddrm_pyg.experiments import sources
from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.paper.execute import Benches, carry_out, collect, jobs
from ddrm_pyg.paper.outline import (
    AS_IS,
    LIKED,
    Block,
    Condition,
    Line,
    Plan,
    Request,
)
from ddrm_pyg.paper.published import published
from ddrm_pyg.paper.results import (
    BlockResult,
    Change,
    LineResult,
    Reproduction,
    count,
    kept_cells,
    measure,
    measure_block,
)
from ddrm_pyg.ranking import METRICS

TABLES = Path(__file__).resolve().parents[2] / "docs" / "tables"
SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
USERS = np.random.default_rng(0).random(30)
SEEDS = (Cell("mf", 0), Cell("mf", 1))


@pytest.fixture
def result(make_result):
    def make(ndcg, seed=0, method="mf", notes=None):
        made = make_result(list(ndcg), method)
        cell = Cell(method, seed)
        return dataclasses.replace(made, cell=cell, notes=notes or {})

    return make


def measured(lines, results, what="table2", data="ml-1m", axis=None):
    return measure_block(Block("t", tuple(lines), axis), results, what, data).lines


def test_means_and_deviations_are_over_seeds(result):
    results = [result([0.1, 0.3]), result([0.3, 0.5], seed=1)]
    (line,) = measured([Line("mf", SEEDS)], [results])
    assert line.mean["ndcg@20"] == pytest.approx(0.3)
    assert line.deviation["ndcg@20"] == pytest.approx(0.2 / np.sqrt(2))
    assert (line.seeds, line.run, line.asked) == ([0, 1], 2, 2)
    assert line.mean_over("ndcg@20", [1]) == pytest.approx(0.4)


def test_stars_are_scipys_and_holms(result):
    noise = np.random.default_rng(1).normal(size=(3, 30))
    shifts = (0.1, 0.0, -0.2)
    rows = [USERS + a + 0.05 * b for a, b in zip(shifts, noise, strict=True)]
    lines = [Line("mf", SEEDS)]
    lines += [Line(name, SEEDS, "mf") for name in ("up", "even", "down")]
    results = [[result(USERS), result(USERS + 0.1, seed=1)]]
    results += [[result(row), result(row + 0.1, seed=1)] for row in rows]
    records = measured(lines, results)
    p = [stats.ttest_rel(row, USERS).pvalue for row in np.float32(rows)]
    # each of the three is tested on four metrics that are multiples of one another
    twelve = sorted([value for value in p for _ in METRICS])
    for record, value in zip(records[1:], p, strict=True):
        place = twelve.index(value)
        running = max(v * (12 - i) for i, v in enumerate(twelve[: place + 1]))
        p_holm = record.tests["ndcg@20"].p_holm
        assert p_holm == pytest.approx(min(running, 1), rel=1e-2)
    starred = [record.is_starred("ndcg@20") for record in records]
    assert starred == [False, True, False, False]
    assert records[3].tests["ndcg@20"].is_significant  # worse is no star


def test_only_seeds_that_both_have_are_tested(result):
    lines = [Line("mf", SEEDS), Line("+", SEEDS, "mf")]
    results = [
        [result(USERS), result(USERS + 9, seed=1)],
        [result(USERS + 1), None],
    ]
    line = measured(lines, results)[1]
    assert line.tests["ndcg@20"].difference == pytest.approx(1)
    assert (line.run, line.asked) == (1, 2)
    results[1] = [None, "ValueError: no"]
    line = measured(lines, results)[1]
    assert (line.tests, line.mean, line.deviation) == ({}, {}, {})
    assert line.failed == ["ValueError: no"]


def test_points_of_a_curve_are_tested_at_their_place(result):
    lines = [
        *(Line("mf", SEEDS[:1], at=0.0), Line("mf", SEEDS[:1], at=0.1)),
        *(Line("+", SEEDS[:1], "mf", at=0.0), Line("+", SEEDS[:1], "mf", at=0.1)),
    ]
    results = [[result(USERS + x)] for x in (0, 1, 5, 7)]
    points = measured(lines, results, "figure3", axis="noise")[2:]
    differences = [point.tests["ndcg@20"].difference for point in points]
    assert differences == pytest.approx([5, 6])


def test_the_paper_stands_beside_and_fills_nothing(result):
    ours, missing = measured(
        [Line("mf", SEEDS), Line("ease", (Cell("ease"),))], [[result([0.0612])], [None]]
    )
    assert ours.paper == published("table2", "mf", "ml-1m")
    assert ours.gap["ndcg@20"] == pytest.approx(0.0612 / 0.0582 - 1)
    assert ours.misses
    assert (missing.mean, missing.paper, missing.gap) == ({}, {}, {})
    assert not missing.misses
    (own,) = measured([Line("mf", SEEDS)], [[result([0.1])]], data=None)
    assert own.paper == {}
    assert not own.misses


def test_picked_depths_are_told(result):
    results = [result([0.1], notes={"num_layers": 5}), result([0.1], 1)]
    (line,) = measured([Line("mf best depth", SEEDS)], [results])
    assert line.depths == [5]


@pytest.mark.parametrize(
    ("best", "epochs", "val", "seeds"),
    [(30, 30, 0.1, [2]), (29, 30, 0.1, []), (30, 30, None, []), (None, None, 0.1, [])],
)
def test_only_what_the_last_epoch_won_was_cut(result, best, epochs, val, seeds):
    cell = Cell("mf", 2, fit={"epochs": epochs} if epochs else {})
    val = {} if val is None else dict.fromkeys(METRICS, val)
    one = dataclasses.replace(result([0.1]), cell=cell, best_epoch=best, val=val)
    (line,) = measured([Line("mf", (cell,))], [[one]])
    assert line.best_at_end == seeds


def test_seeds_are_those_of_what_a_line_starts_from(result):
    mean = Cell("history_mean", base=Cell("mf", 4))
    results = [dataclasses.replace(result([0.1]), cell=mean)]
    (line,) = measured([Line("mf history mean", (mean,))], [results])
    assert line.seeds == [4]


def test_cells_to_commit_are_small(result):
    base = Cell("mf", 4)
    derived = dataclasses.replace(result([0.25]), cell=Cell("history_mean", base=base))
    ddrm = Cell("ddrm", 4, base=base)
    lines = (
        Line("ease", (Cell("ease"),)),
        Line("mf history mean", (derived.cell, derived.cell)),
        Line("mf", (base,), at=0.1, condition=Condition(noise_ratio=0.1)),
        Line("mf+ddrm", (ddrm,), at=0.1),
    )
    results = [
        [result([0.5], None, "ease")],
        [derived, None],
        [result([0.5], 4)],
        [dataclasses.replace(result([0.5]), cell=ddrm)],
    ]
    block = Block("t", lines, "gamma")

    def kept(plan):
        request = Request("figure6", Source("world"), plan)
        return kept_cells(request, [block], [results])

    cells = kept(Plan())
    assert [tuple(cell)[:4] for cell in cells] == [
        ("ease", "world", None, None),
        ("mf history mean", "world", 4, "noisy validation"),
        ("mf", "world, random noise 0.1", 4, "noisy validation"),
        ("mf+ddrm, gamma 0.1", "world", 4, "noisy validation"),
    ]
    assert cells[1].metrics["ndcg@20"] == 0.25
    assert tuple(cells[0].metrics) == METRICS
    other = [cell.method for cell in kept(Plan(ddrm_settings="a/quick.json"))]
    assert other == [*("ease", "mf history mean", "mf"), "mf+ddrm, gamma 0.1, quick"]


def test_json_gives_back_what_was_measured():
    line = LineResult(
        "mf",
        asked=2,
        seeds=[0, 1],
        values={"ndcg@20": [0.1, 0.3]},
        paper={"ndcg@20": 0.25},
        tests={"ndcg@20": Change(0.1, 0.02)},
        cell={"method": "mf"},
    )
    record = line.to_json()
    assert (record["run"], record["mean"]) == (2, {"ndcg@20": 0.2})
    assert record["tests"] == {"ndcg@20": {"difference": 0.1, "p_holm": 0.02}}
    assert LineResult.from_json(json.loads(json.dumps(record))) == dataclasses.replace(
        line, failed=[], depths=[], best_at_end=[]
    )
    assert "cell" not in dataclasses.replace(line, cell=None).to_json()


@pytest.mark.parametrize("path", sorted(TABLES.glob("*.json")), ids=lambda p: p.stem)
def test_the_repositorys_tables_are_read_and_written_as_they_are(path):
    record = json.loads(path.read_text())
    again = Reproduction.from_json(record).to_json()
    assert json.dumps(again, indent=1) + "\n" == path.read_text()


@pytest.fixture
def benches(tmp_path, monkeypatch):
    data = SyntheticInteractions(50, 80, 1000)[0]
    monkeypatch.setitem(sources.NAMED, "synthetic", data.clone)
    return Benches(Source("synthetic"), tmp_path, progress=False)


def reproduced(benches, blocks, plan=None, what="table2"):
    request = Request(what, benches.source, plan or Plan())
    failed = carry_out(jobs(blocks), benches)
    results = [[collect(line, benches, failed) for line in b.lines] for b in blocks]
    return measure(request, blocks, results, benches)


def test_a_reproduction_holds_what_pages_need(benches):
    ease = Cell("ease")
    blocks = [
        Block("one", (Line("ease", (ease,)),)),
        Block("two", (Line("ease", (ease,), condition=LIKED),)),
    ]
    table = reproduced(benches, blocks, Plan("ml-1m"))
    assert (table.what, table.data) == ("table2", "synthetic")
    assert (table.settings, table.ddrm_settings) == ("ml-1m", None)
    command = "ddrm-pyg reproduce table2 --data synthetic --settings-of ml-1m --seeds 3"
    assert (table.command, table.statistics) == (command, None)
    assert [block.title for block in table.blocks] == ["one", "two"]
    assert [line.condition for line in table.lines] == [AS_IS.name, LIKED.name]
    assert table.fingerprints == {
        condition.name: benches[condition].fingerprint for condition in (AS_IS, LIKED)
    }
    assert {"python", "torch", "ddrm_pyg"} <= table.versions.keys()
    # no default is left to be guessed
    assert table.lines[0].cell["model"]["l2"] == 1000
    json.dumps(table.to_json(), allow_nan=False)


def test_other_settings_of_ddrm_say_what_they_are(benches, tmp_path):
    table = reproduced(benches, [], Plan(ddrm_settings="ddrm_quick"))
    assert table.ddrm_settings.startswith("ddrm_quick: networks of a fifth")
    path = tmp_path / "mine.json"
    path.write_text('{"model": {}, "fit": {}}')
    table = reproduced(benches, [], Plan(ddrm_settings=str(path)))
    assert table.ddrm_settings == "mine: settings of a file"


def test_table_1_has_statistics_and_the_data_as_they_are(benches):
    table = reproduced(benches, [], what="table1")
    assert table.statistics.measured["N"]["users"] == 50
    assert table.fingerprints == {AS_IS.name: benches[AS_IS].fingerprint}


def test_a_block_is_empty_until_something_was_tried(make_line):
    empty = [make_line("mf"), make_line("sgl", paper=0.1)]
    assert BlockResult("t", None, empty).is_empty
    for more in (make_line("mf", 0.1), make_line("mf", failed=["no"])):
        assert not BlockResult("t", None, [*empty, more]).is_empty


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


def test_both_columns_of_table1_are_counted(natural):
    statistics = count(natural)
    assert statistics.measured["N"]["interactions"] == 6
    assert statistics.measured["R"]["interactions"] == 5
    assert statistics.paper["N"] == {
        **{"users": 5949, "items": 3494},
        "interactions": 618297,
    }


def test_only_natural_noise_is_counted_as_such(natural, monkeypatch):
    folder = Path(natural.data).parent
    monkeypatch.chdir(folder)
    (folder / "random").mkdir()
    for path in (folder / "natural").iterdir():
        (folder / "random" / path.name).write_bytes(path.read_bytes())
    for noise in ("clean", "random", str(folder / "clean")):
        measured = count(Source(noise)).measured
        assert {n: summary["interactions"] for n, summary in measured.items()} == {
            "R": 5
        }
    assert count(Source("natural")).measured.keys() == {"N", "R"}


@pytest.mark.dataset
@pytest.mark.skipif(
    not SHARED.is_dir(), reason="../shared/data is not here; it is not distributed"
)
def test_published_ml_1m_is_table1():
    statistics = count(Source(str(SHARED / "ml-1m" / "natural")))
    for noise, counts in statistics.paper.items():
        measured = statistics.measured[noise]
        assert {name: measured[name] for name in counts} == counts
