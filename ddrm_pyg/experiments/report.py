"""Tables and plots for people."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from ddrm_pyg.experiments.plug_in import METRIC, Row
from ddrm_pyg.files import atomic_path

COLUMNS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20", "coverage@20")
_SHORT = {"recall": "R", "ndcg": "N", "coverage": "coverage"}


def format_table(rows: Sequence[Row]) -> str:
    """Lay out the rows as aligned text; the best value of a column is starred."""
    width = max(len(row.name) for row in rows)
    best = {c: max(row.result.test[c] for row in rows) for c in COLUMNS}
    heads = []
    for column in COLUMNS:
        name, _, k = column.partition("@")
        heads.append(f"{_SHORT[name]}@{k}")
    lines = [" " * width + "".join(f"{head:>11}" for head in heads)]
    for row in rows:
        values = "".join(
            f"{row.result.test[c]:10.4f}{'*' if row.result.test[c] == best[c] else ' '}"
            for c in COLUMNS
        )
        lines.append(f"{row.name:<{width}}{values}".rstrip())
    return "\n".join(lines)


def plot_curves(rows: Sequence[Row], path: str | os.PathLike[str]) -> None:
    """Draw validation curves beside the test result of every row.

    Left: validation NDCG@20 over epochs, the selected epoch marked. Right: test
    NDCG@20 with 95 % intervals over users.

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
    for row in trained:
        records = [r for r in row.result.history if METRIC in r]
        epochs = [r["epoch"] for r in records]
        values = [r[METRIC] for r in records]
        curves.plot(epochs, values, "-o", ms=3, color=colours[row.name], label=row.name)
        for epoch, value in zip(epochs, values, strict=True):
            if epoch == row.result.best_epoch:
                curves.plot([epoch], [value], "*", ms=13, color=colours[row.name])
    curves.set(xlabel="epoch", ylabel="NDCG@20 on validation")
    curves.set_title("training (star: selected)", loc="left", fontsize=10)
    curves.grid(alpha=0.3)
    if trained:
        curves.legend(frameon=False)
    place = np.arange(len(rows))[::-1]
    users = [row.result.test.per_user[METRIC].double().numpy() for row in rows]
    means = np.array([user.mean() for user in users])
    errors = [1.96 * user.std() / np.sqrt(len(user)) for user in users]
    bars.barh(
        place,
        means,
        xerr=errors,
        color=[colours.get(row.name, "0.75") for row in rows],
        error_kw={"ecolor": "0.3", "lw": 1},
    )
    for y, mean in zip(place, means, strict=True):
        bars.text(0.01 * means.max(), y, f"{mean:.4f}", va="center", fontsize=8)
    bars.set_yticks(place, [row.name for row in rows])
    bars.set(xlabel="NDCG@20 on test, 95 % interval over users")
    bars.set_title("what a user would see", loc="left", fontsize=10)
    bars.spines[["top", "right"]].set_visible(False)
    curves.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
