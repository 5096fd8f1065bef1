"""A list of methods on one data set, in one table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch_geometric.data import HeteroData

from ddrm_pyg.experiments.cells import Cell, chain
from ddrm_pyg.experiments.methods import yardsticks
from ddrm_pyg.experiments.plug_in import METRIC
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.tables import (
    Column,
    CorrectedTest,
    Row,
    Table,
    legend,
    measure_columns,
    paired_tests,
    star_best,
)
from ddrm_pyg.graph.interaction_graph import EDGE
from ddrm_pyg.ranking import METRICS

logger = logging.getLogger("ddrm_pyg")

MEASURES = (*METRICS, "coverage@20", "popularity@20")
"""What a row says of its rankings."""


class Cost(NamedTuple):
    """What a row takes, with the trainings that it starts from.

    Attributes:
        seconds: Wall time of training or solving; the mean over seeds.
        peak_memory: Bytes added to the process at the worst moment, over seeds.
        num_parameters: Trained numbers; None for closed forms.
    """

    seconds: float
    peak_memory: int
    num_parameters: int | None


@dataclass(frozen=True)
class Comparison(Row):
    """A method, over its seeds, against the best yardstick.

    Attributes:
        cost: What one seed takes, with all that it starts from.
        rival: The yardstick it was tested against; None for that yardstick itself.
        tested: The mean over seeds against the yardstick, user by user, corrected
            over all rows.
    """

    cost: Cost
    rival: str | None = None
    tested: CorrectedTest | None = None

    def record(self) -> dict[str, Any]:
        """Flatten for JSON and CSV."""
        return {
            "name": self.name,
            **{name: self.metrics[name] for name in MEASURES},
            **{f"{name} deviation": self.deviation(name) for name in METRICS},
            "seeds": self.seeds,
            "best_epoch": [r.best_epoch for r in self.results if r.best_epoch],
            **self.cost._asdict(),
            "against": self.rival,
            "relative": self.tested.test.record()["relative"] if self.tested else None,
            "p_holm": self.tested.p_holm if self.tested else None,
        }


def compare(runner: Runner, methods: Mapping[str, Sequence[Cell]]) -> list[Comparison]:
    """Run every method and test it against the best yardstick.

    Args:
        runner: The data set and where results are kept. What has been run before is
            read from there, so that an interrupted comparison goes on.
        methods: Name to its cells, one per seed; the yardsticks are added.

    Returns:
        A row per method, yardsticks first. Tests are paired t-tests over users of the
        seeds' mean NDCG@20, against the yardstick that is best *on test* (which makes
        beating it harder), Holm-corrected.
    """
    fixed = {name: [Cell(name)] for name in yardsticks()}
    rows = []
    for name, cells in {**fixed, **methods}.items():
        try:
            results = [runner.run(cell) for cell in cells]
        except (MemoryError, ImportError) as error:  # too large, or without its extra
            logger.warning("%s is left out: %s", name, error)
            continue
        rows.append(Comparison(name, results, _cost(runner, cells)))
    known = [row for row in rows if row.name in yardsticks()]
    best = max(known, key=lambda row: row.metrics[METRIC])
    rivals = [None if row is best else best for row in rows]
    return [
        replace(row, rival=best.name, tested=tests[METRIC]) if tests else row
        for row, tests in zip(rows, paired_tests(rows, rivals, [METRIC]), strict=True)
    ]


def _cost(runner: Runner, cells: Sequence[Cell]) -> Cost:
    chains = [[runner.run(link) for link in chain(cell)] for cell in cells]
    numbers = [result.num_parameters for result in chains[0]]
    return Cost(
        float(np.mean([sum(r.seconds for r in links) for links in chains])),
        max(r.peak_memory for links in chains for r in links),
        None if None in numbers else sum(n for n in numbers if n is not None),
    )


def to_frame(rows: Sequence[Comparison]) -> pd.DataFrame:
    """Lay out a comparison as a DataFrame, for people and for ``compare.csv``.

    Returns:
        A row per method, by name: metrics, their deviations over seeds, seeds and best
        epochs (with spaces between them), costs (seconds, bytes, trained numbers), and
        the yardstick that it was tested against, with the relative gain in NDCG@20 and
        its corrected p-value.
    """
    frame = pd.DataFrame([row.record() for row in rows]).set_index("name")
    lists = {n: frame[n].map(_with_spaces) for n in ("seeds", "best_epoch")}
    numbers = frame["num_parameters"].astype("Int64")
    return frame.assign(**lists, num_parameters=numbers)


def _with_spaces(values: Sequence[int]) -> str:
    return " ".join(map(str, values))


def as_table(rows: Sequence[Comparison]) -> Table:
    """Lay out a comparison for people; the best metric of a column is starred."""
    frame = to_frame(rows)
    gain = [row.tested.test.change() if row.tested else "yardstick" for row in rows]
    spread = frame.pop(f"{METRIC} deviation")
    shown = frame.drop(columns=frame.filter(like=" deviation").columns)
    measures = measure_columns(MEASURES)
    return Table(
        star_best(shown.assign(gain=gain, spread=spread), METRICS),
        {
            **measures,
            "seconds": Column("train s", ".1f"),
            "peak_memory": Column("peak MB", lambda size: f"{size / 2**20:.0f}"),
            "num_parameters": Column("parameters", "d"),
            **({"spread": Column("sd N@20")} if spread.notna().any() else {}),
            "gain": Column("gain"),
            "p_holm": Column("p Holm"),
        },
        notes=[
            *legend(measures),
            "gain: of NDCG@20 over the best yardstick, significant where p Holm < .01.",
        ],
        marked=[row.name for row in rows if row.results[0].cell.method == "ddrm"],
    )


def verdict(rows: Sequence[Comparison]) -> dict[str, Any]:
    """Name the rows that are above and below the best yardstick.

    A difference counts if its corrected p-value is below .01 *and* it is at least 1 %
    of the yardstick's mean.
    """
    yardstick = next(row for row in rows if row.tested is None)
    words: dict[str, Any] = {"yardstick": yardstick.name, "above": [], "below": []}
    for row in rows:
        if row.tested and row.tested.test.counts(row.tested.p_holm):
            above = row.tested.test.difference > 0
            words["above" if above else "below"].append(row.name)
    return words


def cannot_say(data: HeteroData) -> list[str]:
    """List the claims that a data set does not allow, in sentences."""
    missing = []
    if data[EDGE].get("edge_is_noise") is None:
        missing += [
            "no ratings or noise labels: test pairs may be noise themselves, so the "
            "table tells who predicts clicks, not who predicts likes",
            "nothing can be said about which method withstands noise",
        ]
    if data[EDGE].get("edge_time") is None:
        missing.append(
            "no times: the split is not by time, so nothing can be said about "
            "predicting the future"
        )
    return missing
