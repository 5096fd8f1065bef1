"""Run the cells of a plan in order, within a budget, and go on where one fails."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from ddrm_pyg.checks import nearest
from ddrm_pyg.experiments.cells import (
    CELLS,
    Cell,
    chain,
    folder_name,
    identity,
    seed_of,
)
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.experiments.settings import paper_name
from ddrm_pyg.experiments.sources import NAMED, Source
from ddrm_pyg.experiments.work import Result
from ddrm_pyg.files import read_json, undamaged, write_json
from ddrm_pyg.paper.outline import (
    Block,
    Condition,
    Line,
    Request,
    full_name,
    has_labels,
)

logger = logging.getLogger("ddrm_pyg")

FINGERPRINTS = "data.json"
"""What the data were under each condition, for who only looks."""

CellResult = Result | str | None
"""A result, why there is none, or None for what has not been run."""


class Job(NamedTuple):
    """A cell to be run.

    Attributes:
        condition: What is done to the data first.
        cell: The cell.
        line: The first line that asks for it, or for what starts from it.
    """

    condition: Condition
    cell: Cell
    line: str = ""


class Benches:
    """Runners on one source, a condition each, loaded when they are first asked for.

    Args:
        source: The data set.
        out: Folder of the results.
        device: Where models train.
        progress: Show bars on a terminal.
    """

    def __init__(
        self,
        source: Source,
        out: str | os.PathLike[str],
        *,
        device: str | None = None,
        progress: bool = True,
    ) -> None:
        self.source = source
        self.out = Path(out)
        self.device = device
        self.progress = progress
        self._runners: dict[Condition, Runner | str] = {}

    def __getitem__(self, condition: Condition) -> Runner:
        runner = self.find(condition)
        if isinstance(runner, str):
            raise ValueError(runner)
        return runner

    def find(self, condition: Condition) -> Runner | str:
        """Find a condition's runner, or why the data cannot be brought into it."""
        if condition not in self._runners:
            try:
                self._runners[condition] = self._load(condition)
            except ValueError as error:
                self._runners[condition] = str(error)
        return self._runners[condition]

    def _load(self, condition: Condition) -> Runner:
        data, hidden = condition.load(self.source)
        runner = Runner(
            data,
            self.out / CELLS,
            exclude=hidden,
            device=self.device,
            progress=self.progress,
        )
        digests = fingerprints(self.out) | {condition.name: runner.fingerprint}
        write_json(self.out / FINGERPRINTS, digests)
        return runner


def fingerprints(out: Path) -> dict[str, str]:
    """Read what the data were under each condition that has been loaded before."""
    path = out / FINGERPRINTS
    if not path.exists():
        return {}
    with undamaged(path, "not what 'reproduce' writes", "delete it"):
        digests = read_json(path)
        if not all(isinstance(digest, str) for digest in digests.values()):
            raise ValueError("it holds no hashes")
        return digests


def jobs(blocks: Iterable[Block]) -> list[Job]:
    """List every cell once, after what it starts from.

    Rounds follow one another, within a round the seeds, and within a seed the lines
    as they are printed.
    """
    lines = sorted((line for b in blocks for line in b.lines), key=lambda x: x.turn)
    first: dict[str, Job] = {}
    for _, group in groupby(lines, key=lambda line: line.turn):
        for line, cell in _by_seed(list(group)):
            condition = line.condition
            for link in reversed(chain(cell)):
                first.setdefault(
                    _key(condition, link),
                    Job(condition, link, full_name(line.name, line.at)),
                )
    return list(first.values())


def _key(condition: Condition, cell: Cell) -> str:
    return f"{condition} {identity(cell)}"


def _by_seed(lines: Sequence[Line]) -> Iterator[tuple[Line, Cell]]:
    for i in range(max(len(line.cells) for line in lines)):
        for line in lines:
            if i < len(line.cells):
                yield line, line.cells[i]


def is_done(job: Job, out: Path, digests: Mapping[str, str]) -> bool:
    """Whether a cell's result is there, without loading any data.

    Args:
        job: The cell.
        out: Folder of the results.
        digests: From :func:`fingerprints`.
    """
    digest = digests.get(job.condition.name)
    if digest is None:
        return False
    return (out / CELLS / folder_name(job.cell, digest) / "result.json").exists()


def preview(request: Request, out: Path) -> list[tuple[Job, bool]]:
    """List the cells of a request and whether each is done; nothing is written.

    Data that are downloaded by name are not loaded, and those that are not there need
    not be: what is known of them is what their name says and what earlier runs left.

    Raises:
        ValueError: What the run itself would refuse without training.
    """
    source = request.source
    absent = source.data not in NAMED and not Path(source.data).exists()
    by_name = source.data in NAMED and paper_name(source) is not None
    if by_name or absent:
        source.check(there=False)
        todo = jobs(request.blocks(labelled=source.noise != "clean"))
        digests = fingerprints(out)
    else:
        todo = jobs(request.blocks(has_labels(source.load())))
        digests = _hash(source, todo)
    if absent:
        meant = nearest(source.data, NAMED)
        message = "%s is not there%s; this is what would be run"
        logger.warning(message, source.data, meant)
    return [(job, is_done(job, out, digests)) for job in todo]


def _hash(source: Source, todo: Sequence[Job]) -> dict[str, str]:
    """Hash data that are at hand, condition by condition."""
    digests = {}
    for condition in dict.fromkeys(job.condition for job in todo):
        try:
            data, hidden = condition.load(source)
        except ValueError as error:
            logger.warning("%s: %s", condition.name, error)
        else:
            digests[condition.name] = Runner(data, "", exclude=hidden).fingerprint
    return digests


def carry_out(
    todo: Sequence[Job], benches: Benches, minutes: float | None = None
) -> dict[str, str]:
    """Run what has not been run.

    Args:
        todo: The cells, from :func:`jobs`.
        benches: The data.
        minutes: No cell is started after so many; None never stops.

    Returns:
        Each cell that failed, to the reason. It is tried again the next time.
    """
    begin = time.monotonic()
    failed: dict[str, str] = {}
    for number, job in enumerate(todo, 1):
        condition, cell, line = job
        runner = benches.find(condition)
        if isinstance(runner, Runner) and runner.has_run(cell):
            continue
        if minutes is not None and time.monotonic() - begin >= 60 * minutes:
            logger.info("%g minutes are over; run again to go on", minutes)
            break
        seed = seed_of(cell)
        words = "" if seed is None else f", seed {seed}"
        where = (number, len(todo), line, cell.method, words, condition.name)
        logger.info("cell %d of %d, for %s: %s%s, %s", *where)
        reason = runner if isinstance(runner, str) else _run(job, runner, failed)
        if reason:
            failed[_key(condition, cell)] = reason
            logger.warning("%s: %s failed: %s", line, cell.method, reason)
    return failed


def _run(job: Job, runner: Runner, failed: Mapping[str, str]) -> str | None:
    """Run a cell and return why that was impossible, if it was."""
    cell = job.cell
    if cell.base and _key(job.condition, cell.base) in failed:
        return f"{cell.base.method}, from which it starts, failed"
    try:
        runner.run(cell)
    except Exception as error:  # whatever it is, the other cells go on
        logger.debug("%s", cell, exc_info=True)
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def collect(
    line: Line, benches: Benches, failed: Mapping[str, str]
) -> list[CellResult]:
    """Read what there is of a line, cell by cell."""
    runner = benches.find(line.condition)
    return [
        _read(runner, cell)
        if isinstance(runner, Runner) and runner.has_run(cell)
        else failed.get(_key(line.condition, cell))
        for cell in line.cells
    ]


def _read(runner: Runner, cell: Cell) -> Result | str:
    """A result, or how it is damaged: the others are to be shown all the same."""
    try:
        return runner.run(cell)
    except ValueError as error:
        logger.warning("%s", error)
        return str(error)
