"""Lay out the numbers of a table as text, once for HTML, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ddrm_pyg.experiments.methods import AROUND, BACKENDS
from ddrm_pyg.experiments.paper.conditions import GIVEN
from ddrm_pyg.experiments.paper.plans import full_name
from ddrm_pyg.experiments.paper.tables import MISS, distance, is_starred, misses
from ddrm_pyg.experiments.plug_in import METRIC
from ddrm_pyg.experiments.tables import short_title
from ddrm_pyg.ranking import METRICS
from ddrm_pyg.significance import SIGNIFICANCE

LEGEND = (
    "A star marks a line above its backend: paired t-test over users of the means of "
    "the seeds that both have, p < .01 after Holm's correction over what its table has "
    "so far. An empty place has not been run; in plots it is left out."
)

OVER_SEEDS = "Means over seeds ± their standard deviation, which are whiskers in plots."
"""What is added where a line has several seeds."""

BESIDE = "The gap is relative to the paper, whose numbers are diamonds in plots."
"""What is added where a line has a number of the paper."""

ROWS = {
    "table2": (
        "Best depth: the backend's tables, propagated as often as validation NDCG@20 "
        "likes best. History mean: a user is the mean of the train items, which is "
        "where DDRM starts. One pass: the trained DDRM applied once, without noise. N "
        "layers: the backend's raw tables propagated N times, which is what the "
        "authors' code denoises."
    ),
    "table3": (
        "Transformer: attention as the paper words it, with the guide as query, the "
        "time as key and the noisy vector as value. Gate: the authors' code, where "
        "time and noisy vector are key and value and a product with the query opens a "
        "gate; the paper prints one number for both. Learned gate: ours, with a "
        "learned map of the time and dropout. Noise start: generation from pure "
        "noise, not from the history. Dynamic s: a noise scale drawn for each triplet, "
        "which is our reading, as no code is published."
    ),
    "figure3": (
        "In train and validation a share of the pairs without noise is replaced by "
        "pairs that nobody observed; where a folder of data has one named 'clean' "
        "beside it, that is where they are replaced. Test is the same everywhere."
    ),
    "figure4": (
        "Reweighting only: DDRM without its reconstruction loss, so that nothing ties "
        "what it generates to the items that are ranked by it. R-CE: such weights on "
        "the backend's own loss, the other reading of the paper's words. "
        "Reconstruction only: without the weights (gamma 0), the recommendation loss "
        "stays."
    ),
    "figure6": (
        "One argument at a time, the others as in the settings. num_train_timesteps is "
        "T, with T' in proportion where it walks all steps; noise_scale is s, where "
        "1e-2 and 1e-1 are beyond the paper's grid; reconstruction_weight is what the "
        "code weighs the reconstruction with, 1 - lambda of Eq. 20; gamma is the "
        "exponent of the weights, Eq. 21. The plots' axes do not begin at 0."
    ),
}
"""What the rows are that need a word, by table or figure."""


@dataclass(frozen=True)
class Sheet:
    """A table as text.

    Attributes:
        title: Its heading.
        head: Names of the columns; none where there is nothing to show.
        rows: A text per column.
        notes: Sentences below it.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def sheet(block: dict[str, Any]) -> Sheet:
    """Lay out a block, see :func:`ddrm_pyg.experiments.paper.tables.block_record`.

    The columns of the paper are left out where it has no number for any line. A block
    of which nothing has been tried is a sentence.
    """
    lines = block["lines"]
    if not any(line["run"] or line["failed"] for line in lines):
        note = f"None of its {len(lines)} lines has been run yet."
        return Sheet(block["title"], [], [], [note])
    beside = any(line["paper"] for line in lines)
    head = ["", *([block["axis"]] if block["axis"] else [])]
    for metric in METRICS:
        head += [short_title(metric), *(("paper", "gap") if beside else ())]
    rows = [_row(line, bool(block["axis"]), beside) for line in lines]
    notes = [note for line in lines for note in _notes(line)] + _not_converged(lines)
    return Sheet(block["title"], [*head, "seeds"], rows, notes)


def _row(line: dict[str, Any], on_axis: bool, beside: bool) -> list[str]:
    row = [line["name"]]
    if on_axis:
        row.append("" if line["at"] is None else f"{line['at']:g}")
    for metric in METRICS:
        row.append(_value(line, metric))
        if beside:
            paper, far = line["paper"].get(metric), distance(line, metric)
            row.append("" if paper is None else f"{paper:.4f}")
            row.append("" if far is None else _gap(far))
    return [*row, f"{line['run']} of {line['asked']}" if line["seeds"] else ""]


def _gap(far: float) -> str:
    return f"{far:+.0%}" if round(far, 2) else "0%"


def _value(line: dict[str, Any], metric: str) -> str:
    if metric not in line["mean"]:
        return "failed" if line["failed"] else ""
    star = "*" if is_starred(line, metric) else ""
    deviation = line["deviation"].get(metric)
    spread = "" if deviation is None else f" ± {deviation:.4f}"
    return f"{line['mean'][metric]:.4f}{star}{spread}"


def _notes(line: dict[str, Any]) -> list[str]:
    name = full_name(line["name"], line["at"])
    notes = [f"{name} failed: {reason}." for reason in dict.fromkeys(line["failed"])]
    if line["depths"]:
        deepest = AROUND["best_depth"]["deepest"]
        picked = ", ".join(map(str, line["depths"]))
        more = "; more might do better" if deepest in line["depths"] else ""
        notes.append(
            f"{name}: validation picks {picked} layers, of 0 to {deepest} tried{more}."
        )
    if misses(line) and line["about"]:
        there = line["condition"] == GIVEN.name
        where = "" if there else f", picked and checked on {GIVEN.name}"
        notes.append(
            f"{name} is more than {100 * MISS:g} % from the paper; "
            f"its settings{where}: {line['about']}."
        )
    return notes


def _not_converged(lines: Sequence[dict[str, Any]]) -> list[str]:
    found = [
        f"{full_name(line['name'], line['at'])} (seed {seed})"
        for line in lines
        for seed in line["best_at_end"]
    ]
    if not found:
        return []
    return [
        "Best by validation in the last epoch that the settings allow, so that more "
        f"epochs might change them: {'; '.join(found)}."
    ]


def _shared_means(line: dict[str, Any], other: dict[str, Any]) -> tuple[float, float]:
    """Means of two lines over the seeds that both have been run with."""
    both = set(line["seeds"]) & set(other["seeds"])

    def mean(of: dict[str, Any]) -> float:
        values = of["values"][METRIC]
        shared = zip(of["seeds"], values, strict=False)  # a closed form has no seeds
        return fmean([v for seed, v in shared if seed in both] or values)

    return mean(line), mean(other)


def _percent(ours: float, theirs: float) -> str:
    if theirs == 0:
        return "all" if ours else "+0.0%"
    return f"{ours / theirs - 1:+.1%}"


def as_text(table: Sheet) -> str:
    """Align the columns for a terminal."""
    if not table.head:
        return "\n".join([table.title, *table.notes])
    columns = zip(table.head, *table.rows, strict=True)
    first, *widths = [max(map(len, column)) + 2 for column in columns]
    lines = [table.title]
    for name, *values in (table.head, *table.rows):
        cells = [f"{text:>{width}}" for text, width in zip(values, widths, strict=True)]
        lines.append((f"{name:<{first}}" + "".join(cells)).rstrip())
    return "\n".join([*lines, *table.notes])


def in_words(block: dict[str, Any], beside: Sequence[dict[str, Any]] = ()) -> list[str]:
    """Say, backend by backend, what DDRM adds to it and to what needs no diffusion.

    Args:
        block: A block of Table 2.
        beside: Lines of another block that its selection does not touch.

    Returns:
        Two sentences per backend that has been run.
    """
    known = [*beside, *block["lines"]]
    lines = {line["name"]: line for line in known if line["mean"]}
    return [_about_backend(name, lines) for name in BACKENDS if name in lines]


def _about_backend(backend: str, lines: dict[str, Any]) -> str:
    rivals = {
        "the backend": backend,
        "the backend at its best depth": f"{backend} best depth",
        "the history mean alone": f"{backend} history mean",
        "one pass without noise": f"{backend}+ddrm one pass",
        "item-kNN": "item_knn",
        "EASE": "ease",
    }
    known = {name: lines[row] for name, row in rivals.items() if row in lines}
    if f"{backend}+ddrm" not in lines:
        told = [f"{name} {row['mean'][METRIC]:.4f}" for name, row in known.items()]
        return f"{backend}+ddrm has not been run; NDCG@20 of {', '.join(told)}."
    line = lines[f"{backend}+ddrm"]
    means = {name: _shared_means(line, row) for name, row in known.items()}
    told = [
        f"{_percent(*pair)} against {name} ({pair[1]:.4f})"
        for name, pair in means.items()
    ]
    several = {tuple(x["seeds"]) for x in (line, *known.values()) if x["seeds"]}
    seeds = "; over the seeds that both have" if len(several) > 1 else ""
    test = line["tests"].get(METRIC)
    counts = bool(test) and test["p_holm"] < SIGNIFICANCE
    word = "not" if not counts else "up" if test["difference"] > 0 else "down"
    change = {
        "up": "The gain over the backend is significant",
        "down": "The loss against the backend is significant",
        "not": "The change from the backend is not significant",
    }[word]
    best = max(means, key=lambda name: means[name][1])
    ours, theirs = means[best]
    verdict = (
        "DDRM's mean is above all of these (only the backend was tested against)"
        if ours > theirs
        else f"the best of these is {best}, not DDRM"
    )
    return (
        f"{backend}+ddrm has NDCG@20 {line['mean'][METRIC]:.4f}: {', '.join(told)}"
        f"{seeds}. {change}, and {verdict}."
    )
