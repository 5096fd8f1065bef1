"""Tables and plots for people."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ddrm_pyg.experiments.plug_in import METRIC, Row
from ddrm_pyg.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20", "coverage@20")
_HEAD: dict[str, Any] = {"loc": "left", "fontsize": 10}
_SHORT = {"recall": "R", "ndcg": "N"}


def format_table(rows: Sequence[Row]) -> str:
    """Lay out the rows as aligned text; the best value of a column is starred."""
    width = max(len(row.name) for row in rows)
    best = {c: max(row.result.test[c] for row in rows) for c in COLUMNS}
    heads = []
    for column in COLUMNS:
        name, at, k = column.partition("@")
        heads.append(_SHORT[name] + at + k if name in _SHORT else name)
    lines = [" " * width + "".join(f"{head:>10} " for head in heads).rstrip()]
    for row in rows:
        values = "".join(
            f"{row.result.test[c]:10.4f}{'*' if row.result.test[c] == best[c] else ' '}"
            for c in COLUMNS
        )
        lines.append(f"{row.name:<{width}}{values}".rstrip())
    return "\n".join(lines)


def plot_curves(rows: Sequence[Row], path: str | os.PathLike[str]) -> None:
    """Draw validation curves beside the test result of every row.

    Left: the validation metric that selects, over epochs, the selected epoch marked.
    Right: test NDCG@20 with 95 % intervals over users.

    Args:
        rows: The table.
        path: PNG to write.
    """
    # a figure of its own: no display, and no state shared with a caller's pyplot
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    curves, bars = figure.subplots(1, 2)
    trained = [row for row in rows if row.result.history]
    colours = {row.name: f"C{i}" for i, row in enumerate(trained)}
    _draw_training(curves, trained, colours)
    _draw_test(bars, rows, colours)
    for axes in (curves, bars):
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _draw_training(axes: Axes, rows: Sequence[Row], colours: dict[str, str]) -> None:
    from matplotlib.ticker import MaxNLocator

    for row in rows:
        metric = row.result.cell.fit.get("metric", "recall@20")
        records = [r for r in row.result.history if metric in r]
        label = f"{row.name} ({_title(metric)})"
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


def _draw_test(axes: Axes, rows: Sequence[Row], colours: dict[str, str]) -> None:
    place = np.arange(len(rows))[::-1]
    users = [row.result.test.per_user[METRIC].double().numpy() for row in rows]
    means = np.array([user.mean() for user in users])
    errors = [1.96 * user.std() / np.sqrt(len(user)) for user in users]
    axes.barh(
        place,
        means,
        xerr=errors,
        color=[colours.get(row.name, "0.6") for row in rows],
        alpha=0.6,
        error_kw={"ecolor": "0.3", "lw": 1},
    )
    for y, mean in zip(place, means, strict=True):
        axes.text(0.01 * means.max(), y, f"{mean:.4f}", va="center", fontsize=8)
    axes.set_yticks(place, [row.name for row in rows])
    axes.set_xlim(left=0)
    axes.set_title(f"test: {_title(METRIC)}, 95 % interval over users", **_HEAD)
    axes.set_xlabel(_title(METRIC))


def _title(metric: str) -> str:
    return metric.upper() if metric.startswith("ndcg") else metric.capitalize()
