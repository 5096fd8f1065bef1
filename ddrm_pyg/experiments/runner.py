"""Run an experiment as cells: each trains, evaluates and writes, once.

A cell is a method with its settings and seed on one data set. Its folder is named by a
hash of all of these, so that a changed setting, seed or data file never meets an old
result, and its ``result.json`` is written last, so that a killed run goes on with the
cell that was not finished.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.experiments.cells import Cell, chain, folder_name
from ddrm_pyg.experiments.memory import PeakMemory, guard_memory
from ddrm_pyg.experiments.methods import FIT, resolve
from ddrm_pyg.experiments.work import (
    EMBEDDINGS,
    Outcome,
    Result,
    Work,
    check_hash,
    damaged,
)
from ddrm_pyg.files import atomic_path, hash_file, read_json, write_json
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph, has_validation
from ddrm_pyg.ranking import Metrics, evaluate
from ddrm_pyg.training import FitResult, fit, own_randomness
from ddrm_pyg.typing import EpochEnd, Recommender, Scorer

logger = logging.getLogger("ddrm_pyg")


PER_USER = "per_user.safetensors"
"""Every user's metrics. ``result.json`` has a hash of it and of every table, so that
the file of another cell is not believed."""


class Runner:
    """Runs cells on one data set and keeps their results in a folder.

    Args:
        data: The loaded data set.
        folder: Where cells are kept.
        exclude: Pairs hidden from test rankings, where those are not all of train and
            validation.
        device: Where models train.
        callbacks: Called at the end of every epoch of every training, as by
            :func:`ddrm_pyg.fit`.
        progress: Show bars on a terminal.
    """

    def __init__(
        self,
        data: HeteroData,
        folder: str | os.PathLike[str],
        *,
        exclude: InteractionGraph | None = None,
        device: str | None = None,
        callbacks: Sequence[EpochEnd] = (),
        progress: bool = True,
    ) -> None:
        self.data = data
        self.folder = Path(folder)
        self.exclude = exclude
        self.device = device
        self.callbacks = callbacks
        self.progress = progress

    @cached_property
    def graph(self) -> InteractionGraph:
        """Train interactions."""
        return InteractionGraph.from_data(self.data)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all pairs of all splits, and of those that are hidden."""
        digest = fingerprint(self.data)
        if self.exclude is None:
            return digest
        hidden = self.exclude.edge_index.cpu().contiguous().numpy().tobytes()
        return hashlib.sha256(digest.encode() + hidden).hexdigest()

    @cached_property
    def has_validation(self) -> bool:
        """Whether anything can be selected."""
        return has_validation(self.data)

    def cell_folder(self, cell: Cell) -> Path:
        """Folder of a cell."""
        return self.folder / folder_name(cell, self.fingerprint)

    def has_run(self, cell: Cell) -> bool:
        """Whether a cell's result is there."""
        return (self.cell_folder(cell) / "result.json").exists()

    def run(self, cell: Cell) -> Result:
        """Return a cell's result, from its folder if it has been run before.

        Raises:
            ValueError: There is no such method, or what is in the folder is damaged.
            MemoryError: It does not fit; the message names what to lower.
        """
        folder = self.cell_folder(cell)
        if not self.has_run(cell):
            work = self.work(cell)  # with its bases: their time is their own
            with (
                guard_memory(cell, self.graph, self.device),
                own_randomness(work.seed, self.device or "cpu"),
                PeakMemory(self.device) as peak,
            ):
                outcome, seconds = self._carry_out(work)
            cost = {
                "seconds": round(seconds, 3),
                "peak_memory": peak.bytes,
                "num_parameters": outcome.num_parameters,
            }
            self._write(cell, folder, outcome, cost)
            (folder / "checkpoint.pt").unlink(missing_ok=True)
            resumed = outcome.fit is not None and outcome.fit.resumed_from
            before = ", counting what was trained before" if resumed else ""
            logger.info("%s: %.1f s%s", cell.method, seconds, before)
        return _read(cell, folder)

    def scorer(self, cell: Cell) -> Scorer:
        """Return what a cell ranks by: tables that it left, or its closed form anew.

        Raises:
            ValueError: As :meth:`run`; or what was trained has left no tables.
        """
        result = self.run(cell)
        if (result.folder / f"{EMBEDDINGS}.safetensors").exists():
            return result.embeddings()
        work = self.work(cell)
        if work.method.run is None or work.method.trained:
            raise ValueError(f"'{cell.method}' has left no tables to rank by")
        with own_randomness(work.seed, self.device or "cpu"):
            return resolve(work.method.run)(work).scorer

    def work(self, cell: Cell) -> Work:
        """Return what a cell's method works on; runs what the cell starts from."""
        return Work(
            cell=cell,
            data=self.data,
            graph=self.graph,
            bases=tuple(self.run(link) for link in reversed(chain(cell)[1:]))[::-1],
            fit=partial(self.train, cell),
            device=self.device,
        )

    def _carry_out(self, work: Work) -> tuple[Outcome, float]:
        """Run a cell's method; its outcome and its seconds, of all processes."""
        run = work.method.run
        if run is None:
            raise ValueError(f"'{work.cell.method}' must be added to a backend")
        logger.info("%s ...", work.cell.method)
        self.cell_folder(work.cell).mkdir(parents=True, exist_ok=True)
        begin = time.perf_counter()
        outcome = resolve(run)(work)
        seconds = time.perf_counter() - begin
        if outcome.fit:  # what an earlier process has trained belongs to it
            earlier = outcome.fit.history[: outcome.fit.resumed_from]
            seconds += sum(record["seconds"] for record in earlier)
        return outcome, seconds

    def train(self, cell: Cell, model: Recommender) -> FitResult:
        """Fit a cell's model, from its checkpoint if there is one."""
        folder = self.cell_folder(cell)
        return fit(
            model,
            self.data,
            **FIT.fill(cell.fit),
            seed=cell.seed or 0,
            checkpoint=folder / "checkpoint.pt",
            log=folder / "log.jsonl",
            device=self.device,
            callbacks=self.callbacks,
            progress=self.progress,
        )

    def _measure(self, scorer: Scorer | None) -> tuple[Metrics, dict[str, float]]:
        """Metrics on test, and those on validation where there is one."""
        if scorer is None:
            return Metrics(torch.empty(0, dtype=torch.int64), {}), {}
        test = evaluate(scorer, self.data, split="test", exclude=self.exclude)
        if not self.has_validation:
            return test, {}
        return test, dict(evaluate(scorer, self.data, split="val"))

    def _write(
        self, cell: Cell, folder: Path, outcome: Outcome, cost: dict[str, Any]
    ) -> None:
        test, val = self._measure(outcome.scorer)
        for name, tensors in outcome.tensors.items():
            contiguous = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
            with atomic_path(folder / f"{name}.safetensors") as temporary:
                save_file(contiguous, temporary)
        with atomic_path(folder / PER_USER) as temporary:
            save_file({"user": test.user, **test.per_user}, temporary)
        record = {
            "cell": dataclasses.asdict(cell),
            "data": self.fingerprint,
            **cost,
            "notes": outcome.notes,
            "best_epoch": outcome.fit and outcome.fit.best_epoch,
            "history": outcome.fit.history if outcome.fit else [],
            "val": val,
            "test": dict(test),
            "per_user": hash_file(folder / PER_USER),
            "tables": {
                path.name: hash_file(path)
                for path in (folder / f"{name}.safetensors" for name in outcome.tensors)
            },
        }
        write_json(folder / "result.json", record)


def _read(cell: Cell, folder: Path) -> Result:
    try:
        result = _parse(cell, folder)
    except (OSError, ValueError, SafetensorError, KeyError, TypeError) as error:
        raise damaged(folder, error) from error
    # of a process that was killed before it could
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return result


def _parse(cell: Cell, folder: Path) -> Result:
    record = read_json(folder / "result.json")
    path = folder / PER_USER
    hashes = dict(record.get("tables", {}))
    if "per_user" in record:
        hashes[PER_USER] = str(record["per_user"])
    check_hash(path, hashes)
    per_user = load_file(path)
    user = per_user.pop("user")
    test = _numbers(record["test"])
    return Result(
        cell=cell,
        folder=folder,
        val=_numbers(record["val"]),
        test=Metrics(
            user, per_user, {k: v for k, v in test.items() if k not in per_user}
        ),
        notes=dict(record["notes"]),
        history=[dict(epoch) for epoch in record["history"]],
        best_epoch=record["best_epoch"],
        seconds=float(record["seconds"]),
        peak_memory=record["peak_memory"],
        num_parameters=record["num_parameters"],
        hashes=hashes,
    )


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in dict(values).items()}


def fingerprint(data: HeteroData) -> str:
    """Hash a data set: its sizes, the pairs of every split, and times where known.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for split in ("train", "val", "test"):
        pairs = InteractionGraph.from_data(data, splits=(split,)).edge_index
        digest.update(f"{split} {list(pairs.shape)} ".encode())
        digest.update(_bytes(pairs))
    digest.update(f"{data['user'].num_nodes} {data['item'].num_nodes}".encode())
    time = data[EDGE].get("edge_time")
    if time is not None:  # read by what weighs a history by recency
        digest.update(_bytes(time))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> Any:
    """What a hash reads, without a copy."""
    return tensor.cpu().contiguous().numpy()
