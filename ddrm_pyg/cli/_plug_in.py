"""What ``run`` and ``denoise`` share: run the main job, print it, write it."""

from __future__ import annotations

import json
import logging
import shutil
import time
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
from ddrm_pyg.experiments.plug_in import Row, Verdict, as_record, plug_in
from ddrm_pyg.experiments.report import format_table, plot_curves
from ddrm_pyg.experiments.runner import Cell, Runner, fingerprint, write_json
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.ranking import recommend_chunks

logger = logging.getLogger("ddrm_pyg")

LIST_LENGTH = 20
"""Recommendations written for every user."""


def execute(
    source: Source,
    backend: Cell,
    ddrm: Cell,
    out: Path,
    *,
    device: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Run the main job and leave its results in a folder.

    Args:
        source: The data.
        backend: A backend or given embeddings.
        ddrm: DDRM with ``backend`` as its base.
        out: Folder of the results.
        device: Where to train.
        overwrite: Replace what another run left in ``out``.
        as_json: Print JSON on stdout instead of the table.

    Raises:
        ValueError: ``out`` holds a run with another configuration.
    """
    begin = time.perf_counter()
    data = source.load()
    _describe(source, data)
    config = {
        "source": asdict(source),
        "fingerprint": fingerprint(data),
        "backend": asdict(backend),
        "ddrm": asdict(ddrm),
    }
    _claim(out, config, overwrite)
    runner = Runner(data, out / "cells", device=device, progress=not as_json)
    rows, verdict = plug_in(runner, backend, ddrm)
    _write(out, data, rows, verdict)
    if as_json:
        print_json(
            {
                "rows": [as_record(row) for row in rows],
                "verdict": verdict.word,
                "rival": verdict.rival,
                **verdict.test._asdict(),
            }
        )
        return
    print(format_table(rows))
    print(f"\n{verdict}")
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
    path = out / "config.json"
    if path.exists():
        try:
            same = json.loads(path.read_text()) == config
        except ValueError:
            same = False
        if same:
            logger.info("continuing in %s", out)
            return
        if not overwrite:
            raise ValueError(
                f"'--out' must be new or hold this very run (got {out}, which holds "
                "another; give --overwrite to replace it)"
            )
        shutil.rmtree(out / "cells", ignore_errors=True)
    elif out.exists() and any(out.iterdir()):
        raise ValueError(f"'--out' must be new or hold a run (got {out}, not empty)")
    write_json(path, config)


def _write(out: Path, data: HeteroData, rows: list[Row], verdict: Verdict) -> None:
    ddrm = rows[-1].result
    emb = ddrm.embeddings()
    emb.save(out / "embeddings.safetensors")
    plot_curves(rows, out / "curves.png")
    write_json(
        out / "metrics.json",
        {
            "verdict": verdict.word,
            "rival": verdict.rival,
            "test": verdict.test._asdict(),
            "rows": [
                {
                    **as_record(row),
                    "val": row.result.val,
                    "best_epoch": row.result.best_epoch,
                    "history": row.result.history,
                    "notes": row.result.notes,
                    "seconds": row.result.seconds,
                }
                for row in rows
            ],
        },
    )
    ids = {kind: raw_ids(data, kind) for kind in ("user", "item")}
    write_ids(out / "ids.csv", ids)
    known = InteractionGraph.from_data(data, splits=("train", "val", "test"))
    users = torch.arange(known.num_users)
    chunks = recommend_chunks(emb, users, k=LIST_LENGTH, exclude=known)
    write_recommendations(out / "recommendations.csv", chunks, ids["user"], ids["item"])
