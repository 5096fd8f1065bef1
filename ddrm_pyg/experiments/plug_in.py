"""The main job: a backend, what denoises it, and all that must be compared with it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch_geometric.data import HeteroData

from ddrm_pyg.experiments.cells import Cell, starts_from_past
from ddrm_pyg.experiments.methods import find
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.settings import denoised
from ddrm_pyg.experiments.tables import (
    Table,
    legend,
    measure_columns,
    metric_frame,
    star_best,
)
from ddrm_pyg.experiments.work import Result
from ddrm_pyg.graph.interaction_graph import EDGE
from ddrm_pyg.ranking import METRICS
from ddrm_pyg.significance import PairedTest, paired_test

logger = logging.getLogger("ddrm_pyg")

PICKED = ("best_depth", "recent_mean")
"""Uses of the backend without DDRM that validation picks."""

METRIC = "ndcg@20"
"""What the verdict is about."""

MEASURES = (*METRICS, "coverage@20")
"""What the table shows."""


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: What a reader sees.
        result: What was measured.
    """

    name: str
    result: Result


@dataclass(frozen=True)
class Verdict:
    """Whether denoising earns its place.

    Attributes:
        name: The row that is judged.
        word: ``"helps"``, ``"no significant change"`` or ``"hurts"``.
        rival: The strongest row it was compared with.
        test: The row against that one, user by user.
    """

    name: str
    word: str
    rival: str
    test: PairedTest

    def __str__(self) -> str:
        return f"{self.headline}\n{self.reason}\n{self.advice}"

    @property
    def headline(self) -> str:
        """The verdict itself."""
        return f"verdict on {self.name}: {self.word}"

    @property
    def reason(self) -> str:
        """What it rests on."""
        return (
            f"{METRIC.upper()} {self.test.change()} against '{self.rival}', the "
            "best use of the backend without it "
            f"(p {self._p}, paired t-test over {self.test.num_users} users)"
        )

    @property
    def advice(self) -> str:
        """What to do, in a sentence."""
        if self.word == "helps":
            return f"Use '{self.name}': the files of this run hold it."
        better = "ranks better" if self.word == "hurts" else "is as good and simpler"
        return f"Do without it: '{self.rival}' {better}."

    def record(self) -> dict[str, Any]:
        """Flatten for JSON."""
        return {"verdict": self.word, "rival": self.rival, **self.test.record()}

    @property
    def _p(self) -> str:
        tiny = self.test.p_value < 1e-4
        return "< 0.0001" if tiny else f"= {self.test.p_value:.4f}"


def rows_for(backend: Cell, last: Cell | None = None) -> dict[str, Cell]:
    """List the cells of the main job.

    Args:
        backend: A backend or given embeddings.
        last: What denoises: DDRM with ``backend`` as its base, or the backend trained
            on cleaner data; nothing if None.

    Returns:
        Row name to cell, in the order of the table.
    """
    combine = {"combine": backend.model.get("combine", "mean")}
    name = backend.method
    rows = {
        "popularity": Cell("popularity"),
        "item_knn": Cell("item_knn"),
        "ease": Cell("ease"),
        name: backend,
        f"{name}, best depth": Cell("best_depth", model=combine, base=backend),
    }
    if last is None:
        return rows
    if last.method != "ddrm":
        return rows | {last.method: last}
    history = {k: v for k, v in last.model.items() if k == "history"}
    if starts_from_past(last):  # one pass; its starts weigh histories by recency, too
        return rows | {
            "history mean": Cell("history_mean", base=backend),
            "history mean, recency": Cell("recent_mean", base=backend),
            "ddrm": last,
        }
    return rows | {
        # where this DDRM starts: with its weights, or the comparison is not with it
        "history mean": Cell("history_mean", model=history, base=backend),
        "ddrm, one pass, no noise": Cell("one_pass", base=last),
        "ddrm": last,
    }


def tells_order(data: HeteroData) -> bool:
    """Whether the times of a data set put its train interactions in an order."""
    time = data[EDGE].get("edge_time")
    return time is not None and bool((time != time[:1]).any())


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
        settings = "ddrm_future_sasrec"
    if not tells_order(data):
        settings = None
        logger.warning(
            "no times: DDRM is trained without order, as published; with times it "
            "learns what comes next"
        )
    return denoised(backend, "ddrm", seed=seed, settings=settings, epochs=epochs)


def plug_in(
    runner: Runner, backend: Cell, last: Cell | None
) -> tuple[list[Row], Verdict | None]:
    """Run the main job.

    Args:
        runner: The data set and where results are kept.
        backend: A backend or given embeddings.
        last: What denoises, as for :func:`rows_for`.

    Returns:
        The rows, and the verdict on the last one against the best of the backend, the
        backend at its best depth, and the history mean. (The best *on test*: choosing
        the rival there makes "helps" harder to earn, and "hurts" likelier.) No verdict
        if nothing denoises.
    """
    cells = rows_for(backend, last)
    if not runner.has_validation:
        logger.warning(
            "no validation split: '%s, best depth' is left out, nothing can pick it",
            backend.method,
        )
        cells = {k: c for k, c in cells.items() if c.method not in PICKED}
    rows = [
        Row(name, result)
        for name, cell in cells.items()
        if (result := _run(runner, cell))
    ]
    if last is None:
        return rows, None
    rivals = [
        row
        for row in rows
        if row.result.cell.method in (backend.method, *PICKED, "history_mean")
    ]
    return rows, judge(rows[-1], rivals)


def _run(runner: Runner, cell: Cell) -> Result | None:
    """Run a cell; a yardstick that does not fit into memory is left out."""
    try:
        return runner.run(cell)
    except MemoryError as error:
        if find(cell.method).role != "yardstick":
            raise
        logger.warning("%s is left out: %s", cell.method, error)
        return None


def judge(row: Row, rivals: Sequence[Row]) -> Verdict:
    """Compare a row with the strongest of its rivals.

    By a paired t-test over users, see :meth:`ddrm_pyg.significance.PairedTest.counts`.
    """
    rival = max(rivals, key=lambda other: other.result.test[METRIC])
    test = paired_test(row.result.test, rival.result.test, METRIC)
    gain = "helps" if test.difference > 0 else "hurts"
    word = gain if test.counts() else "no significant change"
    return Verdict(row.name, word, rival.name, test)


def as_record(row: Row) -> dict[str, Any]:
    """Flatten a row for JSON."""
    return {"name": row.name, **row.result.test}


def as_table(rows: Sequence[Row]) -> Table:
    """Lay out the rows for people; the best value of a column is starred."""
    frame = metric_frame({row.name: row.result.test for row in rows})
    columns = measure_columns(MEASURES)
    marked = [row.name for row in rows if row.result.cell.method == "ddrm"]
    return Table(
        star_best(frame, METRICS), columns, notes=legend(columns), marked=marked
    )
