"""``ddrm-pyg denoise``: DDRM on embeddings that any program has trained."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from ddrm_pyg.cli import _options as options
from ddrm_pyg.cli._folder import KEYS, check_free
from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.settings import denoised
from ddrm_pyg.messages import hushed

logger = logging.getLogger("ddrm_pyg")

EXAMPLES = (
    "ddrm-pyg denoise --data clicks.csv --embeddings vectors.npz --out runs/denoised",
    "ddrm-pyg denoise --data clicks.csv --user-emb users.csv --item-emb items.csv "
    "--out runs/denoised",
    "ddrm-pyg denoise --data ml-1m --embeddings mf.npz --num-layers 2 --out runs/ml",
)
"""Shown below the help."""


@options.takes_source(options.NamedSourceCommand)
def command(
    context: typer.Context,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the results.")],
    embeddings: options.Embeddings = None,
    user_emb: options.UserEmb = None,
    item_emb: options.ItemEmb = None,
    user_ids: options.UserIds = None,
    item_ids: options.ItemIds = None,
    num_layers: options.NumLayers = 0,
    combine: options.Combine = "mean",
    settings: options.Settings = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of DDRM at most.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    overwrite: options.Overwrite = False,
    safe_csv: options.SafeCsv = False,
    as_json: options.Json = False,
) -> None:
    """Plug DDRM onto given embeddings, compare, and write what is best."""
    source = options.source_of(context)
    files = options.vector_files(
        embeddings,
        {"user": user_emb, "item": item_emb},
        {"user": user_ids, "item": item_ids},
    )
    check_free(out, KEYS, source=source, overwrite=overwrite)
    from ddrm_pyg.cli._plug_in import execute
    from ddrm_pyg.cli._start import begin
    from ddrm_pyg.experiments.plug_in import default_ddrm
    from ddrm_pyg.experiments.work import align_vectors

    model = {**files, "num_layers": num_layers, "combine": combine}
    base = Cell("embeddings", model=model)
    last = denoised(base, "ddrm", seed=seed, settings=settings, epochs=epochs)
    loaded = begin(source, device)
    if settings is None:
        last = default_ddrm(base, loaded, seed=seed, epochs=epochs)
    with hushed(logger):  # what is odd about them is said by the cell
        align_vectors(files, loaded)  # or refused, before any folder
    execute(
        source,
        loaded,
        base,
        last,
        out,
        device=device,
        overwrite=overwrite,
        safe_csv=safe_csv,
        as_json=as_json,
    )
