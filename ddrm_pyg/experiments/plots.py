"""All pictures of the package; a method has the same colour in each of them."""

from __future__ import annotations

import io
import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ddrm_pyg.experiments.compare import Comparison
from ddrm_pyg.experiments.plug_in import METRIC
from ddrm_pyg.experiments.tables import Row, metric_title
from ddrm_pyg.experiments.work import Result
from ddrm_pyg.files import atomic_path
from ddrm_pyg.noise_audit import SCOPES, NoiseAudit
from ddrm_pyg.ranking import Metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Panel = Callable[["Axes"], None]
"""Draws one part of a picture."""

COLOURS = {
    "ddrm": "#ff7f0e",
    "one_pass": "#ffbb78",
    "mf": "#1f77b4",
    "lightgcn": "#17becf",
    "sgl": "#9467bd",
    "svd": "#393b79",
    "sasrec": "#637939",
    "best_depth": "#aec7e8",
    "history_mean": "#c5b0d5",
    "recent_mean": "#dbdb8d",
    "propagated": "#9edae5",
    "t-ce": "#2ca02c",
    "r-ce": "#d62728",
    "deca": "#8c564b",
    "deca-p": "#c49c94",
    "wbpr": "#bcbd22",
}
"""Colour of each method: DDRM is orange. What is added to a backend has its own."""

RIVAL, YARDSTICK = "#e377c2", "#999999"
"""Colours of all other models that are trained, and of closed forms."""

_SIGNALS = (
    *("#1f77b4", "#2ca02c", "#d62728", "#9467bd", "#8c564b"),
    *("#e377c2", "#bcbd22", "#17becf", "#7f7f7f"),
)
"""Colours of an audit's signals, in turn: all but DDRM's."""

_HEAD: dict[str, Any] = {"loc": "left", "fontsize": 10}
_LABEL = {"facecolor": "white", "edgecolor": "none", "alpha": 0.6, "pad": 0.8}
"""What a number stands on that an interval may cross."""
_PAPER: dict[str, Any] = {"marker": "D", "mfc": "none", "color": "0.2", "ms": 4}


def colour_of(method: str, trained: bool = True) -> str:
    """Look up the colour of a method.

    Args:
        method: As cells call it, such as ``ddrm`` or ``lightgcn+t-ce``.
        trained: Whether it is trained; asked of methods without their own colour.
    """
    added = method.rpartition("+")[2]
    return COLOURS.get(added, RIVAL if trained else YARDSTICK)


@dataclass(frozen=True)
class Mark:
    """A bar, or a point of a curve.

    Attributes:
        name: What it is called; points of one name are joined.
        colour: Its colour.
        value: What is drawn.
        error: Half of its whisker.
        paper: The paper's value, an open diamond.
        at: Place on the x axis of curves; None is a level.
    """

    name: str
    colour: str
    value: float
    error: float | None = None
    paper: float | None = None
    at: float | None = None


def draw_bars(axes: Axes, marks: Sequence[Mark]) -> None:
    """Draw horizontal bars from top to bottom, with their whiskers and the paper's."""
    whisker = {"ecolor": "0.3", "lw": 1}
    for y, mark in zip(range(len(marks))[::-1], marks, strict=True):
        style: dict[str, Any] = {"color": mark.colour, "error_kw": whisker}
        axes.barh(y, mark.value, xerr=mark.error, alpha=0.7, **style)
        if mark.paper is not None:
            axes.plot(mark.paper, y, **_PAPER)
    axes.set_yticks(range(len(marks))[::-1], [m.name for m in marks], fontsize=8)
    axes.set_ylim(-0.7, len(marks) - 0.3)


def draw_curves(axes: Axes, marks: Sequence[Mark]) -> None:
    """Join the points of each name; a point without a place is a dashed level."""
    for name in dict.fromkeys(mark.name for mark in marks):
        own = [mark for mark in marks if mark.name == name]
        colour = own[0].colour
        for mark in own:
            if mark.at is None:
                axes.axhline(mark.value, color=colour, ls="--", lw=1, label=name)
        points = [mark for mark in own if mark.at is not None]
        if points:
            x, y = zip(*((mark.at, mark.value) for mark in points), strict=True)
            axes.plot(x, y, "-o", ms=3, color=colour, label=name)
            if min(x) > 0 and max(x) >= 100 * min(x):
                axes.set_xscale("log")
            errors = [mark.error or 0.0 for mark in points]
            if any(errors):
                axes.errorbar(x, y, errors, fmt="none", color=colour)
    axes.grid(alpha=0.3)
    if marks:
        axes.legend(frameon=False, fontsize=8)


@dataclass(frozen=True)
class Group:
    """A part of a picture that has the same metrics as the other parts.

    Attributes:
        title: Its heading.
        axis: Name of the x axis of curves; None draws bars.
        marks: What is drawn of each metric.
    """

    title: str
    axis: str | None
    marks: Mapping[str, Sequence[Mark]]


def plot_groups(groups: Sequence[Group]) -> Figure:
    """Draw bars with the metrics side by side, or curves with the groups side by side.

    Args:
        groups: All of curves or all of bars, with the same metrics; at least one.
    """
    curves = groups[0].axis is not None
    figure, grid = _start_grid(groups, curves)
    for panels, group in zip(grid.T if curves else grid, groups, strict=True):
        for axes, (metric, marks) in zip(panels, group.marks.items(), strict=True):
            if curves:
                draw_curves(axes, marks)
                axes.set(xlabel=group.axis, ylabel=metric_title(metric))
                axes.label_outer()
            else:
                draw_bars(axes, marks)
                axes.set_xlabel(metric_title(metric))
                axes.tick_params(labelbottom=True)  # also above one that shares it
        panels[0].set_title(group.title, **_HEAD)
    if not curves:
        _explain(
            figure, [m for b in groups for marks in b.marks.values() for m in marks]
        )
    return figure


def _start_grid(groups: Sequence[Group], curves: bool) -> tuple[Figure, Any]:
    """Begin a figure whose panels are as high as their bars are many."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    metrics = len(groups[0].marks)
    longest = [max(map(len, group.marks.values())) for group in groups]
    heights = [3.2] * metrics if curves else [max(2.2, 0.8 + 0.24 * n) for n in longest]
    columns = len(groups) if curves else metrics
    size = (max(4.6 * columns, 6.0), sum(heights))
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(wspace=0.06))
    return figure, figure.subplots(
        len(heights),
        columns,
        squeeze=False,
        sharex="none" if curves else "col",
        sharey="row",
        height_ratios=heights,
    )


def _explain(figure: Figure, marks: Sequence[Mark]) -> None:
    """Say what whiskers and diamonds are, where there are any."""
    from matplotlib.lines import Line2D

    handles: list[Any] = []
    if any(mark.error is not None for mark in marks):
        handles.append(Line2D([], [], color="0.3", label="deviation over seeds"))
    if any(mark.paper is not None for mark in marks):
        handles.append(Line2D([], [], ls="", label="paper", **_PAPER))
    if handles:
        style: dict[str, Any] = {"ncols": 2, "frameon": False, "fontsize": 8}
        figure.legend(handles=handles, loc="outside upper center", **style)


def plot_panels(panels: Mapping[str, Panel], size: tuple[float, float]) -> Figure:
    """Draw panels side by side.

    Args:
        panels: Of :func:`run_panels`, :func:`comparison_panels`, :func:`audit_panels`.
        size: Inches of all of it.
    """
    # a figure of its own: no display, and no state shared with a caller's pyplot
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    places = figure.subplots(1, len(panels), squeeze=False)[0]
    for panel, axes in zip(panels.values(), places, strict=True):
        panel(axes)
    return figure


def to_pictures(panels: Mapping[str, Panel], height: float) -> dict[str, bytes]:
    """Draw each panel by itself, large enough to be read on a phone.

    Args:
        panels: As for :func:`plot_panels`.
        height: Inches of each.
    """
    return {
        name: to_png(plot_panels({name: panel}, (4.6, height)), dpi=220)
        for name, panel in panels.items()
    }


def to_png(figure: Figure, dpi: int = 110) -> bytes:
    """Draw a figure as PNG."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=dpi)
        return file.getvalue()


def write_png(path: str | os.PathLike[str], figure: Figure) -> None:
    """Write a figure as PNG, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(to_png(figure, dpi=150))


def run_panels(rows: Sequence[Row]) -> dict[str, Panel]:
    """Validation curves of a run, and its test NDCG@20 with intervals over users."""
    trained = [row for row in rows if row.result.history]
    marks = [
        _interval(row.name, _colour(row.result), row.result.test, METRIC)
        for row in rows
    ]
    return {
        "training": lambda axes: _draw_training(axes, trained),
        metric_title(METRIC): lambda axes: _draw_intervals(axes, marks, METRIC),
    }


def comparison_panels(rows: Sequence[Comparison]) -> dict[str, Panel]:
    """Test NDCG@20 and Recall@20 of every row with 95 % intervals over users.

    The best yardstick of each block is a dashed line along its rows.
    """

    def panel(metric: str) -> Panel:
        marks = [
            _interval(row.name, _colour(row.result), row.metrics, metric)
            for row in rows
        ]

        def draw(axes: Axes) -> None:
            _draw_intervals(axes, marks, metric)
            for yardstick in (row for row in rows if row.is_rival):
                value, places = yardstick.metrics[metric], _block_of(yardstick, rows)
                ends = [min(places) - 0.5, max(places) + 0.5]
                axes.plot([value, value], ends, color="0.3", lw=1, ls="--")

        return draw

    return {metric_title(m): panel(m) for m in (METRIC, "recall@20")}


def _block_of(yardstick: Comparison, rows: Sequence[Comparison]) -> list[int]:
    """Places of the rows that a yardstick is for, as :func:`draw_bars` has them."""
    return [
        y
        for y, row in zip(range(len(rows))[::-1], rows, strict=True)
        if row.order_aware is yardstick.order_aware
    ]


def cleaning_panels(results: Mapping[str, Result]) -> dict[str, Panel]:
    """Test NDCG@20 of a backend on the data as they are and after each choice."""
    marks = [
        _interval(name, _colour(result), result.test, METRIC)
        for name, result in results.items()
    ]
    return {metric_title(METRIC): lambda axes: _draw_intervals(axes, marks, METRIC)}


def audit_panels(audit: NoiseAudit, noise: Tensor) -> dict[str, Panel]:
    """Precision among the noisiest interactions, and the AUROCs.

    Args:
        audit: With measures.
        noise: ``[E]`` bool labels.
    """
    return {
        "precision": lambda axes: _draw_precision(axes, audit, noise),
        "AUROC": lambda axes: _draw_auroc(axes, audit),
    }


def _colour(result: Result) -> str:
    return colour_of(result.cell.method, result.num_parameters is not None)


def _interval(name: str, colour: str, metrics: Metrics, metric: str) -> Mark:
    """A mean with its 95 % interval over users."""
    users = metrics.per_user[metric].double().numpy()
    error = 1.96 * float(users.std()) / math.sqrt(len(users))
    return Mark(name, colour, float(users.mean()), error)


def _draw_intervals(axes: Axes, marks: Sequence[Mark], metric: str) -> None:
    draw_bars(axes, marks)
    longest = max(mark.value for mark in marks)
    for y, mark in zip(range(len(marks))[::-1], marks, strict=True):
        text = f"{mark.value:.4f}"
        axes.text(0.01 * longest, y, text, va="center", fontsize=8, bbox=_LABEL)
    axes.set_xlim(left=0)
    axes.set_title(f"test: {metric_title(metric)}, 95 % interval over users", **_HEAD)
    axes.set_xlabel(metric_title(metric))


def _draw_training(axes: Axes, rows: Sequence[Row]) -> None:
    from matplotlib.ticker import MaxNLocator

    for row in rows:
        metric = row.result.cell.fit.get("metric", "")
        points = {r["epoch"]: r[metric] for r in row.result.history if metric in r}
        if points:
            style: dict[str, Any] = {"color": _colour(row.result)}
            label = f"{row.name} ({metric_title(metric)})"
            axes.plot([*points], [*points.values()], "-o", ms=3, label=label, **style)
            best = row.result.best_epoch
            if best in points:
                axes.plot([best], [points[best]], "*", ms=13, **style)
    axes.set_title("training: validation picks the starred epoch", **_HEAD)
    axes.set(xlabel="epoch", ylabel="validation metric")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(frameon=False)
    else:
        middle: dict[str, Any] = {"xycoords": "axes fraction", "ha": "center"}
        axes.annotate("no validation split", (0.5, 0.5), **middle)


def _draw_precision(axes: Axes, audit: NoiseAudit, noise: Tensor) -> None:
    size = noise.numel()
    share = np.linspace(1 / 200, 1, 200)
    shown = np.ceil(share * size).astype(int)
    scores = {"combined": audit.score, **audit.signals}
    colours = itertools.cycle(_SIGNALS)
    for name, score in scores.items():
        hits = noise[score.argsort(descending=True, stable=True)].double().cumsum(0)
        precision = hits.numpy()[shown - 1] / shown
        style: dict[str, Any] = (
            {"lw": 2.2, "color": "k"}
            if name == "combined"
            else {"lw": 1, "color": next(colours)}
        )
        axes.plot(share, precision, label=name, **style)
    axes.axhline(float(noise.double().mean()), color="0.6", ls=":", label="by chance")
    axes.set_title("noise among the noisiest interactions", **_HEAD)
    axes.set(xlabel="share of train interactions", ylabel="precision")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


def _draw_auroc(axes: Axes, audit: NoiseAudit) -> None:
    names = list(audit.measures)[::-1]
    for shift, scope, colour in ((0.2, SCOPES[0], "k"), (-0.2, SCOPES[1], "0.6")):
        estimates = [audit.measures[name][scope].auroc for name in names]
        value = np.array([e.value for e in estimates])
        reach = np.array([(e.value - e.low, e.high - e.value) for e in estimates]).T
        place = np.arange(len(names)) + shift
        style: dict[str, Any] = {"fmt": "o", "ms": 4, "color": colour, "label": scope}
        axes.errorbar(value, place, xerr=reach.clip(min=0), **style)
    axes.axvline(0.5, color="0.6", ls=":")
    axes.set_yticks(np.arange(len(names)), names)
    axes.set_title("AUROC, 95 % interval over users", **_HEAD)
    axes.grid(alpha=0.3, axis="x")
    axes.legend(frameon=False, fontsize=8)
