"""A list of methods on one data set, in a table for each kind of information."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch_geometric.data import HeteroData

from ddrm_pyg.experiments.cells import Cell, chain, is_order_aware
from ddrm_pyg.experiments.methods import yardsticks
from ddrm_pyg.experiments.plug_in import METRIC, default_ddrm
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.tables import (
    BLOCKS,
    Column,
    CorrectedTest,
    Row,
    Table,
    announce,
    in_blocks,
    legend,
    measure_columns,
    paired_tests,
    star_best,
)
from ddrm_pyg.graph.interaction_graph import EDGE, has_validation
from ddrm_pyg.graph.sequences import tells_order
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
    """A method, over its seeds, against the best yardstick of its block.

    Attributes:
        cost: What one seed takes, with all that it starts from.
        is_rival: Whether it is the yardstick that its block is tested against.
        rival: The yardstick it was tested against; None for that yardstick itself, and
            in a block without one.
        tested: The mean over seeds against the yardstick, user by user, corrected
            over all rows.
    """

    cost: Cost
    is_rival: bool = False
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
            "order_aware": self.order_aware,
            "against": self.rival,
            "relative": self.tested.test.record()["relative"] if self.tested else None,
            "p_holm": self.tested.p_holm if self.tested else None,
        }


def compare(runner: Runner, methods: Mapping[str, Sequence[Cell]]) -> list[Comparison]:
    """Run every method and test it against the best yardstick of its block.

    Args:
        runner: The data set and where results are kept. What has been run before is
            read from there, so that an interrupted comparison goes on.
        methods: Name to its cells, one per seed; the yardsticks are added, those that
            read the order of interactions where there is one.

    Returns:
        A row per method: the order-free ones, then the order-aware, yardsticks first.
        Tests are paired t-tests over users of the seeds' mean NDCG@20, against the
        yardstick of the block that is best *on test* (which makes beating it harder),
        Holm-corrected over both.
    """
    fixed = {name: [Cell(name)] for name in yardsticks_of(runner.data)}
    rows = []
    for name, cells in {**fixed, **methods}.items():
        if is_order_aware(cells[0]) and not tells_order(runner.data):
            logger.warning("%s is left out: it reads an order that nothing tells", name)
            continue
        try:
            results = [runner.run(cell) for cell in cells]
        except (MemoryError, ImportError) as error:  # too large, or without its extra
            logger.warning("%s is left out: %s", name, error)
            continue
        row = Comparison(name, results, _cost(runner, cells))
        rows.append(announce(row, METRIC))
    return _tested(sorted(rows, key=lambda row: row.order_aware))


def yardsticks_of(data: HeteroData) -> tuple[str, ...]:
    """Name the closed forms that a comparison on a data set holds."""
    if not tells_order(data):
        return yardsticks()
    if not has_validation(data):
        logger.warning("no validation split: nothing picks how fast histories fade")
        return yardsticks()
    return (*yardsticks(), *yardsticks(order_aware=True))


def with_default_ddrm(
    methods: Mapping[str, Sequence[Cell]],
    data: HeteroData,
    *,
    epochs: int | None = None,
) -> dict[str, Sequence[Cell]]:
    """Plug in the DDRM that learns from order, where there is one, as ``run`` does.

    Args:
        methods: Name to its cells, with DDRM as it is stored for them.
        data: The loaded data set.
        epochs: Epochs of DDRM at most; as stored if None.

    Returns:
        The same; the stored DDRM of ``mf+ddrm`` is then called ``mf+ddrm, published``.
    """
    if not tells_order(data):
        return dict(methods)
    rows: dict[str, Sequence[Cell]] = {}
    for name, cells in methods.items():
        learned = [
            default_ddrm(cell.base, data, seed=cell.seed, epochs=epochs)
            for cell in cells
            if cell.method == "ddrm" and cell.base
        ]
        if learned:
            rows[name] = learned
            name = f"{name}, published"
        rows[name] = cells
    return rows


def _tested(rows: Sequence[Comparison]) -> list[Comparison]:
    """Test the rows of each block against its best yardstick."""
    best: dict[bool, Comparison] = {}
    for row in rows:
        if row.is_yardstick:
            rival = best.setdefault(row.order_aware, row)
            if row.metrics[METRIC] > rival.metrics[METRIC]:
                best[row.order_aware] = row
    rivals = [best.get(row.order_aware) for row in rows]
    others = [
        None if row is rival else rival for row, rival in zip(rows, rivals, strict=True)
    ]
    tests = paired_tests(rows, others, [METRIC])
    return [
        replace(
            row,
            is_rival=row is best.get(row.order_aware),
            rival=rival.name if rival and test else None,
            tested=test.get(METRIC),
        )
        for row, rival, test in zip(rows, others, tests, strict=True)
    ]


def _cost(runner: Runner, cells: Sequence[Cell]) -> Cost:
    chains = [[runner.run(link) for link in chain(cell)] for cell in cells]
    counts = [result.num_parameters for result in chains[0]]
    numbers = [count for count in counts if count is not None]
    return Cost(
        float(np.mean([sum(r.seconds for r in links) for links in chains])),
        max(r.peak_memory for links in chains for r in links),
        sum(numbers) if numbers else None,
    )


def to_frame(rows: Sequence[Comparison]) -> pd.DataFrame:
    """Lay out a comparison as a DataFrame, for people and for ``compare.csv``.

    Returns:
        A row per method, by name: metrics, their deviations over seeds, seeds and best
        epochs (with spaces between them), costs (seconds, bytes, trained numbers),
        whether it reads the order of interactions, and the yardstick that it was tested
        against, with the relative gain in NDCG@20 and its corrected p-value.
    """
    frame = pd.DataFrame([row.record() for row in rows]).set_index("name")
    lists = {n: frame[n].map(_with_spaces) for n in ("seeds", "best_epoch")}
    numbers = frame["num_parameters"].astype("Int64")
    return frame.assign(**lists, num_parameters=numbers)


def _with_spaces(values: Sequence[int]) -> str:
    return " ".join(map(str, values))


def as_tables(rows: Sequence[Comparison]) -> list[Table]:
    """Lay out each block for people; the best metric of its columns is starred."""
    return in_blocks(rows, _as_table)


def _as_table(rows: Sequence[Comparison]) -> Table:
    frame = to_frame(rows)
    spread = frame.pop(f"{METRIC} deviation")
    shown = frame.drop(columns=frame.filter(like=" deviation").columns)
    measures = measure_columns(MEASURES)
    return Table(
        star_best(shown.assign(gain=[*map(_gain, rows)], spread=spread), METRICS),
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
        marked=[row.name for row in rows if row.result.cell.method == "ddrm"],
    )


def _gain(row: Comparison) -> str:
    if row.is_rival:
        return "yardstick"
    return row.tested.test.change() if row.tested else ""


def verdict(rows: Sequence[Comparison]) -> dict[str, Any]:
    """Name the rows that are above and below the best yardstick of their block.

    A difference counts if its corrected p-value is below .01 *and* it is at least 1 %
    of the yardstick's mean.

    Returns:
        ``yardstick``, ``above`` and ``below`` of the order-free rows, and under
        ``order_aware`` the same of the others; None without a yardstick there.
    """
    free, aware = (
        _verdict([row for row in rows if row.order_aware is order_aware])
        for order_aware in BLOCKS
    )
    return {**(free or {}), "order_aware": aware}


def _verdict(rows: Sequence[Comparison]) -> dict[str, Any] | None:
    best = next((row for row in rows if row.is_rival), None)
    if best is None:
        return None
    words: dict[str, Any] = {"yardstick": best.name, "above": [], "below": []}
    for row in rows:
        if row.tested and row.tested.test.counts(row.tested.p_holm):
            above = row.tested.test.difference > 0
            words["above" if above else "below"].append(row.name)
    return words


def cannot_say(data: HeteroData) -> list[str]:
    """List what a data set does not tell, and why."""
    missing = []
    if data[EDGE].get("edge_is_noise") is None:
        missing += [
            "who predicts what people meant to take: there are no ratings or noise "
            "labels, so test pairs may be noise themselves",
            "which method withstands noise",
        ]
    if data[EDGE].get("edge_time") is None and not tells_order(data):
        missing.append(
            "who predicts the future: there are no times, so the split is not by time"
        )
    return missing
