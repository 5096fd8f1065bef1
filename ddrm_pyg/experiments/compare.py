"""A list of methods on one data set, in one table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from torch_geometric.data import HeteroData

from ddrm_pyg.experiments.cells import Cell, Result, chain
from ddrm_pyg.experiments.plug_in import METRIC
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.stored import YARDSTICKS
from ddrm_pyg.graph.interaction_graph import EDGE
from ddrm_pyg.ranking import METRICS, Metrics
from ddrm_pyg.significance import PairedTest, holm, mean_metrics, paired_test

logger = logging.getLogger("ddrm_pyg")

MEASURES = (*METRICS, "coverage@20", "popularity@20")
"""What a row tells of its rankings."""


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
class Comparison:
    """A method, over its seeds.

    Attributes:
        name: The method's name.
        results: A result per seed; of closed forms, one.
        cost: What one seed takes, with all that it starts from.
        rival: The yardstick it was tested against; None for that yardstick itself.
        test: The mean over seeds against the yardstick, user by user.
        p_adjusted: Its p-value after Holm's correction over all rows.
    """

    name: str
    results: Sequence[Result]
    cost: Cost
    rival: str | None = None
    test: PairedTest | None = None
    p_adjusted: float | None = None

    @cached_property
    def metrics(self) -> Metrics:
        """Test metrics, averaged over seeds for every user."""
        return mean_metrics([result.test for result in self.results])

    def deviation(self, metric: str) -> float | None:
        """Standard deviation of a metric over seeds; None with fewer than two."""
        values = [result.test[metric] for result in self.results]
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    def record(self) -> dict[str, Any]:
        """Flatten for JSON and CSV."""
        return {
            "name": self.name,
            **{name: self.metrics[name] for name in MEASURES},
            **{f"{name} deviation": self.deviation(name) for name in METRICS},
            "seeds": [r.cell.seed for r in self.results if r.cell.seed is not None],
            "best_epoch": [r.best_epoch for r in self.results if r.best_epoch],
            **self.cost._asdict(),
            "against": self.rival,
            "relative": self.test.record()["relative"] if self.test else None,
            "p_holm": self.p_adjusted,
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
    yardsticks = {name: [Cell(name)] for name in YARDSTICKS}
    found = []
    for name, cells in {**yardsticks, **methods}.items():
        try:
            results = [runner.run(cell) for cell in cells]
        except (MemoryError, ImportError) as error:  # too large, or without its extra
            logger.warning("%s is left out: %s", name, error)
            continue
        found.append(Comparison(name, results, _cost(runner, cells)))
    known = [row for row in found if row.name in YARDSTICKS]
    best = max(known, key=lambda row: row.metrics[METRIC])
    others = [row for row in found if row is not best]
    tests = [paired_test(row.metrics, best.metrics, METRIC) for row in others]
    adjusted = holm([test.p_value for test in tests])
    tested = {
        row.name: replace(row, rival=best.name, test=test, p_adjusted=p)
        for row, test, p in zip(others, tests, adjusted, strict=True)
    }
    return [tested.get(row.name, row) for row in found]


def _cost(runner: Runner, cells: Sequence[Cell]) -> Cost:
    chains = [[runner.run(link) for link in chain(cell)] for cell in cells]
    numbers = [result.num_parameters for result in chains[0]]
    return Cost(
        float(np.mean([sum(r.seconds for r in links) for links in chains])),
        max(r.peak_memory for links in chains for r in links),
        None if None in numbers else sum(n for n in numbers if n is not None),
    )


def verdict(rows: Sequence[Comparison]) -> dict[str, Any]:
    """Name the rows that are above and below the best yardstick.

    A difference counts if its corrected p-value is below .01 *and* it is at least 1 %
    of the yardstick's mean.
    """
    yardstick = next(row for row in rows if row.test is None)
    words: dict[str, Any] = {"yardstick": yardstick.name, "above": [], "below": []}
    for row in rows:
        if row.test is None or row.p_adjusted is None:
            continue
        if row.test.counts(row.p_adjusted):
            words["above" if row.test.difference > 0 else "below"].append(row.name)
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
