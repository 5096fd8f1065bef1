"""What was reproduced: the numbers of each line, measured, and as JSON keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddrm_pyg.datasets.amazon_book import AmazonBook
from ddrm_pyg.datasets.movielens_1m import MovieLens1M
from ddrm_pyg.datasets.paper import PaperDataset
from ddrm_pyg.datasets.summary import summarize
from ddrm_pyg.datasets.yelp import Yelp
from ddrm_pyg.experiments.cells import seed_of
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.settings import load_settings, paper_name
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.experiments.tables import CorrectedTest, Row, deviation, paired_tests
from ddrm_pyg.experiments.work import Result
from ddrm_pyg.extras import versions
from ddrm_pyg.paper.execute import Benches, CellResult
from ddrm_pyg.paper.outline import (
    AS_IS,
    Block,
    Condition,
    Line,
    Request,
    clean_source,
    full_name,
)
from ddrm_pyg.paper.published import published
from ddrm_pyg.ranking import METRICS
from ddrm_pyg.significance import SIGNIFICANCE

MISS = 0.05
"""Relative distance from the paper above which a row has to say what was checked."""

OF_PAPER: dict[str, type[PaperDataset]] = {
    cls.name: cls for cls in (MovieLens1M, Yelp, AmazonBook)
}
"""The data sets of the paper by name."""


class Change(NamedTuple):
    """A line against its rival.

    Attributes:
        difference: Of the means over users.
        p_holm: Corrected over all lines and metrics of the block.
    """

    difference: float
    p_holm: float

    @property
    def is_significant(self) -> bool:
        """At the paper's level."""
        return self.p_holm < SIGNIFICANCE


@dataclass(frozen=True)
class LineResult:
    """What was measured of a line; absent numbers are left out, never filled in.

    Attributes:
        name: What a reader sees.
        at: Its place on the x axis, if there is one.
        condition: What was done to the data.
        rival: Name of the line that it is tested against.
        asked: How many cells it has.
        seeds: Those that have been run; none of closed forms.
        failed: Why there are no results, cell by cell.
        depths: Layers that validation has picked, seed by seed.
        best_at_end: Seeds whose last epoch was the best by validation.
        about: Where its settings come from, and what was checked.
        values: Metric to values, seed by seed.
        paper: Metric to what the paper prints.
        tests: Metric to its test against the rival.
        cell: Settings of its first cell; not kept in the repository.
    """

    name: str
    asked: int
    at: float | None = None
    condition: str = AS_IS.name
    rival: str | None = None
    seeds: Sequence[int] = ()
    failed: Sequence[str] = ()
    depths: Sequence[int] = ()
    best_at_end: Sequence[int | None] = ()
    about: str = ""
    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    paper: Mapping[str, float] = field(default_factory=dict)
    tests: Mapping[str, Change] = field(default_factory=dict)
    cell: Mapping[str, Any] | None = None

    @property
    def full_name(self) -> str:
        """A name that no other line of its block has."""
        return full_name(self.name, self.at)

    @property
    def run(self) -> int:
        """How many results there are."""
        return max(map(len, self.values.values()), default=0)

    @property
    def mean(self) -> dict[str, float]:
        """Metric to mean over seeds."""
        return {metric: float(np.mean(v)) for metric, v in self.values.items()}

    @property
    def deviation(self) -> dict[str, float]:
        """Metric to standard deviation over seeds, where there are several."""
        spread = {metric: deviation(v) for metric, v in self.values.items()}
        return {metric: value for metric, value in spread.items() if value is not None}

    @property
    def gap(self) -> dict[str, float]:
        """Metric to distance from the paper, relative to the paper."""
        both = self.mean.keys() & self.paper.keys()
        return {metric: self.mean[metric] / self.paper[metric] - 1 for metric in both}

    @property
    def misses(self) -> bool:
        """Whether it is further from the paper than may go without a word."""
        return any(abs(gap) > MISS for gap in self.gap.values())

    def is_starred(self, metric: str) -> bool:
        """Whether it is above its rival at the paper's level of significance."""
        test = self.tests.get(metric)
        return test is not None and test.difference > 0 and test.is_significant

    def mean_over(self, metric: str, seeds: Sequence[int]) -> float:
        """Mean of a metric over some of the seeds; all of it where none is known."""
        values = self.values[metric]
        shared = zip(self.seeds, values, strict=False)  # a closed form has no seeds
        return float(np.mean([v for s, v in shared if s in seeds] or values))

    def to_json(self) -> dict[str, Any]:
        """Write out, with what follows from the values."""
        record = {f.name: getattr(self, f.name) for f in fields(self)}
        record |= {"run": self.run, "mean": self.mean, "deviation": self.deviation}
        record["tests"] = {m: test._asdict() for m, test in self.tests.items()}
        return {
            key: record[key]
            for key in _KEYS
            if record[key] is not None or key != "cell"
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> LineResult:
        """Read what :meth:`to_json` has written."""
        values = {f.name: record[f.name] for f in fields(cls) if f.name in record}
        tests = {metric: Change(**test) for metric, test in record["tests"].items()}
        return cls(**{**values, "tests": tests})


_KEYS = (
    *("name", "at", "condition", "rival", "asked", "run", "seeds", "failed"),
    *("depths", "best_at_end", "about", "values", "mean", "deviation", "cell"),
    *("paper", "tests"),
)
"""What JSON holds of a line, in this order."""


@dataclass(frozen=True)
class BlockResult:
    """What was measured of a block.

    Attributes:
        title: Its heading.
        axis: The name of the x axis of a panel of curves.
        lines: Its lines, as they are printed.
    """

    title: str
    axis: str | None
    lines: Sequence[LineResult]

    @property
    def is_empty(self) -> bool:
        """Whether nothing of it has been tried."""
        return not any(line.run or line.failed for line in self.lines)


class Statistics(NamedTuple):
    """Table 1: the sizes of the data with natural noise (N) and without (R).

    Attributes:
        measured: Letter to the summary of the data, where they are known.
        paper: Letter to the paper's counts.
    """

    measured: dict[str, dict[str, Any]]
    paper: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Reproduction:
    """A table or figure, as far as it has been run.

    Attributes:
        what: ``table1`` to ``figure6``.
        data: Name of the data.
        settings: Data set whose settings are taken.
        ddrm_settings: What replaces the published settings of DDRM, in words.
        command: What makes it again.
        versions: Of the packages that it was made by.
        statistics: Of Table 1 alone.
        blocks: Its parts.
        fingerprints: Hash of the interactions, by condition.
    """

    what: str
    data: str
    settings: str | None
    ddrm_settings: str | None
    command: str
    versions: Mapping[str, str]
    statistics: Statistics | None
    blocks: Sequence[BlockResult]
    fingerprints: Mapping[str, str]

    @property
    def lines(self) -> list[LineResult]:
        """The lines of all blocks."""
        return [line for block in self.blocks for line in block.lines]

    def to_json(self) -> dict[str, Any]:
        """Write out."""
        record = {f.name: getattr(self, f.name) for f in fields(self)}
        record["statistics"] = self.statistics and self.statistics._asdict()
        record["blocks"] = [
            {**vars(block), "lines": [line.to_json() for line in block.lines]}
            for block in self.blocks
        ]
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Reproduction:
        """Read what :meth:`to_json` has written."""
        statistics = record["statistics"] and Statistics(**record["statistics"])
        blocks = [
            BlockResult(
                **{**block, "lines": [*map(LineResult.from_json, block["lines"])]}
            )
            for block in record["blocks"]
        ]
        return cls(**{**record, "statistics": statistics, "blocks": blocks})


class KeptCell(NamedTuple):
    """A result that is small enough to be committed.

    Attributes:
        method: Name of the line, with what tells it from others of its name.
        data: Name of the data.
        seed: Seed; None of closed forms.
        selected_on: Which validation set selected; None where nothing does.
        metrics: Metric to value.
    """

    method: str
    data: str
    seed: int | None
    selected_on: str | None
    metrics: dict[str, float]


def measure(
    request: Request,
    blocks: Sequence[Block],
    results: Sequence[Sequence[Sequence[CellResult]]],
    benches: Benches,
) -> Reproduction:
    """Measure what there is of a table or figure.

    Args:
        request: What was asked for.
        blocks: Its lines.
        results: What there is of each line of each block, cell by cell.
        benches: The data.
    """
    source, plan = request.source, request.plan
    conditions = [*dict.fromkeys(line.condition for b in blocks for line in b.lines)]
    conditions = conditions or [AS_IS]
    data = paper_name(source, "natural")
    return Reproduction(
        what=request.what,
        data=conditions[0].base(source).name,
        settings=plan.variant,
        ddrm_settings=_in_words(plan.ddrm_settings),
        command=request.command,
        versions=versions(),
        statistics=count(source) if request.what == "table1" else None,
        blocks=[
            measure_block(block, cells, request.what, data)
            for block, cells in zip(blocks, results, strict=True)
        ],
        fingerprints=_fingerprints(conditions, benches),
    )


def _in_words(ddrm_settings: str | None) -> str | None:
    """What settings say of themselves that replace DDRM's published ones."""
    if ddrm_settings is None:
        return None
    about = load_settings(ddrm_settings, "ddrm").get("about", "settings of a file")
    return f"{Path(ddrm_settings).stem}: {about}"


def _fingerprints(conditions: Sequence[Condition], benches: Benches) -> dict[str, str]:
    return {
        condition.name: runner.fingerprint
        for condition in conditions
        if isinstance(runner := benches.find(condition), Runner)
    }


def measure_block(
    block: Block, results: Sequence[Sequence[CellResult]], what: str, data: str | None
) -> BlockResult:
    """Measure a block.

    Every line that names a rival is tested against it, metric by metric: paired t-tests
    over users of the means of the seeds that both have, Holm-corrected over the block.

    Args:
        block: The lines.
        results: What there is of each, cell by cell.
        what: Table or figure, for the paper's numbers.
        data: Data set of the paper.
    """
    rows = [
        Row(line.name, [cell for cell in cells if isinstance(cell, Result)])
        for line, cells in zip(block.lines, results, strict=True)
    ]
    rivals = [_rival(line, block, rows) for line in block.lines]
    lines = [
        _measure_line(line, cells, row, tests, published(what, line.name, data))
        for line, cells, row, tests in zip(
            block.lines, results, rows, paired_tests(rows, rivals, METRICS), strict=True
        )
    ]
    return BlockResult(block.title, block.axis, lines)


def _rival(line: Line, block: Block, rows: Sequence[Row]) -> Row | None:
    """The row of a line's rival, at the same place or at none."""
    return next(
        (
            row
            for other, row in zip(block.lines, rows, strict=True)
            if other.name == line.rival and other.at in (line.at, None)
        ),
        None,
    )


def _measure_line(
    line: Line,
    cells: Sequence[CellResult],
    row: Row,
    tests: Mapping[str, CorrectedTest],
    paper: Mapping[str, float],
) -> LineResult:
    notes = [result.notes for result in row.results]
    return LineResult(
        name=line.name,
        at=line.at,
        condition=line.condition.name,
        rival=line.rival,
        asked=len(line.cells),
        seeds=row.seeds,
        failed=[cell for cell in cells if isinstance(cell, str)],
        depths=[note["num_layers"] for note in notes if "num_layers" in note],
        best_at_end=[seed_of(r.cell) for r in row.results if _is_best_at_end(r)],
        about=line.about,
        values={m: row.values(m) for m in METRICS} if row.results else {},
        paper=dict(paper),
        tests={m: Change(t.test.difference, t.p_holm) for m, t in tests.items()},
        cell=asdict(line.cells[0]),
    )


def _is_best_at_end(result: Result) -> bool:
    """Whether validation might have picked an epoch beyond those allowed."""
    epochs = result.cell.fit.get("epochs")
    return bool(result.val) and epochs is not None and result.best_epoch == epochs


def kept_cells(
    request: Request,
    blocks: Sequence[Block],
    results: Sequence[Sequence[Sequence[CellResult]]],
) -> list[KeptCell]:
    """Flatten results to what is small enough to be committed.

    Args:
        request: What was asked for; its settings of DDRM are part of the names of what
            they change.
        blocks: Its lines.
        results: What there is of each line of each block, cell by cell.
    """
    settings = request.plan.ddrm_settings
    return [
        KeptCell(
            method=_method(line, block.axis, settings),
            data=line.condition.data_name(request.source),
            seed=(seed := seed_of(result.cell)),
            selected_on=None if seed is None else line.condition.selected_on,
            metrics={metric: result.test[metric] for metric in METRICS},
        )
        for block, of_block in zip(blocks, results, strict=True)
        for line, cells in zip(block.lines, of_block, strict=True)
        for result in cells
        if isinstance(result, Result)
    ]


def _method(line: Line, axis: str | None, ddrm_settings: str | None) -> str:
    parts = [line.name]
    if line.at is not None and line.condition.noise_ratio is None:
        parts.append(f"{axis} {line.at:g}")
    if ddrm_settings and line.has_ddrm:
        parts.append(Path(ddrm_settings).stem)
    return ", ".join(parts)


def count(source: Source) -> Statistics:
    """Count a data set with its natural noise (N) and without noise (R).

    The paper's R is the set that random noise is added to: the size of the clean one.
    N is left out of the clean set and of data with random noise, R where the clean set
    is not at hand.
    """
    clean = clean_source(source)
    measured = {}
    if clean != source.located() and source.noise != "random":
        measured["N"] = summarize(source.load())
    if clean is not None:
        measured["R"] = summarize(clean.load())
    name = paper_name(source)
    stated = OF_PAPER[name].table1 if name else {}
    letters = {"natural": "N", "random": "R"}
    return Statistics(
        measured, {letters[noise]: counts._asdict() for noise, counts in stated.items()}
    )
