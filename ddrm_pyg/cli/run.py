"""``ddrm-pyg run``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddrm_pyg.cli import _options as options
from ddrm_pyg.cli._folder import KEYS, check_free
from ddrm_pyg.experiments.settings import cell_for, denoised

EXAMPLES = (
    "ddrm-pyg run",
    "ddrm-pyg run --data clicks.csv --user uid --item sku --time ts --out runs/mine",
    "ddrm-pyg run --data ml-1m --backend lightgcn --seed 1",
)
"""Shown below the help."""


@options.takes_source(options.SourceCommand)
def command(
    context: typer.Context,
    backend: Annotated[
        options.BackendName, typer.Option(help="Model that is denoised.")
    ] = "svd",
    backend_settings: options.BackendSettings = None,
    epochs: options.BackendEpochs = None,
    ddrm_epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of DDRM at most.")
    ] = None,
    denoise: Annotated[
        options.DenoiserName, typer.Option(help="What denoises it, or its training.")
    ] = "ddrm",
    settings: options.Settings = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    safe_csv: options.SafeCsv = False,
    as_json: options.Json = False,
) -> None:
    """Train a backend, denoise it, compare honestly, write recommendations.

    With no arguments it runs offline on a synthetic world with known noise.
    """
    source = options.source_of(context)
    if ddrm_epochs is not None and denoise != "ddrm":
        raise ValueError(f"'--ddrm-epochs' must come with DDRM (got '{denoise}')")
    if settings is not None and denoise == "none":
        raise ValueError("'--settings' are of '--denoise', which must not be none")
    out = out or Path("runs") / f"{source.name}-{backend}-{denoise}-seed{seed}"
    check_free(out, KEYS, source=source, overwrite=overwrite)
    from ddrm_pyg.cli._plug_in import execute
    from ddrm_pyg.cli._start import begin
    from ddrm_pyg.experiments.plug_in import default_ddrm

    base = cell_for(backend, seed=seed, settings=backend_settings, epochs=epochs)
    last = None
    if denoise != "none":
        added = ddrm_epochs if denoise == "ddrm" else epochs
        last = denoised(base, denoise, seed=seed, settings=settings, epochs=added)
    data = begin(source, device)
    if denoise == "ddrm" and settings is None:
        last = default_ddrm(base, data, seed=seed, epochs=ddrm_epochs)
    execute(
        source,
        data,
        base,
        last,
        out,
        device=device,
        overwrite=overwrite,
        safe_csv=safe_csv,
        as_json=as_json,
    )
