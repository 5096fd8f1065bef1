"""What is drawn, looked at before it becomes a picture."""

from __future__ import annotations

import io
import sys

import matplotlib.image
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from torch_geometric.data import HeteroData

from ddrm_pyg.experiments.compare import Comparison, Cost
from ddrm_pyg.experiments.methods import METHODS, names_of
from ddrm_pyg.experiments.plots import (
    COLOURS,
    RIVAL,
    YARDSTICK,
    Group,
    Mark,
    audit_panels,
    cleaning_panels,
    colour_of,
    comparison_panels,
    plot_groups,
    plot_panels,
    run_panels,
    to_pictures,
    to_png,
    write_png,
)
from ddrm_pyg.experiments.plug_in import WITHOUT
from ddrm_pyg.experiments.tables import CorrectedTest, Row
from ddrm_pyg.graph.interaction_graph import EDGE
from ddrm_pyg.noise_audit import audit
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
        Row("popularity", [make_result([0.0, 0.2], "popularity")]),
        Row("mf", [make_result([0.4, 0.2], history=HISTORY, best_epoch=2)]),
        Row("a row with quite a long name", [make_result([0.1, 0.1])]),
        Row("ddrm", [make_result([0.2, 0.4], "ddrm", HISTORY[:2], best_epoch=2)]),
    ]


def drawn(panels):
    return plot_panels(panels, (11, 4.2)).axes


def widths(axes):
    return [bar.get_width() for bar in axes.patches]


def labels(axes):
    return [text.get_text() for text in axes.get_yticklabels()]


def test_ddrm_is_orange_and_every_method_keeps_its_colour():
    assert to_rgb(COLOURS["ddrm"]) == to_rgb("C1")
    assert len(set(COLOURS.values())) == len(COLOURS)
    assert {*names_of("backend", "denoiser"), *WITHOUT} < {*COLOURS} < {*METHODS}
    for method in METHODS:
        assert colour_of(method) == colour_of(f"mf+{method}")
    assert colour_of("lightgcn+t-ce") == COLOURS["t-ce"] != colour_of("lightgcn")
    assert (colour_of("cdae"), colour_of("ease", trained=False)) == (RIVAL, YARDSTICK)


def test_curve_is_of_the_metric_that_selects(rows):
    curves, _ = drawn(run_panels(rows[:2]))
    curve, star = curves.lines
    assert curve.get_xydata().tolist() == [[2, 0.3], [4, 0.2]]  # recall@20
    assert star.get_xydata().tolist() == [[2, 0.3]]
    assert curve.get_label() == "mf (Recall@20)"
    assert (curves.get_xlabel(), curves.get_ylabel()) == ("epoch", "validation metric")


def test_bars_have_means_and_intervals(rows):
    curves, bars = drawn(run_panels(rows))
    assert widths(bars) == pytest.approx([0.1, 0.3, 0.1, 0.3])
    assert [text.get_text() for text in bars.texts] == ["0.1000", "0.3000"] * 2
    assert labels(bars) == [row.name for row in rows]
    assert bars.get_xlabel() == "NDCG@20"
    # half of the interval over two users .2 and .4: 1.96 * .1 / sqrt(2)
    whisker = bars.containers[-1].errorbar[2][0].get_segments()[0][:, 0]
    assert np.ptp(whisker) / 2 == pytest.approx(1.96 * 0.1 / np.sqrt(2))
    colours = [bar.get_facecolor()[:3] for bar in bars.patches]
    assert colours[3] == to_rgb(COLOURS["ddrm"]) == to_rgb(curves.lines[-1].get_color())


COST = Cost(1, 0, None)


def test_comparison_is_drawn_with_its_yardsticks(make_result):
    test = CorrectedTest(PairedTest(0.1, 1 / 3, 0.004, 2), 0.0123)
    several = [make_result([0.2, 0.4]), make_result([0.4, 0.6])]
    rows = [
        Comparison("ease", [make_result([0.3, 0.3], "ease")], COST, is_rival=True),
        Comparison("mf", several, COST, rival="ease", tested=test),
        Comparison(
            "ease+recency", [make_result([0.6, 0.6], "ease+recency")], COST, True
        ),
    ]
    ndcg, recall = drawn(comparison_panels(rows))
    assert widths(ndcg) == pytest.approx([0.3, 0.4, 0.6])
    free, aware = (line for line in ndcg.lines if line.get_linestyle() == "--")
    assert list(free.get_xdata()) == pytest.approx([0.3, 0.3])
    assert list(free.get_ydata()) == [0.5, 2.5]  # along its own rows alone
    assert list(aware.get_xdata()) == pytest.approx([0.6, 0.6])
    assert list(aware.get_ydata()) == [-0.5, 0.5]
    assert recall.get_xlabel() == "Recall@20"


def test_cleaning_is_drawn_choice_by_choice(make_result):
    results = {"plain": make_result([0.2, 0.4]), "cleaned": make_result([0.4, 0.6])}
    (bars,) = drawn(cleaning_panels(results))
    assert widths(bars) == pytest.approx([0.3, 0.5])
    assert labels(bars) == ["plain", "cleaned"]


def test_audit_is_drawn_by_hand():
    data = HeteroData()
    data["user"].num_nodes = data["item"].num_nodes = 2
    data[EDGE].edge_index = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1]])
    data[EDGE].edge_is_noise = torch.tensor([True, False, True, False])
    signals = {"a": torch.tensor([3.0, 1.0, 2.0, 0.0])}
    noise = data[EDGE].edge_is_noise
    precision, auroc = drawn(audit_panels(audit(signals, data), noise))
    # the two noisiest are noise, the others are not
    assert precision.lines[0].get_ydata()[[0, 99, 149, 199]] == pytest.approx(
        [1, 1, 2 / 3, 1 / 2]
    )
    assert labels(auroc) == ["a", "combined"]
    # orange is DDRM's
    colours = {to_rgb(line.get_color()) for line in precision.lines}
    assert to_rgb(COLOURS["ddrm"]) not in colours


def picture(figure):
    return matplotlib.image.imread(io.BytesIO(to_png(figure)))[..., :3]


def test_curves_are_a_picture_of_sane_size(rows, tmp_path):
    write_png(tmp_path / "curves.png", plot_panels(run_panels(rows), (11, 4.2)))
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    assert 20_000 < (tmp_path / "curves.png").stat().st_size < 300_000
    pixels = matplotlib.image.imread(tmp_path / "curves.png")[..., :3]
    assert pixels.shape[:2] == (630, 1650)
    left, right = np.array_split(pixels, 2, axis=1)
    for half in (left, right):
        assert (half < 0.5).any()  # something is drawn
    assert (right[:, -1] > 0.99).all()  # and nothing is cut off


@pytest.mark.parametrize("history", [(), HISTORY[:1]], ids=["untrained", "no values"])
def test_curves_without_validation(make_result, history):
    rows = [Row("mf", [make_result([0.1, 0.2], history=history, best_epoch=1)])]
    curves, _ = drawn(run_panels(rows))
    assert [text.get_text() for text in curves.texts] == ["no validation split"]


def test_each_panel_is_a_picture_for_a_phone(rows):
    pictures = to_pictures(run_panels(rows), 3.0)
    assert list(pictures) == ["training", "NDCG@20"]
    for png in pictures.values():
        assert matplotlib.image.imread(io.BytesIO(png)).shape[:2] == (660, 1012)


def test_nothing_found_is_drawn_too(make_result):
    rows = [Row("mf", [make_result([0.0, 0.0])])]
    assert np.ptp(picture(plot_panels(run_panels(rows), (11, 4.2)))) > 0.5


def test_drawing_leaves_pyplot_alone(rows, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it fails
    to_png(plot_panels(run_panels(rows), (11, 4.2)))


PLAIN, OURS = COLOURS["mf"], COLOURS["ddrm"]


def block(*marks, title="t", axis=None):
    return Group(title, axis, {"recall@20": marks, "ndcg@20": marks})


def test_rows_are_bars_and_the_paper_diamonds():
    marks = [Mark("mf", PLAIN, 0.1, paper=0.3), Mark("ease", YARDSTICK, 0.4)]
    left, right = plot_groups([block(*marks)]).axes
    assert (left.get_xlabel(), right.get_xlabel()) == ("Recall@20", "NDCG@20")
    # from top to bottom
    assert [(bar.get_width(), bar.get_y() + 0.4) for bar in left.patches] == [
        (0.1, 1.0),
        (0.4, 0.0),
    ]
    diamonds = [x for x in left.lines if x.get_marker() == "D"]
    assert [(d.get_xdata()[0], d.get_ydata()[0]) for d in diamonds] == [(0.3, 1)]
    assert labels(left) == ["mf", "ease"]


def test_bars_of_another_block_are_below():
    marks = [Mark("mf", PLAIN, 0.1), Mark("mf+ddrm", OURS, 0.2)]
    figure = plot_groups([block(*marks), block(Mark("mf", PLAIN, 0.4), title="u")])
    for above, below in zip(figure.axes[:2], figure.axes[2:], strict=True):
        assert above.get_xlim() == below.get_xlim()
        assert above.xaxis.get_tick_params()["labelbottom"]
    assert [a.get_xlabel() for a in figure.axes] == ["Recall@20", "NDCG@20"] * 2
    assert [a.get_title("left") for a in figure.axes] == ["t", "", "u", ""]
    assert np.ptp(picture(figure)) > 0.5


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        (Mark("ease", PLAIN, 0.4), []),
        (Mark("ease", PLAIN, 0.4, paper=0.3), ["paper"]),
        (Mark("x", PLAIN, 0.4, 0.01, 0.3), ["deviation over seeds", "paper"]),
    ],
)
def test_bars_are_explained_as_far_as_there_is_something(mark, words):
    legends = plot_groups([block(mark)]).legends
    assert [text.get_text() for x in legends for text in x.texts] == words


def test_points_are_curves_and_the_backend_a_level():
    marks = [
        Mark("mf", PLAIN, 0.2),
        Mark("mf+ddrm", OURS, 0.1, error=0.01, at=1e-4),
        Mark("mf+ddrm", OURS, 0.3, at=1e-2),
    ]
    other = block(axis="gamma", title="u")
    axes = plot_groups([block(*marks, axis="noise_scale"), other]).axes
    assert [a.get_xscale() for a in axes] == ["log", "linear"] * 2
    level, curve = axes[0].lines[:2]
    assert list(level.get_ydata()) == [0.2, 0.2]
    assert list(curve.get_xdata()) == [1e-4, 1e-2]
    assert list(curve.get_ydata()) == [0.1, 0.3]
    assert (level.get_color(), curve.get_color()) == (PLAIN, OURS)
    assert len(axes[1].lines) == 0
    assert axes[1].get_legend() is None
