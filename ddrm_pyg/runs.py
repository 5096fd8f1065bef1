"""Finished runs of the command line, opened in Python."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ddrm_pyg.cli._finished import fold_in, from_past, open_run, source_of
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender
from ddrm_pyg.nn.future import StartSource
from ddrm_pyg.pipeline import Pipeline

logger = logging.getLogger("ddrm_pyg")

_PURPOSE = "'recommend_new'"


def load_run(folder: str | os.PathLike[str], *, row: str | None = None) -> Pipeline:
    """Open what ``ddrm-pyg run`` or ``denoise`` left; nothing is trained.

    Args:
        folder: The ``--out`` of a finished run, whose data are still where they were.
        row: A row of its table that has vectors; the best of them on validation if
            None.

    Returns:
        The row's vectors, with your own ids and known pairs, and what made them of
        histories, for users that come later: a row that reads histories in order reads
        theirs so. Where the row cannot serve them, it is said in one line, and the mean
        of their history is compared; it is said, too, where a yardstick without vectors
        has won.

    Raises:
        ValueError: No folder of a run, an unfinished run, changed data, or no such row.
    """
    path = Path(folder)
    run = open_run(path)
    if row is None and run.winner != run.with_vectors:
        logger.warning(
            "%s: '%s' won, but has no vectors; '%s' ranks",
            *(path, run.winner, run.with_vectors),
        )
    row = row or run.with_vectors
    emb = run.vectors(row, "'load_run'")
    ddrm: DDRM | DDRMRecommender | None = None
    source: StartSource | None = None
    try:
        ddrm = from_past(run, row, _PURPOSE)
        source = source_of(run, row, _PURPOSE) if ddrm is None else None
        if ddrm is None and source is None:
            ddrm = fold_in(run, row, _PURPOSE).ddrm
    except ValueError as error:
        logger.warning("%s; the mean of a new user's history is compared", error)
    return Pipeline.from_data(emb, run.data, ddrm=ddrm, source=source)
