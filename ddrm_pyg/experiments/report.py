"""Tables and plots for people."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ddrm_pyg.experiments.compare import MEASURES, Comparison
from ddrm_pyg.experiments.methods import fit_setting
from ddrm_pyg.experiments.plug_in import METRIC, Row
from ddrm_pyg.files import atomic_path
from ddrm_pyg.ranking import METRICS, Metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = (*METRICS, "coverage@20")
_HEAD: dict[str, Any] = {"loc": "left", "fontsize": 10}
_SHORT = {"recall": "R", "ndcg": "N"}


def format_table(rows: Sequence[Row]) -> str:
    """Lay out the rows as aligned text; the best value of a column is starred."""
    width = max(len(row.name) for row in rows)
    best = {c: max(row.result.test[c] for row in rows) for c in COLUMNS}
    lines = [" " * width + "".join(f"{short_title(c):>12} " for c in COLUMNS).rstrip()]
    for row in rows:
        values = [_starred(row.result.test[c], best[c]) for c in COLUMNS]
        line = f"{row.name:<{width}}" + "".join(f"{value:>13}" for value in values)
        lines.append(line.rstrip())
    return "\n".join(lines)


def format_comparison(rows: Sequence[Comparison]) -> str:
    """Lay out a comparison as aligned text; the best metric of a column is starred.

    The last columns are the deviation of NDCG@20 over seeds where there are several,
    its gain over the best yardstick, and the p-value corrected for the number of rows.
    """
    width = max(len(row.name) for row in rows)
    best = {m: max(row.metrics[m] for row in rows) for m in MEASURES[:-1]}
    heads = [
        *(f"{short_title(m)} " for m in MEASURES),
        "train s",
        "peak MB",
        "parameters",
        "sd N@20",
        "gain",
        "p Holm",
    ]
    lines = [" " * width + "".join(f"{head:>11}" for head in heads)]
    for row in rows:
        cells = [_starred(row.metrics[m], best.get(m)) for m in MEASURES]
        deviation = row.deviation(METRIC)
        cells += [
            f"{row.cost.seconds:.1f} ",
            f"{row.cost.peak_memory / 2**20:.0f} ",
            "- " if row.cost.num_parameters is None else f"{row.cost.num_parameters} ",
            "" if deviation is None else f"{deviation:.4f} ",
            f"{row.test.change()} " if row.test else "yardstick ",
            "" if row.p_adjusted is None else f"{row.p_adjusted:.4f} ",
        ]
        line = f"{row.name:<{width}}" + "".join(f"{cell:>11}" for cell in cells)
        lines.append(line.rstrip())
    return "\n".join(lines)


def _starred(value: float, best: float | None) -> str:
    number = f"{value:.4f}" if value < 10 else f"{value:.0f}"
    return number + ("*" if value == best else " ")


def short_title(measure: str) -> str:
    """Write a measure's name for the head of a column: ``N@20``, ``coverage``."""
    name, _, k = measure.partition("@")
    return f"{_SHORT[name]}@{k}" if name in _SHORT else name


def plot_comparison(rows: Sequence[Comparison], path: str | os.PathLike[str]) -> None:
    """Draw test NDCG@20 and Recall@20 of every row with 95 % intervals over users.

    The best yardstick is the dashed line.

    Args:
        rows: The comparison.
        path: PNG to write.
    """
    figure, panels = start_figure((11, 1.2 + 0.28 * len(rows)), 2)
    yardstick = next(row for row in rows if row.test is None)
    for axes, metric in zip(panels, (METRIC, "recall@20"), strict=True):
        colours = {row.name: "C0" for row in rows if row.cost.num_parameters}
        _draw_bars(axes, [(row.name, row.metrics) for row in rows], metric, colours)
        axes.axvline(yardstick.metrics[metric], color="0.3", lw=1, ls="--")
    write_figure(figure, path)


def plot_curves(rows: Sequence[Row], path: str | os.PathLike[str]) -> None:
    """Draw validation curves beside the test result of every row.

    Left: the validation metric that selects, over epochs, the selected epoch marked.
    Right: test NDCG@20 with 95 % intervals over users.

    Args:
        rows: The table.
        path: PNG to write.
    """
    figure, (curves, bars) = start_figure((11, 4.2), 2)
    trained = [row for row in rows if row.result.history]
    colours = {row.name: f"C{i}" for i, row in enumerate(trained)}
    _draw_training(curves, trained, colours)
    _draw_bars(bars, [(row.name, row.result.test) for row in rows], METRIC, colours)
    write_figure(figure, path)


def start_figure(
    size: tuple[float, float], panels: int
) -> tuple[Figure, Sequence[Axes]]:
    """Begin a figure of some inches, with panels side by side."""
    # a figure of its own: no display, and no state shared with a caller's pyplot
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def write_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def _draw_training(axes: Axes, rows: Sequence[Row], colours: dict[str, str]) -> None:
    from matplotlib.ticker import MaxNLocator

    for row in rows:
        metric = fit_setting(row.result.cell, "metric")
        records = [r for r in row.result.history if metric in r]
        label = f"{row.name} ({metric_title(metric)})"
        epochs = [r["epoch"] for r in records]
        values = [r[metric] for r in records]
        selected = [i for i, e in enumerate(epochs) if e == row.result.best_epoch]
        if records:
            colour = colours[row.name]
            axes.plot(epochs, values, "-o", ms=3, color=colour, label=label)
            marked = ([epochs[i] for i in selected], [values[i] for i in selected])
            axes.plot(*marked, "*", ms=13, color=colour)
    axes.set_title("training: validation picks the starred epoch", **_HEAD)
    axes.set(xlabel="epoch", ylabel="validation metric")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(frameon=False)
    else:
        middle: dict[str, Any] = {
            "xy": (0.5, 0.5),
            "xycoords": "axes fraction",
            "ha": "center",
        }
        axes.annotate("no validation split", **middle)


def _draw_bars(
    axes: Axes,
    rows: Sequence[tuple[str, Metrics]],
    metric: str,
    colours: dict[str, str],
) -> None:
    place = np.arange(len(rows))[::-1]
    users = [metrics.per_user[metric].double().numpy() for _, metrics in rows]
    means = np.array([user.mean() for user in users])
    errors = [1.96 * user.std() / np.sqrt(len(user)) for user in users]
    axes.barh(
        place,
        means,
        xerr=errors,
        color=[colours.get(name, "0.6") for name, _ in rows],
        alpha=0.6,
        error_kw={"ecolor": "0.3", "lw": 1},
    )
    for y, mean in zip(place, means, strict=True):
        axes.text(0.01 * means.max(), y, f"{mean:.4f}", va="center", fontsize=8)
    axes.set_yticks(place, [name for name, _ in rows])
    axes.set_xlim(left=0)
    axes.set_title(f"test: {metric_title(metric)}, 95 % interval over users", **_HEAD)
    axes.set_xlabel(metric_title(metric))


def metric_title(metric: str) -> str:
    """Write a metric's name for people: ``NDCG@20``, ``Recall@20``."""
    return metric.upper() if metric.startswith("ndcg") else metric.capitalize()
