"""A finished run, opened again: its data, its rows, and what ranks for new users."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.cli._folder import EMBEDDINGS, NOT_OURS, RunRecord, read_run
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.experiments.cells import (
    CELLS,
    Cell,
    chain,
    is_order_aware,
    starts_from_past,
    why_no_vectors,
    why_not_folded_in,
    why_not_new,
)
from ddrm_pyg.experiments.runner import Runner, fingerprint
from ddrm_pyg.experiments.work import (
    ONCE,
    Result,
    check_hash,
    load_ddrm,
    load_encoder,
    load_recommender,
)
from ddrm_pyg.files import undamaged
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.graph.sequences import UserSequences
from ddrm_pyg.messages import hushed
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender
from ddrm_pyg.nn.future import (
    HistoryMeans,
    HistoryStates,
    StartSource,
    start_embeddings,
)
from ddrm_pyg.typing import Scorer

logger = logging.getLogger("ddrm_pyg")

Reader = Callable[[InteractionGraph], Embeddings]
"""Histories of new users, each from first to last, to what ranks for them."""


@dataclass(frozen=True)
class FinishedRun(RunRecord):
    """A finished run with its data. Nothing in it is ever trained again.

    Attributes:
        data: What it was made of.
        runner: Its cells.
    """

    data: HeteroData
    runner: Runner

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

    def vectors(self, row: str | None = None, purpose: str = "'--row'") -> Embeddings:
        """The vectors that a row ranks by; those in the folder if None.

        Args:
            row: Its name.
            purpose: The option or command that asks, for messages.

        Raises:
            ValueError: It has none, as a yardstick.
        """
        if row in (None, self.with_vectors):
            path = self.folder / EMBEDDINGS
            with undamaged(path, *NOT_OURS):
                check_hash(path, self.hashes)
                return Embeddings.load(path)
        self.check_row(str(row), purpose, why_no_vectors)
        scorer = self.scorer(str(row))
        assert isinstance(scorer, Embeddings)
        return scorer


def open_run(folder: Path) -> FinishedRun:
    """Open the folder of a finished run.

    Raises:
        ValueError: No such folder, an unfinished run, or changed data.
    """
    record = read_run(folder, Cell)
    with hushed(logger):  # the run has said all that there is to say of them
        data = record.source.load()
    if fingerprint(data) != record.fingerprint:
        raise ValueError(
            f"{folder}: the data must be what the run was made of "
            f"({record.source.data} has changed)"
        )
    runner = Runner(data, folder / CELLS, progress=False)
    return FinishedRun(**vars(record), data=data, runner=runner)


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
    run.check_row(row, purpose, why_not_folded_in)
    cell = run.cell(row)
    items = run.vectors(row, purpose).item
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
    run.check_row(row, purpose, why_not_new)
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
        return HistoryMeans(
            run.vectors(row, purpose).item, [math.inf if tau is None else tau]
        )
    if is_order_aware(cell) and cell.base is None:
        items = run.vectors(row, purpose).item
        encoder = load_encoder(run.result(row, purpose), len(items))
        return None if encoder is None else HistoryStates(encoder, items)
    return None
