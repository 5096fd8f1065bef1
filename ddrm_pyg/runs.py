"""Finished runs of the command line, opened in Python."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ddrm_pyg.cli._finished import fold_in, open_run
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.pipeline import Pipeline

logger = logging.getLogger("ddrm_pyg")


def load_run(folder: str | os.PathLike[str]) -> Pipeline:
    """Open what ``ddrm-pyg run`` or ``denoise`` left; nothing is trained.

    Args:
        folder: The ``--out`` of a finished run, whose data are still where they were.

    Returns:
        The vectors that rank with your own ids and known pairs, and the trained DDRM
        for users that come later. Where a run's DDRM cannot serve those, that is said
        in one line, and the mean of their history is compared.

    Raises:
        ValueError: No folder of a run, an unfinished run, or changed data.
    """
    path = Path(folder)
    data, runner, config = open_run(path)
    ddrm = None
    try:
        ddrm = fold_in(runner, config, "'recommend_new'").ddrm
    except ValueError as error:
        logger.warning("%s; the mean of a new user's history is compared", error)
    emb = Embeddings.load(path / "embeddings.safetensors")
    return Pipeline.from_data(emb, data, ddrm=ddrm)
