"""``ddrm-pyg run``: the main job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ddrm_pyg.cli import _options as options
from ddrm_pyg.cli._plug_in import execute
from ddrm_pyg.experiments.runner import BACKENDS, CLEANERS, Cell, load_settings
from ddrm_pyg.experiments.sources import Source, nearest


def command(
    data: options.Data = "synthetic",
    backend: Annotated[str, typer.Option(help="lightgcn, mf or sgl.")] = "lightgcn",
    backend_settings: Annotated[
        str | None,
        typer.Option(help="Settings of the backend: a stored name or a JSON file."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of the backend at most.")
    ] = None,
    ddrm_epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of DDRM at most.")
    ] = None,
    denoise: Annotated[
        str, typer.Option(help="ddrm, t-ce, r-ce, deca, wbpr or none.")
    ] = "ddrm",
    settings: options.Settings = None,
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
    """Train a backend, denoise it, compare honestly, write recommendations.

    With no arguments it runs offline on a synthetic world with known noise.
    """
    _check_known("backend", backend, [*BACKENDS])
    _check_known("denoise", denoise, ["ddrm", *CLEANERS, "none"])
    source = Source(
        data, user, item, rating, time, liked_from, options.parse_ratios(ratios)
    )
    base = backend_cell(backend, seed, epochs, backend_settings)
    last = None
    if denoise == "ddrm":
        last = ddrm_cell(settings or "ddrm", base, seed, ddrm_epochs)
    elif denoise != "none":
        clean = load_settings(settings or denoise, denoise)["model"]
        last = replace(base, method=f"{backend}+{denoise}", clean=clean)
    default = f"{source.name}-{backend}-{denoise}-seed{seed}"
    execute(
        source,
        source.load(),
        base,
        last,
        out or Path("runs") / default,
        device=device,
        overwrite=overwrite,
        as_json=as_json,
    )


def _check_known(option: str, value: str, known: list[str]) -> None:
    if value not in known:
        raise ValueError(
            f"'--{option}' must be one of {', '.join(known)} "
            f"(got '{value}'{nearest(value, known)})"
        )


def backend_cell(
    backend: str, seed: int, epochs: int | None, settings_name: str | None = None
) -> Cell:
    """The backend with stored settings, those of its own name by default."""
    settings = load_settings(settings_name or backend, backend)
    fit = settings["fit"] | ({"epochs": epochs} if epochs else {})
    return Cell(backend, seed, settings["model"], fit)


def ddrm_cell(settings: str, base: Cell, seed: int, epochs: int | None) -> Cell:
    """DDRM on a backend, with stored settings."""
    stored = load_settings(settings, "ddrm")
    fit = stored["fit"] | ({"epochs": epochs} if epochs else {})
    return Cell("ddrm", seed, stored["model"], fit, base)
