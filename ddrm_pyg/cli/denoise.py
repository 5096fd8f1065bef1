"""``ddrm-pyg denoise``: DDRM on embeddings that any program has trained."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from ddrm_pyg.cli import _options as options
from ddrm_pyg.cli._plug_in import execute
from ddrm_pyg.cli.run import ddrm_cell
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.experiments.runner import Cell
from ddrm_pyg.experiments.sources import Source


def command(
    embeddings: options.Embeddings,
    data: options.Data,
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    num_layers: options.NumLayers = 0,
    combine: options.Combine = "mean",
    settings: options.Settings = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of DDRM at most.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    overwrite: options.Overwrite = False,
    user: options.User = "user",
    item: options.Item = "item",
    rating: options.Rating = None,
    time: options.Time = None,
    liked_from: options.LikedFrom = None,
    ratios: options.Ratios = "0.7,0.1,0.2",
    as_json: options.Json = False,
) -> None:
    """Plug DDRM onto given embeddings, compare, and write denoised ones."""
    source = Source(
        data, user, item, rating, time, liked_from, options.parse_ratios(ratios)
    )
    tables = Embeddings.load(embeddings)
    loaded = source.load()
    tables.check_matches(
        loaded["user"].num_nodes, loaded["item"].num_nodes, str(embeddings)
    )
    base = Cell(
        "embeddings",
        model={
            "path": str(embeddings.resolve()),
            "sha256": hashlib.sha256(embeddings.read_bytes()).hexdigest(),
            "num_layers": num_layers,
            "combine": combine,
        },
    )
    execute(
        source,
        loaded,
        base,
        ddrm_cell(settings or "ddrm", base, seed, epochs),
        out,
        device=device,
        overwrite=overwrite,
        as_json=as_json,
    )
