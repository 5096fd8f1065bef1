"""What is drawn, looked at before it becomes a picture."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from ddrm_pyg.experiments.paper.figures import draw
from ddrm_pyg.experiments.paper.published import METRICS


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
    # from top to bottom; sgl has not been run
    assert [(bar.get_width(), bar.get_y() + 0.4) for bar in left.patches] == [
        (0.1, 2.0),
        (0.4, 0.0),
    ]
    diamonds = [x for x in left.lines if x.get_marker() == "D"]
    assert [(d.get_xdata()[0], d.get_ydata()[0]) for d in diamonds] == [
        (0.3, 2),
        (0.2, 1),
    ]
    names = [text.get_text() for text in left.get_yticklabels()]
    assert names == ["mf", "sgl", "ease"]


def test_bars_of_another_block_are_below_and_ddrm_stands_out(drawn):
    lines = [line("mf", 0.1), line("mf+ddrm", 0.2)]
    axes = drawn(
        {"title": "noisy", "axis": None, "lines": lines},
        {"title": "liked", "axis": None, "lines": lines},
    )
    assert [a.get_xlabel() for a in axes] == ["Recall@20", "NDCG@20"] * 2
    assert [a.get_title("left") for a in axes] == ["noisy", "", "liked", ""]
    plain, ddrm = axes[0].patches
    assert plain.get_facecolor() != ddrm.get_facecolor()


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
