"""``ddrm-pyg run``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ddrm_pyg.cli import _options as options
from ddrm_pyg.cli._plug_in import execute
from ddrm_pyg.experiments.runner import Cell, load_settings
from ddrm_pyg.experiments.sources import Source, nearest

BACKENDS = ["lightgcn", "mf", "sgl"]


def command(
    data: options.Data = "synthetic",
    backend: Annotated[str, typer.Option(help="lightgcn, mf or sgl.")] = "lightgcn",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of the backend at most.")
    ] = None,
    ddrm_epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of DDRM at most.")
    ] = None,
    settings: options.Settings = "ddrm",
    seed: options.Seed = 0,
    device: options.Device = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    user: options.User = "user",
    item: options.Item = "item",
    rating: options.Rating = None,
    time: options.Time = None,
    liked_from: options.LikedFrom = None,
    ratios: options.Ratios = "0.7,0.1,0.2",
    as_json: options.Json = False,
) -> None:
    """Train a backend, plug DDRM in, compare honestly, write recommendations.

    With no arguments it runs offline on a synthetic world with known noise.
    """
    if backend not in BACKENDS:
        raise ValueError(
            f"'--backend' must be one of {', '.join(BACKENDS)} "
            f"(got '{backend}'{nearest(backend, BACKENDS)})"
        )
    source = Source(
        data, user, item, rating, time, liked_from, options.parse_ratios(ratios)
    )
    base = backend_cell(backend, seed, epochs)
    ddrm = ddrm_cell(settings, base, seed, ddrm_epochs)
    execute(
        source,
        source.load(),
        base,
        ddrm,
        out or Path("runs") / f"{source.name}-{backend}-seed{seed}",
        device=device,
        overwrite=overwrite,
        as_json=as_json,
    )


def backend_cell(backend: str, seed: int, epochs: int | None) -> Cell:
    """The backend with its stored settings."""
    settings = load_settings(backend, backend)
    fit = settings["fit"] | ({"epochs": epochs} if epochs else {})
    return Cell(backend, seed, settings["model"], fit)


def ddrm_cell(settings: str, base: Cell, seed: int, epochs: int | None) -> Cell:
    """DDRM on a backend, with stored settings."""
    stored = load_settings(settings, "ddrm")
    fit = stored["fit"] | ({"epochs": epochs} if epochs else {})
    return Cell("ddrm", seed, stored["model"], fit, base)
