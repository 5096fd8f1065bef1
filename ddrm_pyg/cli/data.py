"""``ddrm-pyg data``: show a data set, or write it in another format."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ddrm_pyg.cli import _options as options
from ddrm_pyg.cli._command import PLAIN, Group, add
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.messages import hushed

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

logger = logging.getLogger("ddrm_pyg")


def app() -> typer.Typer:
    """Show a data set, or write it in another format."""
    group = typer.Typer(help=app.__doc__, cls=Group, **PLAIN, add_completion=False)
    add(group, "describe", describe, ["ddrm-pyg data describe clicks.csv --user uid"])
    convert_it = "ddrm-pyg data convert clicks.csv --user uid --out clicks.parquet"
    add(group, "convert", convert, [convert_it])
    return group


@options.takes_source(options.PathCommand)
def describe(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option(help="PNG with the degrees of users and items.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Count users, items and interactions, and identify them by a hash."""
    if out is not None and out.suffix != ".png":
        raise ValueError(f"'--out' must end in .png (got {out})")
    source = options.source_of(context)
    from ddrm_pyg.cli._output import print_json
    from ddrm_pyg.datasets.summary import plot_degrees, summarize
    from ddrm_pyg.experiments.runner import fingerprint

    data = _load(source)
    record = summarize(data) | {"fingerprint": fingerprint(data)}
    if out is not None:
        plot_degrees(data, out)
    if as_json:
        print_json(record)
        return
    unit = record.pop("time_unit", None)
    for name, value in record.items():
        shown = _shown_time(value, unit) if name == "time" else _shown(name, value)
        print(f"{name:<15}{shown}")


def _load(source: Source) -> HeteroData:
    """Load a data set, unsplit where it cannot be split."""
    try:
        return source.load()
    except ValueError as error:
        with hushed(logger):  # what the first reading has said
            data = source.load(split=False)  # or what is wrong is something else
        logger.warning("not split: %s", error)
        return data


def _shown_time(ends: list[float], unit: str | None) -> str:
    import numpy as np

    first, last = ends
    if unit is None:  # ranks rather than moments
        return f"{first} to {last}"
    moments = np.array([int(end) for end in ends]).astype(f"datetime64[{unit}]")
    days = moments.astype("datetime64[D]")
    return f"{first} to {last} ({' to '.join(map(str, days))}, in {unit} since 1970)"


def _shown(name: str, value: Any) -> str:
    if name == "noise":
        return ", ".join(f"{split} {share:.1%}" for split, share in value.items())
    if isinstance(value, dict):
        return ", ".join(f"{key}: {count:,}" for key, count in value.items())
    if isinstance(value, float):
        return f"{value:.4%}"
    return f"{value:,}" if isinstance(value, int) else str(value)


@options.takes_source(options.PathCommand)
def convert(
    context: typer.Context,
    out: Annotated[
        Path,
        typer.Option(
            help="File .csv, .tsv, .jsonl (also .gz), .inter or .parquet, or a folder, "
            "which keeps the split."
        ),
    ],
    layout: Annotated[
        Literal["npy", "lightgcn"],
        typer.Option(help="Lists of a folder: npy, or lightgcn (train.txt)."),
    ] = "npy",
    safe_csv: options.SafeCsv = False,
    as_json: options.Json = False,
) -> None:
    """Write a data set in another format, in a file or folder that is not there yet."""
    if out.exists():
        raise ValueError(f"'--out' must not be there yet (got {out})")
    from ddrm_pyg.cli._output import (
        check_safe_csv,
        print_json,
        with_ids_in_csv,
        write_ids,
    )
    from ddrm_pyg.datasets.summary import summarize
    from ddrm_pyg.datasets.writers import is_csv, save_interactions, table_writer
    from ddrm_pyg.ids import raw_ids

    is_table = table_writer(out) is not None
    check_safe_csv(safe_csv, not is_table or is_csv(out), out)
    data = options.source_of(context).load(split=not is_table)
    data = with_ids_in_csv(data, safe=safe_csv)
    save_interactions(data, out, layout=layout)
    if not is_table:
        ids = {kind: raw_ids(data, kind) for kind in ("user", "item")}
        write_ids(out / "ids.csv", ids)
    if as_json:
        print_json({"out": str(out)} | summarize(data))
    else:
        print(out)
