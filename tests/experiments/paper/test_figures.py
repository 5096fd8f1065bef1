"""What is drawn, looked at before it becomes a picture."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from ddrm_pyg.experiments.paper.figures import draw
from ddrm_pyg.ranking import METRICS


def line(name, value=None, at=None, paper=None, deviation=None):
    return {
        "name": name,
        "at": at,
        "mean": {} if value is None else dict.fromkeys(METRICS, value),
        "deviation": {} if deviation is None else dict.fromkeys(METRICS, deviation),
        "paper": {} if paper is None else dict.fromkeys(METRICS, paper),
    }


@pytest.fixture
def drawn(monkeypatch):
    """Draw, and keep the axes that were drawn on."""
    kept = []
    save = Figure.savefig

    def keep(figure, *args, **kwargs):
        kept[:] = figure.axes
        return save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)

    def run(*blocks):
        image = matplotlib.image.imread(io.BytesIO(draw(list(blocks))))
        assert np.ptp(image[..., :3]) > 0.5
        return kept

    return run


def test_rows_are_bars_and_the_paper_diamonds(drawn):
    lines = [line("mf", 0.1, paper=0.3), line("sgl", paper=0.2), line("ease", 0.4)]
    left, right = drawn({"title": "t", "axis": None, "lines": lines})
    assert (left.get_xlabel(), right.get_xlabel()) == ("Recall@20", "NDCG@20")
    # from top to bottom; sgl has not been run and has no place
    assert [(bar.get_width(), bar.get_y() + 0.4) for bar in left.patches] == [
        (0.1, 1.0),
        (0.4, 0.0),
    ]
    diamonds = [x for x in left.lines if x.get_marker() == "D"]
    assert [(d.get_xdata()[0], d.get_ydata()[0]) for d in diamonds] == [(0.3, 1)]
    names = [text.get_text() for text in left.get_yticklabels()]
    assert names == ["mf", "ease"]


def test_bars_of_another_block_are_below_and_ddrm_stands_out(drawn):
    lines = [line("mf", 0.1), line("mf+ddrm", 0.2)]
    axes = drawn(
        {"title": "noisy", "axis": None, "lines": lines},
        {"title": "liked", "axis": None, "lines": [line("mf", 0.4)]},
    )
    for above, below in zip(axes[:2], axes[2:], strict=True):
        assert above.get_xlim() == below.get_xlim()
        assert above.xaxis.get_tick_params()["labelbottom"]
    assert [a.get_xlabel() for a in axes] == ["Recall@20", "NDCG@20"] * 2
    assert [a.get_title("left") for a in axes] == ["noisy", "", "liked", ""]
    plain, ddrm = axes[0].patches
    assert plain.get_facecolor() != ddrm.get_facecolor()


def test_bars_are_explained_as_far_as_there_is_something(monkeypatch):
    told = []
    save = Figure.savefig

    def keep(figure, *args, **kwargs):
        told.append([text.get_text() for text in figure.legends[0].texts])
        return save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    draw([{"title": "t", "axis": None, "lines": [line("ease", 0.4)]}])
    full = line("mf+ddrm", 0.1, paper=0.3, deviation=0.01)
    draw([{"title": "t", "axis": None, "lines": [full]}])
    assert told == [
        ["ours"],
        ["ours", "ours, with DDRM", "deviation over seeds", "paper"],
    ]


def test_ddrm_has_its_colour_in_curves_too(drawn):
    lines = [line(n, 0.1, 0.2) for n in ("mf", "mf+r-ce", "mf+ddrm")]
    axes, _ = drawn({"title": "t", "axis": "noise", "lines": lines})
    colours = {x.get_label(): x.get_color() for x in axes.lines}
    assert colours == {"mf": "C0", "mf+r-ce": "C2", "mf+ddrm": "C1"}


def test_points_are_curves_and_the_backend_a_level(drawn):
    lines = [
        *(line("mf", 0.2), line("mf+ddrm", 0.1, 1e-4), line("mf+ddrm", 0.3, 1e-2)),
        line("mf+ddrm", None, 1e-1),
    ]
    one = {"title": "t", "axis": "noise_scale", "lines": lines}
    other = {"title": "u", "axis": "gamma", "lines": [line("mf+ddrm", None, 0.5)]}
    axes = drawn(one, other)
    assert [a.get_xscale() for a in axes] == ["log", "linear"] * 2
    level, curve = axes[0].lines[:2]
    assert list(level.get_ydata()) == [0.2, 0.2]
    assert list(curve.get_xdata()) == [1e-4, 1e-2]
    assert list(curve.get_ydata()) == [0.1, 0.3]
    assert len(axes[1].lines) == 0
    assert axes[1].get_legend() is None
