"""What ``run`` and ``denoise`` share: run the main job, print it, write it."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import HeteroData

from ddrm_pyg.cli._output import (
    print_json,
    raw_ids,
    write_ids,
    write_recommendations,
)
from ddrm_pyg.experiments.plug_in import Row, as_record, plug_in
from ddrm_pyg.experiments.report import format_table, plot_curves
from ddrm_pyg.experiments.runner import (
    Cell,
    Result,
    Runner,
    fingerprint,
    write_json,
)
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.ranking import recommend_chunks

logger = logging.getLogger("ddrm_pyg")

CONFIG = "config.json"
"""Written first: says what a folder is the run of."""

FINISHED = "metrics.json"
"""Written last: a folder that has it is complete."""

LIST_LENGTH = 20
"""Recommendations written for every user."""


def execute(
    source: Source,
    data: HeteroData,
    backend: Cell,
    last: Cell | None,
    out: Path,
    *,
    device: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Run the main job and leave its results in a folder.

    Args:
        source: Where the data come from.
        data: What was loaded from there.
        backend: A backend or given embeddings.
        last: What denoises, see :func:`ddrm_pyg.experiments.plug_in.rows_for`.
        out: Folder of the results.
        device: Where to train.
        overwrite: Replace what another run left in ``out``.
        as_json: Print JSON on stdout instead of the table.

    Raises:
        ValueError: ``out`` holds a run with another configuration, or anything else.
    """
    begin = time.perf_counter()
    _describe(source, data)
    config = {
        "source": asdict(source.located()),
        "fingerprint": fingerprint(data),
        "backend": asdict(backend),
        "denoise": last and asdict(last),
    }
    _claim(out, config, overwrite)
    runner = Runner(data, out / "cells", device=device, progress=not as_json)
    rows, verdict = plug_in(runner, backend, last)
    judged = verdict.record() if verdict else {"verdict": None}
    served = next(row.result for row in rows if row.result.cell == (last or backend))
    _write(out, data, rows, served, judged)
    if as_json:
        print_json({"rows": [as_record(row) for row in rows], **judged})
        return
    print(format_table(rows))
    print(f"\n{verdict}" if verdict else "")
    for row in rows:
        if "num_layers" in row.result.notes:
            depth = row.result.notes["num_layers"]
            print(f"{row.name}: {depth} layers, picked by validation NDCG@20")
    print(f"written to {out} in {time.perf_counter() - begin:.0f} s; see curves.png")


def _describe(source: Source, data: HeteroData) -> None:
    sizes = [
        InteractionGraph.from_data(data, splits=(split,)).num_edges
        for split in ("train", "val", "test")
    ]
    logger.info(
        "%s: %d users, %d items, %d / %d / %d train, validation and test interactions",
        source.name,
        data["user"].num_nodes,
        data["item"].num_nodes,
        *sizes,
    )


def _claim(out: Path, config: dict[str, Any], overwrite: bool) -> None:
    """Continue the folder's run if it is this one; never mix two."""
    config = json.loads(json.dumps(config))  # tuples become lists, as in the file
    found = read_config(out)
    if found == config:
        logger.info("continuing in %s", out)
        return
    if found is None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(f"'--out' must be a new folder or a run's (got {out})")
    elif not overwrite:
        raise ValueError(
            f"'--out' must be new or hold this very run (got {out}, which holds "
            f"another: {_difference(found, config)}; give --overwrite to replace it)"
        )
    else:
        (out / FINISHED).unlink(missing_ok=True)  # first: the rest is no run now
        shutil.rmtree(out / "cells", ignore_errors=True)
    write_json(out / CONFIG, config)


def read_config(folder: Path) -> dict[str, Any] | None:
    """Read what a folder is the run of; None if it is no run's folder."""
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError):
        return None
    keys = {"source", "fingerprint", "backend", "denoise"}
    return config if isinstance(config, dict) and config.keys() == keys else None


def _difference(found: dict[str, Any], config: dict[str, Any]) -> str:
    """Name the first setting in which two runs differ."""
    old, new = dict(_flat(found)), dict(_flat(config))
    name = next(key for key in old | new if old.get(key) != new.get(key))
    if name == "fingerprint":
        return "the interactions were others"
    return f"{name} was {old.get(name)} and is {new.get(name)}"


def _flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _write(
    out: Path,
    data: HeteroData,
    rows: list[Row],
    served: Result,
    judged: dict[str, Any],
) -> None:
    emb = served.embeddings()
    emb.save(out / "embeddings.safetensors")
    plot_curves(rows, out / "curves.png")
    ids = {kind: raw_ids(data, kind) for kind in ("user", "item")}
    write_ids(out / "ids.csv", ids)
    known = InteractionGraph.from_data(data, splits=("train", "val", "test"))
    users = torch.arange(known.num_users)
    chunks = recommend_chunks(emb, users, k=LIST_LENGTH, exclude=known)
    write_recommendations(out / "recommendations.csv", chunks, ids["user"], ids["item"])
    records = [
        {
            **as_record(row),
            "val": row.result.val,
            "best_epoch": row.result.best_epoch,
            "history": row.result.history,
            "notes": row.result.notes,
            "seconds": row.result.seconds,
        }
        for row in rows
    ]
    write_json(out / FINISHED, {**judged, "rows": records})
