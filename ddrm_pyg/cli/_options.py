"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import torch
import typer


def _check_device(name: str | None) -> str | None:
    if name is not None:
        try:
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise typer.BadParameter(f"'{name}' cannot be used ({reason})") from None
    return name


Data = Annotated[
    str,
    typer.Option(help="A known data set (synthetic, ml-1m, ml-1m-clean) or a path."),
]
User = Annotated[str, typer.Option(help="Column of users, in a table.")]
Item = Annotated[str, typer.Option(help="Column of items, in a table.")]
Rating = Annotated[str | None, typer.Option(help="Column of ratings, in a table.")]
Time = Annotated[str | None, typer.Option(help="Column of times, in a table.")]
LikedFrom = Annotated[
    float | None,
    typer.Option(
        help="Ratings below this are false positives: kept in train and validation, "
        "never in test."
    ),
]
Ratios = Annotated[
    str, typer.Option(help="Shares of train, validation and test, in a table.")
]
Seed = Annotated[
    int, typer.Option(min=0, max=2**63 - 1, help="Seed of weights, batches and noise.")
]
Device = Annotated[
    str | None,
    typer.Option(callback=_check_device, help="Where to train: cpu, cuda, ..."),
]
Out = Annotated[Path | None, typer.Option(help="Folder for the results.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace results of another run in --out.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Embeddings = Annotated[
    Path,
    typer.Option(help="Tables 'user' and 'item': .safetensors, .npz or .pt."),
]
Settings = Annotated[
    str | None,
    typer.Option(help="Settings of what denoises: a stored name or a JSON file."),
]
NumLayers = Annotated[
    int, typer.Option(min=0, help="Propagate the tables through so many layers first.")
]
Combine = Annotated[
    Literal["mean", "normalized-sum"], typer.Option(help="How layers are combined.")
]


def parse_ratios(text: str) -> tuple[float, float, float]:
    """Read ``0.7,0.1,0.2``.

    Raises:
        ValueError: Not three numbers.
    """
    try:
        train, val, test = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"'--ratios' must be three numbers like 0.7,0.1,0.2 (got '{text}')"
        ) from None
    return train, val, test
