"""Turn results into the numbers of a table: means, deviations, differences, stars."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddrm_pyg.experiments.cells import Result
from ddrm_pyg.experiments.identity import complete
from ddrm_pyg.experiments.methods import fit_setting
from ddrm_pyg.experiments.paper.execute import Found, seed_of
from ddrm_pyg.experiments.paper.plans import Block, Line
from ddrm_pyg.experiments.paper.published import published
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.ranking import METRICS
from ddrm_pyg.significance import (
    SIGNIFICANCE,
    PairedTest,
    holm,
    mean_metrics,
    paired_test,
)

MISS = 0.05
"""Relative distance from the paper above which a row has to say what was checked."""


def block_record(
    block: Block, found: Sequence[Sequence[Found]], what: str, data: str | None
) -> dict[str, Any]:
    """Measure a block.

    Every line that names a rival is tested against it, metric by metric: paired t-tests
    over users of the means of the seeds that both have, Holm-corrected over the block.

    Args:
        block: The lines.
        found: What there is of each, cell by cell.
        what: Table or figure, for the paper's numbers.
        data: Data set of the paper.

    Returns:
        Numbers for JSON; absent ones are left out, never filled in.
    """
    lines = list(zip(block.lines, found, strict=True))
    records = [_line_record(line, cells) for line, cells in lines]
    tests = [_tests(line, cells, lines) for line, cells in lines]
    adjusted = iter(holm([test.p_value for row in tests for test in row.values()]))
    for (line, _), record, row in zip(lines, records, tests, strict=True):
        record["paper"] = dict(published(what, line.name, data))
        record["tests"] = {
            metric: {"difference": test.difference, "p_holm": next(adjusted)}
            for metric, test in row.items()
        }
    return {"title": block.title, "axis": block.axis, "lines": records}


def _line_record(line: Line, found: Sequence[Found]) -> dict[str, Any]:
    results = [cell for cell in found if isinstance(cell, Result)]
    values = {m: [result.test[m] for result in results] for m in METRICS}
    several = len(results) > 1
    seeds = [seed_of(result.cell) for result in results]
    depths = [r.notes["num_layers"] for r in results if "num_layers" in r.notes]
    return {
        "name": line.name,
        "at": line.at,
        "condition": line.condition.name,
        "rival": line.rival,
        "asked": len(line.cells),
        "run": len(results),
        "seeds": [seed for seed in seeds if seed is not None],
        "failed": [cell for cell in found if isinstance(cell, str)],
        "depths": depths,
        "best_at_end": [seed_of(r.cell) for r in results if _is_best_at_end(r)],
        "about": line.about,
        "values": {m: [float(x) for x in v] for m, v in values.items() if v},
        "mean": {m: float(np.mean(v)) for m, v in values.items() if v},
        "deviation": {
            m: float(np.std(v, ddof=1)) for m, v in values.items() if several
        },
        "cell": dataclasses.asdict(complete(line.cells[0])),
    }


def _is_best_at_end(result: Result) -> bool:
    """Whether validation might have picked an epoch beyond those allowed."""
    return bool(result.val) and result.best_epoch == fit_setting(result.cell, "epochs")


def _tests(
    line: Line,
    found: Sequence[Found],
    lines: Sequence[tuple[Line, Sequence[Found]]],
) -> dict[str, PairedTest]:
    against = [
        cells
        for other, cells in lines
        if other.name == line.rival and other.at in (line.at, None)
    ]
    if not against:
        return {}
    pairs = [
        (ours.test, theirs.test)
        for ours, theirs in zip(found, against[0], strict=False)
        if isinstance(ours, Result) and isinstance(theirs, Result)
    ]
    if not pairs:
        return {}
    ours, theirs = (mean_metrics(side) for side in zip(*pairs, strict=True))
    return {metric: paired_test(ours, theirs, metric) for metric in METRICS}


def is_starred(record: dict[str, Any], metric: str) -> bool:
    """Whether a line is above its rival at the paper's level of significance."""
    test = record["tests"].get(metric)
    return bool(test) and test["difference"] > 0 and test["p_holm"] < SIGNIFICANCE


def distance(record: dict[str, Any], metric: str) -> float | None:
    """How far a line is from the paper, relative to the paper; None where unknown."""
    ours, paper = record["mean"].get(metric), record["paper"].get(metric)
    return None if ours is None or not paper else ours / paper - 1


def misses(record: dict[str, Any]) -> bool:
    """Whether a line is further from the paper than may go without a word."""
    found = [distance(record, metric) for metric in METRICS]
    return any(d is not None and abs(d) > MISS for d in found)


def cell_records(
    block: Block,
    found: Sequence[Sequence[Found]],
    source: Source,
    ddrm_settings: str | None = None,
) -> list[dict[str, Any]]:
    """Flatten the results of a block to what is small enough to be committed.

    Args:
        block: The lines.
        found: What there is of each, cell by cell.
        source: The data.
        ddrm_settings: As the table was asked for; part of the names of what they
            change.
    """
    return [
        {
            "method": _method(line, block.axis, ddrm_settings),
            "data": line.condition.data_name(source),
            "seed": seed_of(result.cell),
            "selected_on": None
            if seed_of(result.cell) is None
            else line.condition.selected_on,
            "metrics": {metric: result.test[metric] for metric in METRICS},
        }
        for line, cells in zip(block.lines, found, strict=True)
        for result in cells
        if isinstance(result, Result)
    ]


def _method(line: Line, axis: str | None, ddrm_settings: str | None) -> str:
    parts = [line.name]
    if line.at is not None and line.condition.noise_ratio is None:
        parts.append(f"{axis} {line.at:g}")
    if ddrm_settings and "+ddrm" in line.name:
        parts.append(Path(ddrm_settings).stem)
    return ", ".join(parts)
