"""A finished run, opened again: its data, its cells, and what ranks for new users."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.cli._folder import CONFIG, read_config
from ddrm_pyg.cli._plug_in import FINISHED, KEYS
from ddrm_pyg.experiments.cells import cell_from_record, starts_from_past
from ddrm_pyg.experiments.runner import CELLS, Runner, fingerprint
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.experiments.work import load_ddrm, load_recommender
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender


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


def open_run(run: Path) -> tuple[HeteroData, Runner, dict[str, Any]]:
    """Open the folder of a finished run.

    Returns:
        Its data, its cells and its configuration.

    Raises:
        ValueError: No such folder, an unfinished run, or changed data.
    """
    config = read_config(run, KEYS)
    if config is None:
        raise ValueError(f"{run}: not the folder of a run (no {CONFIG} of one)")
    if not (run / FINISHED).exists():
        raise ValueError(f"{run}: the run must be finished (no {FINISHED})")
    source = config["source"]
    data = Source(**{**source, "ratios": tuple(source["ratios"])}).load()
    if fingerprint(data) != config["fingerprint"]:
        raise ValueError(
            f"{run}: the data must be what the run was made of "
            f"({source['data']} has changed)"
        )
    return data, Runner(data, run / CELLS, progress=False), config


def fold_in(runner: Runner, config: dict[str, Any], need: str) -> FoldIn:
    """Take what ranks for new users out of a run, which is never trained for it.

    Args:
        runner: The run's cells.
        config: The run's configuration.
        need: The option or command that asks, for messages.

    Raises:
        ValueError: The run's cell is not there, or weighs histories.
    """
    cell = cell_from_record(config["denoise"] or config["backend"])
    if not runner.has_run(cell):
        raise ValueError(f"{runner.cell_folder(cell)}: needed for {need}, not there")
    if cell.method == "ddrm" and cell.model.get("history"):
        raise ValueError(
            f"{need} takes runs whose histories weigh alike "
            f"(got one with {dict(cell.model['history'])})"
        )
    if starts_from_past(cell):
        raise ValueError(
            f"{need} takes runs whose DDRM reads histories without their order (got "
            "one with train_start='past')"
        )
    trained = runner.run(cell)
    items = trained.embeddings().item
    ddrm = load_ddrm(trained) if cell.method == "ddrm" else None
    return FoldIn(ddrm, items, runner.graph.mean_item(items))


def from_past(
    runner: Runner, config: dict[str, Any], need: str
) -> DDRMRecommender | None:
    """Take the DDRM that reads new histories in order out of a run; None without one.

    Args:
        runner: The run's cells.
        config: The run's configuration.
        need: The option or command that asks, for messages.

    Raises:
        ValueError: The run's cells are not there.
    """
    cell = cell_from_record(config["denoise"] or config["backend"])
    if not starts_from_past(cell) or cell.base is None:
        return None
    for needed in (cell, cell.base):
        if not runner.has_run(needed):
            folder = runner.cell_folder(needed)
            raise ValueError(f"{folder}: needed for {need}, not there")
    return load_recommender(runner.run(cell), runner.run(cell.base), runner.graph)
