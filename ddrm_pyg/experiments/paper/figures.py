"""Draw what was reproduced: bars for the rows of a table, curves for a figure."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from ddrm_pyg.experiments.tables import metric_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = ("recall@20", "ndcg@20")
"""What is drawn of each block."""

DDRM, OTHERS = "C1", "C0"

_PAPER: dict[str, Any] = {"marker": "D", "mfc": "none", "color": "0.2", "ms": 4}


def draw(blocks: list[dict[str, Any]]) -> bytes:
    """Draw bars with the metrics side by side, or curves with the blocks side by side.

    DDRM is orange everywhere. Whiskers are standard deviations over seeds. What
    has not been run is left out. The paper's values, where printed, are open diamonds.

    Args:
        blocks: From :func:`ddrm_pyg.experiments.paper.tables.block_record`, all with an
            axis or none.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    curves = blocks[0]["axis"] is not None
    if curves:
        heights, columns = [3.2] * len(PANELS), len(blocks)
    else:
        blocks = [{**block, "lines": _run(block)} for block in blocks]
        heights = [max(2.2, 0.8 + 0.24 * len(block["lines"])) for block in blocks]
        columns = len(PANELS)
    shape = len(heights), columns
    size = (max(4.6 * columns, 6.0), sum(heights))
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(wspace=0.06))
    grid = figure.subplots(
        *shape,
        squeeze=False,
        sharex="none" if curves else "col",
        sharey="row",
        height_ratios=heights,
    )
    for panels, block in zip(grid.T if curves else grid, blocks, strict=True):
        for axes, metric in zip(panels, PANELS, strict=True):
            (_draw_curves if curves else _draw_bars)(axes, block, metric)
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_title(block["title"], loc="left", fontsize=10)
    if not curves:
        _explain_bars(figure, blocks)
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=110)
        return file.getvalue()


def _run(block: dict[str, Any]) -> list[dict[str, Any]]:
    return [line for line in block["lines"] if line["mean"]]


def _draw_bars(axes: Axes, block: dict[str, Any], metric: str) -> None:
    lines = block["lines"]
    place = np.arange(len(lines))[::-1]
    for y, line in zip(place, lines, strict=True):
        error = line["deviation"].get(metric)
        color = DDRM if "+ddrm" in line["name"] else OTHERS
        axes.barh(y, line["mean"][metric], xerr=error, color=color, alpha=0.6)
        if metric in line["paper"]:
            axes.plot(line["paper"][metric], y, **_PAPER)
    axes.set_yticks(place, [line["name"] for line in lines], fontsize=8)
    axes.set_ylim(-0.7, len(lines) - 0.3)
    axes.set_xlabel(metric_title(metric))
    axes.tick_params(labelbottom=True)  # also where another block below shares them


def _explain_bars(figure: Figure, blocks: list[dict[str, Any]]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    lines = [line for block in blocks for line in block["lines"]]
    known: list[Any] = [Patch(color=OTHERS, alpha=0.6, label="ours")]
    if any("+ddrm" in line["name"] for line in lines):
        known.append(Patch(color=DDRM, alpha=0.6, label="ours, with DDRM"))
    if any(line["deviation"] for line in lines):
        known.append(Line2D([], [], color="k", label="deviation over seeds"))
    if any(line["paper"] for line in lines):
        known.append(Line2D([], [], ls="", label="paper", **_PAPER))
    figure.legend(
        handles=known, loc="outside upper center", ncols=4, frameon=False, fontsize=8
    )


def _draw_curves(axes: Axes, block: dict[str, Any], metric: str) -> None:
    run = _run(block)
    names = list(dict.fromkeys(line["name"] for line in block["lines"]))
    others = iter(["C0", "C2", "C3", "C4"])
    colors = {n: DDRM if "+ddrm" in n else next(others) for n in names}
    for name, color in colors.items():
        found = [line for line in run if line["name"] == name]
        points = [line for line in found if line["at"] is not None]
        for line in found:
            if line["at"] is None:
                level = line["mean"][metric]
                axes.axhline(level, color=color, ls="--", lw=1, label=name)
        if points:
            x = [line["at"] for line in points]
            y = [line["mean"][metric] for line in points]
            axes.plot(x, y, "-o", ms=3, color=color, label=name)
            errors = [line["deviation"].get(metric, 0.0) for line in points]
            if any(errors):
                axes.errorbar(x, y, errors, fmt="none", color=color)
    if block["axis"] == "noise_scale":
        axes.set_xscale("log")
    axes.set(xlabel=block["axis"], ylabel=metric_title(metric))
    axes.label_outer()
    axes.grid(alpha=0.3)
    if run:
        axes.legend(frameon=False, fontsize=8)
