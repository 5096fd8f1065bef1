"""A finished run, opened again: its data, its rows, and what ranks for new users."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.cli._folder import CONFIG, read_run_config
from ddrm_pyg.cli._plug_in import EMBEDDINGS, FINISHED, HELD
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.experiments.cells import (
    CELLS,
    Cell,
    cell_from_record,
    chain,
    is_order_aware,
    starts_from_past,
)
from ddrm_pyg.experiments.plug_in import rows_for
from ddrm_pyg.experiments.runner import Runner, fingerprint
from ddrm_pyg.experiments.sources import Source, nearest
from ddrm_pyg.experiments.work import (
    ONCE,
    Result,
    check_hash,
    load_ddrm,
    load_encoder,
    load_recommender,
)
from ddrm_pyg.files import read_json, undamaged
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.graph.sequences import UserSequences
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender
from ddrm_pyg.nn.future import (
    HistoryMeans,
    HistoryStates,
    StartSource,
    start_embeddings,
)
from ddrm_pyg.typing import Scorer

_NOT_OURS = ("not what a finished run writes", "the same command writes it again")

Reader = Callable[[InteractionGraph], Embeddings]
"""Histories of new users, each from first to last, to what ranks for them."""


@dataclass(frozen=True)
class FinishedRun:
    """A finished run. Nothing in it is ever trained again.

    Attributes:
        folder: Where it is.
        source: Where its data come from.
        data: What it was made of.
        runner: Its cells.
        cells: Name of each row of its table to its cell.
        winner: The row that won on validation: its lists are in the folder.
        with_vectors: The row whose vectors are in the folder.
        hashes: SHA-256 of files of the folder, by name; empty of older runs.
    """

    folder: Path
    source: Source
    data: HeteroData
    runner: Runner
    cells: dict[str, Cell]
    winner: str
    with_vectors: str
    hashes: Mapping[str, str] = field(default_factory=dict)

    def cell(self, row: str) -> Cell:
        """The cell of a row.

        Raises:
            ValueError: The run has no such row.
        """
        if row not in self.cells:
            raise ValueError(
                f"'--row' must be one of {', '.join(map(repr, self.cells))} "
                f"(got '{row}'{nearest(row, self.cells)})"
            )
        return self.cells[row]

    def result(self, row: str, purpose: str) -> Result:
        """What a row left.

        Args:
            row: Its name.
            purpose: The option or command that asks, for messages.

        Raises:
            ValueError: No such row, or its cells are not there any more.
        """
        cell = self.cell(row)
        for link in chain(cell):
            if not self.runner.has_run(link):
                folder = self.runner.cell_folder(link)
                raise ValueError(f"{folder}: needed for {purpose}, not there")
        return self.runner.run(cell)

    def scorer(self, row: str) -> Scorer:
        """What ranks for the users of the data by a row.

        Raises:
            ValueError: No such row, or its cells are not there any more.
        """
        if row == self.with_vectors:
            return self.vectors()
        return self.runner.scorer(self.result(row, f"'--row {row}'").cell)

    def vectors(self, row: str | None = None) -> Embeddings:
        """The vectors that a row ranks by; those in the folder if None.

        Raises:
            ValueError: It has none, as a yardstick.
        """
        if row in (None, self.with_vectors):
            path = self.folder / EMBEDDINGS
            with undamaged(path, *_NOT_OURS):
                check_hash(path, self.hashes)
                return Embeddings.load(path)
        scorer = self.scorer(str(row))
        if not isinstance(scorer, Embeddings):
            raise ValueError(f"'--row' must have vectors here (got '{row}')")
        return scorer


def open_run(folder: Path) -> FinishedRun:
    """Open the folder of a finished run.

    Raises:
        ValueError: No such folder, an unfinished run, or changed data.
    """
    config = read_run_config(folder)
    record = {}
    if (folder / FINISHED).exists():
        with undamaged(folder / FINISHED, *_NOT_OURS):
            record = read_json(folder / FINISHED)
    if not record.keys() >= set(HELD):
        raise ValueError(
            f"{folder}: the run must be finished (no {FINISHED} of this version); the "
            "same command goes on with it"
        )
    with undamaged(folder / CONFIG, "not what a run writes", "--overwrite the run"):
        kept = config["source"]
        source = Source(**{**kept, "ratios": tuple(kept["ratios"])})
        backend, last = (
            record and cell_from_record(record)
            for record in (config["backend"], config["denoise"])
        )
        cells = rows_for(backend, last)
    data = source.load()
    if fingerprint(data) != config["fingerprint"]:
        raise ValueError(
            f"{folder}: the data must be what the run was made of "
            f"({source.data} has changed)"
        )
    with undamaged(folder / FINISHED, *_NOT_OURS):
        measured = {row["name"]: cells[row["name"]] for row in record["rows"]}
        held = {name: record[name] for name in HELD}
        hashes = dict(record.get("hashes", {}))
        if not {*held.values()} <= measured.keys():
            raise ValueError("it holds rows that it has not")
    runner = Runner(data, folder / CELLS, progress=False)
    return FinishedRun(folder, source, data, runner, measured, **held, hashes=hashes)


class FoldIn(NamedTuple):
    """What lists of people are made of who were never trained on.

    Attributes:
        ddrm: The plug-in; None where the mean of a history ranks.
        item_emb: ``[num_items, D]``.
        mean_item: ``[D]`` where a history without known items starts.
    """

    ddrm: DDRM | None
    item_emb: Tensor
    mean_item: Tensor

    def read(self, history: InteractionGraph) -> Embeddings:
        """Rank for histories, whose order plays no part."""
        ideal = history.history_mean(self.item_emb, fallback=self.mean_item)
        if self.ddrm is not None:
            # without noise: a list depends on its user alone, wherever it is made
            ideal = self.ddrm.generate(ideal, noise=torch.zeros_like(ideal))
        return Embeddings(ideal, self.item_emb)


def fold_in(run: FinishedRun, row: str, purpose: str) -> FoldIn:
    """Take what ranks for new users, in whatever order they took things, out of a run.

    Args:
        run: The finished run.
        row: The row that ranks.
        purpose: The option or command that asks, for messages.

    Raises:
        ValueError: The row has no vectors, weighs histories or reads their order, or
            its cells are not there.
    """
    cell = run.cell(row)
    if cell.method == "ddrm" and cell.model.get("history"):
        raise ValueError(
            f"{purpose} takes runs whose histories weigh alike "
            f"(got one with {dict(cell.model['history'])})"
        )
    if is_order_aware(cell):
        raise ValueError(
            f"{purpose} takes DDRM, or a row that reads histories without their order "
            f"(got '{row}'; name another by '--row')"
        )
    items = run.vectors(row).item
    ddrm = None
    if cell.method == "ddrm":
        ddrm = load_ddrm(run.result(row, purpose))
    elif cell.method == "one_pass" and cell.base:
        ddrm = load_ddrm(run.result(_name_of(run, cell.base), purpose), **ONCE)
    return FoldIn(ddrm, items, run.runner.graph.mean_item(items))


def _name_of(run: FinishedRun, cell: Cell) -> str:
    return next(name for name, other in run.cells.items() if other == cell)


def from_past(run: FinishedRun, row: str, purpose: str) -> DDRMRecommender | None:
    """Take the DDRM that reads new histories in order out of a run; None without one.

    Args:
        run: The finished run.
        row: The row that ranks.
        purpose: The option or command that asks, for messages.

    Raises:
        ValueError: No such row, or its cells are not there.
    """
    cell = run.cell(row)
    if not starts_from_past(cell) or cell.base is None:
        return None
    trained = run.result(row, purpose)
    return load_recommender(trained, run.runner.run(cell.base), run.runner.graph)


def reader_of(run: FinishedRun, row: str, purpose: str) -> Reader:
    """What ranks for people who were never trained on, as a row ranks for the others.

    Args:
        run: The finished run.
        row: The row that ranks; a yardstick has no vectors to do so.
        purpose: The option or command that asks, for messages.

    Raises:
        ValueError: The row cannot, or its cells are not there.
    """
    recommender = from_past(run, row, purpose)
    if recommender is not None:
        return lambda history: recommender.rank(UserSequences.from_graph(history))
    source = source_of(run, row, purpose)
    if source is None:
        return fold_in(run, row, purpose).read
    mean_item = run.runner.graph.mean_item(source.item_emb)
    return lambda history: start_embeddings(
        source, UserSequences.from_graph(history), mean_item
    )


def source_of(run: FinishedRun, row: str, purpose: str) -> StartSource | None:
    """What reads new histories in order without a DDRM; None for any other row.

    Args:
        run: The finished run.
        row: The row that ranks.
        purpose: The option or command that asks, for messages.

    Raises:
        ValueError: No such row, no vectors, or its cells are not there.
    """
    cell = run.cell(row)
    if cell.method == "recent_mean":
        tau = run.result(row, purpose).notes["tau"]
        return HistoryMeans(run.vectors(row).item, [math.inf if tau is None else tau])
    if is_order_aware(cell) and cell.base is None:
        items = run.vectors(row).item
        encoder = load_encoder(run.result(row, purpose), len(items))
        return None if encoder is None else HistoryStates(encoder, items)
    return None
