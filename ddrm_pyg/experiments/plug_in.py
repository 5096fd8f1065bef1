"""The main job: a backend, what denoises it, and all that must be compared with it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch_geometric.data import HeteroData

from ddrm_pyg.experiments.cells import Cell, is_order_aware, rows_for
from ddrm_pyg.experiments.methods import find, yardsticks
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.settings import denoised
from ddrm_pyg.experiments.tables import (
    Row,
    Table,
    announce,
    in_blocks,
    legend,
    measure_columns,
    metric_frame,
    star_best,
)
from ddrm_pyg.experiments.work import Result
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.graph.sequences import UserSequences, edge_order, tells_order
from ddrm_pyg.ranking import METRICS
from ddrm_pyg.significance import PairedTest, paired_test

logger = logging.getLogger("ddrm_pyg")

WITHOUT = ("best_depth", "history_mean", "recent_mean")
"""Uses of the backend without DDRM, beside its own scores."""

PICKED = ("best_depth", "recent_mean", *yardsticks(order_aware=True))
"""What validation picks something for."""

HINTS = {
    "helps": (
        "Check first that it holds for another seed (--seed 1).",
        "Then take recommendations.csv, or open the run in Python: ddrm_pyg.load_run "
        "answers in your own ids.",
    ),
    "no significant change": (
        "A test over a few hundred users finds large effects only.",
        "Where the last epoch was the best, training wants more of them: raise "
        "--ddrm-epochs or --epochs.",
        "Noise may be of another kind: ddrm-pyg audit shows the clicks that look least "
        "like the rest.",
    ),
    "hurts": (
        "DDRM replaces a user's vector by an ideal item that is generated from the "
        "history.",
        "Where the row 'history mean' is far below the backend, the vector knows more "
        "than the history does.",
        "With the default backend, svd, these two are always equal: too few clicks to "
        "learn from are then the likely cause.",
    ),
}
"""What else helps at each verdict; docs/helps.md says the same."""

METRIC = "ndcg@20"
"""What the verdict is about."""

MEASURES = (*METRICS, "coverage@20")
"""What the table shows."""

_WORDS = {
    "popularity": "popularity, item_knn, ease: yardsticks, simple models to beat.",
    "best depth": "best depth: vectors smoothed on the graph as validation likes.",
    "history mean": "history mean: a user is the mean of the items taken, no DDRM.",
    "recency": "recency: late clicks count more; validation picks how much.",
    "one pass": "one pass: DDRM restores once, from a start without noise.",
}
"""A line below the table for each of these words in the names of its rows."""


@dataclass(frozen=True)
class Verdict:
    """Whether denoising earns its place.

    Attributes:
        name: The row that is judged.
        word: ``"helps"``, ``"no significant change"`` or ``"hurts"``.
        rival: The strongest row it was compared with.
        test: The row against that one, user by user.
        yardstick: The strongest yardstick that knows no more, with the row's test
            against it; None where there is none.
        winner: The row that is best on validation; None where nothing can say.
    """

    name: str
    word: str
    rival: str
    test: PairedTest
    yardstick: tuple[str, PairedTest] | None = None
    winner: str | None = None

    def __str__(self) -> str:
        return "\n".join([self.headline, *self.reasons, self.advice])

    @property
    def headline(self) -> str:
        """The verdict itself, and what is better all the same."""
        line = f"verdict on {self.name}: {self.word}"
        link = "but" if self.word == "helps" else "and"
        return f"{line}, {link} '{self.better}' is better" if self.better else line

    @property
    def better(self) -> str | None:
        """The yardstick that is better, significantly and by 1 %; None without one."""
        if self.yardstick is None:
            return None
        name, test = self.yardstick
        return name if test.difference < 0 and test.counts() else None

    @property
    def reasons(self) -> list[str]:
        """What it rests on, and how it stands beside the yardsticks."""
        users = f", paired t-test over {self.test.num_users} users"
        what = "the best use of the backend without it"
        lines = [_in_words(self.test, self.rival, what, users)]
        if self.yardstick:
            name, test = self.yardstick
            lines.append(_in_words(test, name, "the best yardstick that knows no more"))
        return lines

    @property
    def advice(self) -> str:
        """What to do, in a sentence: nothing is picked on test, but DDRM may fail."""
        if not self.ahead or self.winner in (None, *self.ahead):
            return self._by_test()
        best = self.ahead[0]
        beats = f"'{best}' beats '{self.rival if best == self.name else self.name}'"
        if self.winner == self.name:
            return f"Do without it, though validation picks it: on test {beats}."
        return (
            f"Use '{self.winner}', which validation picks: nothing is picked on test, "
            f"where {beats}."
        )

    @property
    def ahead(self) -> list[str]:
        """The rows that test has ahead: none where it cannot tell."""
        if self.better:
            return [self.better]
        if self.word == "hurts":
            return [self.rival]
        if self.word == "helps":
            return [self.name, *([self._as_good] if self._as_good else [])]
        return []

    def _by_test(self) -> str:
        """What to do where validation agrees with test."""
        if self.better:
            return f"Use '{self.better}': it ranks better, and nothing is trained."
        if self.word == "helps":
            return f"Use '{self.name}'{self._or_as_good()}."
        if self.word == "hurts":
            return f"Do without it: '{self.rival}' ranks better."
        if self.test.significant():
            return f"No difference worth having: '{self.rival}' is simpler."
        return "Not significant: more users or more seeds can tell."

    @property
    def _as_good(self) -> str | None:
        """The yardstick that does as well, if it does."""
        if self.yardstick is None or self.yardstick[1].counts():
            return None
        return self.yardstick[0]

    def _or_as_good(self) -> str:
        if self.yardstick is None or self._as_good is None:
            return ""
        name, test = self.yardstick
        close = (
            "are less than 1 % apart" if test.significant() else "cannot be told apart"
        )
        return f" or '{name}': they {close}"

    def record(self) -> dict[str, Any]:
        """Flatten for JSON."""
        beside = None
        if self.yardstick:
            name, test = self.yardstick
            beside = {"name": name, **test.record()}
        return {
            "verdict": self.word,
            "rival": self.rival,
            **self.test.record(),
            "yardstick": beside,
            "better_yardstick": self.better,
        }


def _in_words(test: PairedTest, rival: str, what: str, how: str = "") -> str:
    p = "< 0.0001" if test.p_value < 1e-4 else f"= {test.p_value:.4f}"
    return f"{METRIC.upper()} {test.change()} against '{rival}', {what} (p {p}{how})"


def check_order(data: HeteroData, cells: Iterable[Cell]) -> None:
    """Refuse cells that read the order of interactions where nothing tells it.

    Raises:
        ValueError: What is missing, and what to do.
    """
    if any(map(is_order_aware, cells)) and not tells_order(data):
        graph = InteractionGraph.from_data(data)
        UserSequences.from_graph(graph, edge_order(data))  # says what is wrong


def default_ddrm(
    backend: Cell, data: HeteroData, *, seed: int | None = None, epochs: int | None
) -> Cell:
    """Build the DDRM that is plugged in where nobody asks for settings.

    The one that validation picks over the development sets, ``"ddrm_future"``, learns
    from the order of interactions; where nothing tells it, DDRM is trained without.
    SASRec has settings of its own, with wider item vectors beside its states.

    Args:
        backend: The cell of a backend, or of given embeddings.
        data: The loaded data set.
        seed: Seed of DDRM; the backend's if None.
        epochs: Epochs at most; as stored if None.
    """
    settings: str | None = "ddrm_future"
    if backend.method == "sasrec":
        settings = "ddrm_states_ema"
    if not tells_order(data):
        settings = None
        times = (
            "the times do not tell the order (one for all that a user took, or unknown "
            "for more than 1 %)"
        )
        logger.warning(
            "%s: DDRM is trained without order, as published; with times it learns "
            "what comes next",
            times if "edge_time" in data[EDGE] else "no times",
        )
    return denoised(backend, "ddrm", seed=seed, settings=settings, epochs=epochs)


def plug_in(
    runner: Runner, backend: Cell, last: Cell | None
) -> tuple[list[Row], Verdict | None]:
    """Run the main job.

    Args:
        runner: The data set and where results are kept.
        backend: A backend or given embeddings.
        last: What denoises, as for
            :func:`ddrm_pyg.experiments.cells.rows_for`.

    Returns:
        The rows, and the verdict on the last one against the best of the backend, the
        backend at its best depth, and the history mean. (The best *on test*: choosing
        the rival there makes "helps" harder to earn, and "hurts" likelier.) No verdict
        if nothing denoises.
    """
    cells = rows_for(backend, last)
    if not runner.has_validation:
        picked = [name for name, cell in cells.items() if cell.method in PICKED]
        logger.warning(
            "no validation split: %s left out, nothing can pick for them",
            ", ".join(map(repr, picked)),
        )
        cells = {name: cell for name, cell in cells.items() if name not in picked}
    rows = [
        announce(Row(name, [result]), METRIC)
        for name, cell in cells.items()
        if (result := _run(runner, cell))
    ]
    if last is None:
        return rows, None
    rivals = [
        row for row in rows if row.result.cell.method in (backend.method, *WITHOUT)
    ]
    judged = rows[-1]
    verdict = judge(judged, rivals, fair_yardsticks(judged, rows))
    winner = pick(rows).name if runner.has_validation else None
    return rows, replace(verdict, winner=winner)


def fair_yardsticks(judged: Row, rows: Iterable[Row]) -> list[Row]:
    """List the yardsticks that know no more than a row: less is no advantage."""
    return [
        row
        for row in rows
        if row.is_yardstick and (judged.order_aware or not row.order_aware)
    ]


def pick(rows: Sequence[Row]) -> Row:
    """Pick the row that is best on validation; the last one without validation.

    Of rows that tie it is the first, which is the simplest.
    """
    if not all(row.result.val for row in rows):
        return rows[-1]
    return max(rows, key=lambda row: row.result.val[METRIC])


def _run(runner: Runner, cell: Cell) -> Result | None:
    """Run a cell; a yardstick that does not fit into memory is left out."""
    try:
        return runner.run(cell)
    except MemoryError as error:
        if find(cell.method).role != "yardstick":
            raise
        logger.warning("%s is left out: %s", cell.method, error)
        return None


def judge(row: Row, rivals: Sequence[Row], beside: Sequence[Row] = ()) -> Verdict:
    """Compare a row with the strongest of its rivals.

    By a paired t-test over users, see :meth:`ddrm_pyg.significance.PairedTest.counts`.

    Args:
        row: What is judged.
        rivals: Uses of the backend without it.
        beside: Yardsticks, of which the strongest has a test of its own.
    """
    rival, test = _strongest(row, rivals)
    gain = "helps" if test.difference > 0 else "hurts"
    word = gain if test.counts() else "no significant change"
    yardstick = _strongest(row, beside) if beside else None
    return Verdict(row.name, word, rival, test, yardstick)


def _strongest(row: Row, others: Sequence[Row]) -> tuple[str, PairedTest]:
    """The strongest of some rows, and a row's test against it."""
    other = max(others, key=lambda other: other.result.test[METRIC])
    return other.name, paired_test(row.result.test, other.result.test, METRIC)


def as_record(row: Row) -> dict[str, Any]:
    """Flatten a row for JSON."""
    return {"name": row.name, "order_aware": row.order_aware, **row.result.test}


def as_tables(rows: Sequence[Row]) -> list[Table]:
    """Lay out each block for people; the best values of its columns are starred."""
    names = ", ".join(row.name for row in rows)
    words = [text for word, text in _WORDS.items() if word in names]
    return in_blocks(rows, partial(_as_table, words=[*words, *_alike(rows)]))


def _alike(rows: Sequence[Row]) -> list[str]:
    """Say which rows have the same numbers, and why that is no mistake."""
    groups: dict[tuple[float, ...], list[Row]] = {}
    for row in rows:
        values = dict(row.result.test)
        numbers = tuple(round(values[name], 6) for name in MEASURES)
        groups.setdefault(numbers, []).append(row)
    return [
        f"{names}: the same numbers{''.join(reasons)}."
        for group in groups.values()
        if len(group) > 1
        for names in [", ".join(f"'{row.name}'" for row in group)]
        if (reasons := [why for row in group if (why := _why_alike(row.result))])
    ]


def _why_alike(result: Result) -> str:
    """Why a use of a backend may rank as the backend itself does."""
    cell = result.cell
    if cell.method == "best_depth" and result.notes.get("num_layers") == 0:
        return "; the best depth is none"
    if cell.method == "history_mean" and cell.base and cell.base.method == "svd":
        return "; SVD's vector of a user is the history mean"
    return ""


def _as_table(rows: Sequence[Row], words: Sequence[str]) -> Table:
    frame = metric_frame({row.name: row.result.test for row in rows})
    columns = measure_columns(MEASURES)
    marked = [row.name for row in rows if row.result.cell.method == "ddrm"]
    return Table(
        star_best(frame, METRICS),
        columns,
        notes=[*legend(columns), *words],
        marked=marked,
    )
