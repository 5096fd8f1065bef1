"""Draw what was reproduced: bars for the rows of a table, curves for a figure."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from ddrm_pyg.experiments.report import metric_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = ("recall@20", "ndcg@20")
"""What is drawn of each block."""


def draw(blocks: list[dict[str, Any]]) -> bytes:
    """Draw bars with the metrics side by side, or curves with the blocks side by side.

    Whiskers are standard deviations over seeds. What has not been run is left out. The
    paper's values, where printed, are open diamonds.

    Args:
        blocks: From :func:`ddrm_pyg.experiments.paper.tables.block_record`, all with an
            axis or none.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure

    curves = blocks[0]["axis"] is not None
    longest = max(len(block["lines"]) for block in blocks)
    height = 3.2 if curves else max(2.2, 0.8 + 0.24 * longest)
    shape = (len(PANELS), len(blocks)) if curves else (len(blocks), len(PANELS))
    size = (max(4.6 * shape[1], 6.0), height * shape[0])
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(*shape, squeeze=False, sharey=False if curves else "row")
    for panels, block in zip(grid.T if curves else grid, blocks, strict=True):
        for axes, metric in zip(panels, PANELS, strict=True):
            (_draw_curves if curves else _draw_bars)(axes, block, metric)
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_title(block["title"], loc="left", fontsize=10)
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=110)
        return file.getvalue()


def _draw_bars(axes: Axes, block: dict[str, Any], metric: str) -> None:
    lines = block["lines"]
    place = np.arange(len(lines))[::-1]
    for y, line in zip(place, lines, strict=True):
        if metric in line["mean"]:
            error = line["deviation"].get(metric, 0.0)
            color = "C1" if "+ddrm" in line["name"] else "C0"
            axes.barh(y, line["mean"][metric], xerr=error, color=color, alpha=0.6)
        if metric in line["paper"]:
            axes.plot(line["paper"][metric], y, "D", mfc="none", color="0.2", ms=4)
    axes.set_yticks(place, [line["name"] for line in lines], fontsize=8)
    axes.set_ylim(-0.7, len(lines) - 0.3)
    axes.set_xlabel(metric_title(metric))


def _draw_curves(axes: Axes, block: dict[str, Any], metric: str) -> None:
    run = [line for line in block["lines"] if metric in line["mean"]]
    names = list(dict.fromkeys(line["name"] for line in block["lines"]))
    for i, name in enumerate(names):
        found = [line for line in run if line["name"] == name]
        points = [line for line in found if line["at"] is not None]
        for line in found:
            if line["at"] is None:
                level = line["mean"][metric]
                axes.axhline(level, color=f"C{i}", ls="--", lw=1, label=name)
        if points:
            x = [line["at"] for line in points]
            y = [line["mean"][metric] for line in points]
            errors = [line["deviation"].get(metric, 0.0) for line in points]
            axes.errorbar(x, y, errors, fmt="-o", ms=3, color=f"C{i}", label=name)
    if block["axis"] == "noise_scale":
        axes.set_xscale("log")
    axes.set(xlabel=block["axis"], ylabel=metric_title(metric))
    axes.grid(alpha=0.3)
    if run:
        axes.legend(frameon=False, fontsize=8)
