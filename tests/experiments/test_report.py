"""Tables and plots for people."""

from __future__ import annotations

import math
import sys

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from ddrm_pyg.experiments import report
from ddrm_pyg.experiments.compare import Comparison, Cost
from ddrm_pyg.experiments.plug_in import Row
from ddrm_pyg.experiments.report import (
    COLUMNS,
    _draw_bars,
    _draw_training,
    format_comparison,
    format_table,
    plot_comparison,
    plot_curves,
)
from ddrm_pyg.significance import PairedTest

HISTORY = [
    {"epoch": 1, "loss": 0.7},
    {"epoch": 2, "loss": 0.5, "recall@20": 0.3, "ndcg@20": 0.2},
    {"epoch": 3, "loss": 0.4},
    {"epoch": 4, "loss": 0.3, "recall@20": 0.2, "ndcg@20": 0.3},
]


@pytest.fixture
def rows(make_result) -> list[Row]:
    return [
        Row("popularity", make_result([0.0, 0.2], coverage=0.25)),
        Row("mf", make_result([0.4, 0.2], history=HISTORY, best_epoch=2)),
        Row("a row with quite a long name", make_result([0.1, 0.1], coverage=1.0)),
        Row("ddrm", make_result([0.2, 0.4], history=HISTORY[:2], best_epoch=2)),
    ]


def test_table_is_aligned(rows):
    head, *lines = format_table(rows).splitlines()
    assert head.split() == ["R@10", "R@20", "N@10", "N@20", "coverage"]
    ends = [head.index(name) + len(name) for name in head.split()]
    assert len(lines) == len(rows)
    for row, line in zip(rows, lines, strict=True):
        assert line.startswith(row.name)
        assert line == line.rstrip()
        for column, end in zip(COLUMNS, ends, strict=True):
            assert line[end - 6 : end] == f"{row.result.test[column]:.4f}"
            assert line[end - 7] == " "


def test_best_of_a_column_is_starred_ties_included(rows):
    lines = format_table(rows).splitlines()[1:]
    assert [line.count("*") for line in lines] == [0, 4, 1, 4]
    assert lines[2].endswith("1.0000*")


def test_table_of_one_row(make_result):
    assert format_table([Row("x", make_result([0.0]))]).count("*") == 5


@pytest.fixture
def compared(make_result) -> list[Comparison]:
    several = [make_result([0.2, 0.4]), make_result([0.4, 0.6])]
    mf = PairedTest(0.1, 1 / 3, 0.004, 2)
    popularity = PairedTest(-0.1, -1 / 3, 0.5, 2)
    nothing = PairedTest(0.3, math.nan, 0.004, 2)
    one = [make_result([0.1, 0.3])]
    return [
        Comparison(
            "popularity", one, Cost(0.26, 3 << 20, None), "ease", popularity, 1.0
        ),
        Comparison("ease", [make_result([0.3, 0.3], coverage=1.0)], Cost(1, 0, None)),
        Comparison("mf", several, Cost(12.34, 5 << 20, 640), "ease", mf, 0.0123),
        Comparison("from nothing", one, Cost(0, 0, 7), "ease", nothing, 0.0),
    ]


def test_comparison_by_hand(compared):
    head, *lines = format_comparison(compared).splitlines()
    titles = ["R@10", "R@20", "N@10", "N@20", "coverage", "popularity"]
    titles += ["train s", "peak MB", "parameters", "sd N@20", "gain", "p Holm"]
    ends = [head.index(title) + len(title) for title in titles]
    starts = [12, *ends]

    def cells(line):
        # a column ends with its title, but for a star of its own
        return [line[a:b].strip(" *") for a, b in zip(starts, ends, strict=False)]

    plain, ease, mf, nothing = map(cells, lines)
    assert plain[3:] == [
        *("0.2000", "0.5000", "200", "0.3", "3", "-", "", "-33.3%", "1.0000"),
    ]
    assert ease[3:6] == ["0.3000", "1.0000", "300"]
    assert ease[10:] == ["yardstick", ""]
    # means of .3 and .5: sd .2 / sqrt(2)
    assert mf == [
        *("0.2800", "0.3111", "0.3500", "0.4000", "0.5000", "400"),
        *("12.3", "5", "640", "0.1414", "+33.3%", "0.0123"),
    ]
    assert nothing[10:] == ["up from 0", "0.0000"]
    assert [line.count("*") for line in lines] == [0, 1, 4, 0]


def test_comparison_is_drawn_with_its_yardstick(compared, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(report, "write_figure", lambda figure, _: drawn.append(figure))
    plot_comparison(compared, tmp_path / "c.png")
    ndcg, recall = drawn[0].axes
    assert [bar.get_width() for bar in ndcg.patches] == pytest.approx(
        [0.2, 0.3, 0.4, 0.2]
    )
    (line,) = ndcg.lines[-1:]
    assert list(line.get_xdata()) == pytest.approx([0.3, 0.3])
    assert recall.get_xlabel() == "Recall@20"
    trained = [bar.get_facecolor() for bar in ndcg.patches]
    assert trained[2] == trained[3] != trained[0] == trained[1]


def test_curves_are_a_picture_of_sane_size(rows, tmp_path):
    plot_curves(rows, tmp_path / "curves.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    assert 20_000 < (tmp_path / "curves.png").stat().st_size < 300_000
    picture = matplotlib.image.imread(tmp_path / "curves.png")
    assert picture.shape[:2] == (630, 1650)
    left, right = np.array_split(picture[..., :3], 2, axis=1)
    for half in (left, right):
        assert (half < 0.5).any()  # something is drawn
        assert (half[:, -1] > 0.99).all() or half is left  # and nothing is cut off


@pytest.mark.parametrize("history", [(), HISTORY[:1]], ids=["untrained", "no values"])
def test_curves_without_validation(make_result, tmp_path, history):
    rows = [Row("mf", make_result([0.1, 0.2], history=history, best_epoch=1))]
    plot_curves(rows, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_curves_of_nothing_found(make_result, tmp_path):
    plot_curves([Row("mf", make_result([0.0, 0.0]))], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()


@pytest.fixture
def axes():
    return Figure().subplots()


def test_curve_is_of_the_metric_that_selects(rows, axes):
    _draw_training(axes, [rows[1]], {"mf": "C0"})
    curve, star = axes.lines
    assert curve.get_xydata().tolist() == [[2, 0.3], [4, 0.2]]  # recall@20
    assert star.get_xydata().tolist() == [[2, 0.3]]
    assert curve.get_label() == "mf (Recall@20)"
    assert axes.get_xlabel() == "epoch"
    assert axes.get_ylabel() == "validation metric"


def test_bars_have_means_and_intervals(rows, axes):
    _draw_bars(axes, [(r.name, r.result.test) for r in rows], "ndcg@20", {})
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(
        [0.1, 0.3, 0.1, 0.3]
    )
    assert [text.get_text() for text in axes.texts] == ["0.1000", "0.3000"] * 2
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        r.name for r in rows
    ]
    assert axes.get_xlabel() == "NDCG@20"


def test_drawing_leaves_pyplot_alone(rows, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it fails
    plot_curves(rows, tmp_path / "curves.png")
