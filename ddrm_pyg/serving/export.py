"""Write what serves without this package's Python: programs, items, ids, a sample."""

from __future__ import annotations

import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ddrm_pyg.extras import import_extra, versions
from ddrm_pyg.files import atomic_folder, atomic_path, write_json, write_text
from ddrm_pyg.serving.engine import (
    FORMAT,
    IDS,
    ITEMS,
    MANIFEST,
    Id,
    Program,
    load_onnx,
    read_manifest,
    replay,
)
from ddrm_pyg.serving.program import (
    INPUTS,
    OUTPUTS,
    RECOMMEND,
    Encode,
    Recommend,
    trace,
)

Format = Literal["pt2", "onnx"]
"""``torch.export`` archives, and ONNX for any runtime that reads it."""

LONGEST = 100
"""List length of an export, where the catalogue has as many items."""


def export(
    out: str | os.PathLike[str],
    encode: Encode,
    *,
    item_ids: Sequence[Id],
    k: int | None = None,
    formats: Sequence[Format] = get_args(Format),
) -> None:
    """Export lists from histories, for people that were never trained on.

    Two programs: ``encode`` maps a history's item vectors to the vector that ranks, and
    ``recommend`` maps padded item rows to the best other items, see
    :mod:`ddrm_pyg.serving.program`. Generation starts without noise. Every program is
    compared with the module it was traced from before the folder is there.

    Args:
        out: Folder to write; must be new or empty.
        encode: What ranks: :class:`~ddrm_pyg.serving.program.MeanEncode` of a trained
            DDRM (or of none) and its items, float32, or
            :class:`~ddrm_pyg.serving.program.PastEncode` of one that reads histories in
            order.
        item_ids: The caller's own id of every row, each once.
        k: Length of the longest list; 100, or the number of items, if None.
        formats: Any of ``"pt2"`` and ``"onnx"``.

    Raises:
        ValueError: ``out`` is not empty, or an argument that does not fit.
        ImportError: ``"onnx"`` without the packages of ``[onnx]``.
    """
    item_emb = encode.item_emb
    k = min(LONGEST, item_emb.size(0)) if k is None else k
    _check(item_emb, item_ids, k, formats)
    with atomic_folder(out) as folder:
        with atomic_path(folder / ITEMS) as temporary:
            np.save(temporary, item_emb.numpy())
        write_text(folder / IDS, json.dumps(list(item_ids), ensure_ascii=False))
        programs = trace(encode, k)
        for name, traced in programs.items():
            for kind in formats:
                with atomic_path(folder / f"{name}.{kind}") as temporary:
                    _WRITERS[kind](traced, temporary, name)
        sample = _sample(Recommend(encode, k).eval(), item_emb)
        manifest = {
            "format": FORMAT,
            "formats": list(formats),
            "k": k,
            "num_items": item_emb.size(0),
            "embedding_dim": item_emb.size(1),
            "bias_columns": encode.bias_columns,
            "ordered": encode.ordered,
            "noise": "none",
            "inputs": INPUTS,
            "outputs": OUTPUTS,
            "versions": versions(),
            "sample": sample,
        }
        for kind in formats:
            program = _LOADERS[kind](folder / f"{RECOMMEND}.{kind}")
            replay(sample, item_emb.numpy(), program, f"{RECOMMEND}.{kind}")
        write_json(folder / MANIFEST, manifest)


def load_pt2(path: str | os.PathLike[str]) -> Program:
    """Load an exported program of torch, from arrays to arrays."""
    module = torch.export.load(path).module()

    def run(*arrays: Any) -> Sequence[Any]:
        with warnings.catch_warnings():  # a mapped table cannot be written to
            warnings.filterwarnings("ignore", message="The given NumPy array is not")
            tensors = [torch.from_numpy(np.asarray(array)) for array in arrays]
        result = module(*tensors)
        parts = result if isinstance(result, tuple) else (result,)
        return [part.numpy() for part in parts]

    return run


def load_recommend(folder: str | os.PathLike[str]) -> Program:
    """Load the ``recommend`` program of an export as torch runs it.

    Returns:
        A function of ``history`` and ``exclude``, see
        :class:`~ddrm_pyg.serving.program.Recommend`, and of the item table.

    Raises:
        FileNotFoundError: There is no export.
        ValueError: It is damaged, was not exported as ``"pt2"``, or gives other lists
            than it did there.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if "pt2" not in manifest["formats"]:
        raise ValueError(
            f"{folder}: must be exported as 'pt2' (got {manifest['formats']})"
        )
    program = load_pt2(folder / f"{RECOMMEND}.pt2")
    items = np.load(folder / ITEMS, mmap_mode="r", allow_pickle=False)
    replay(manifest["sample"], items, program, str(folder))
    return program


def _check(
    item_emb: Tensor,
    item_ids: Sequence[Id],
    k: int,
    formats: Sequence[str],
) -> None:
    shape = item_emb.shape
    if item_emb.dtype != torch.float32 or len(shape) != 2 or 0 in shape:
        raise ValueError(
            "'item_emb' must be float32 [num_items, D] "
            f"(got {item_emb.dtype} {list(shape)})"
        )
    if len(item_ids) != shape[0] or len(set(map(str, item_ids))) != shape[0]:
        raise ValueError(
            f"'item_ids' must name each of the {shape[0]} items once "
            f"(got {len(set(map(str, item_ids)))} names)"
        )
    if not 1 <= k <= shape[0]:
        raise ValueError(f"'k' must lie in 1 ... {shape[0]}, the items (got {k})")
    names = get_args(Format)
    if (
        not formats
        or not set(formats) <= set(names)
        or len(set(formats)) < len(formats)
    ):
        raise ValueError(
            f"'formats' must be of {', '.join(names)}, each once (got {list(formats)})"
        )


def _sample(eager: Recommend, item_emb: Tensor) -> dict[str, Any]:
    """Lists of a history of three, of one, and of nothing known."""
    num_items = item_emb.size(0)
    pad, last = num_items, num_items - 1
    three = [row if row < num_items else pad for row in range(3)]
    history = torch.tensor([three, [last, pad, pad], [pad, pad, pad]])
    exclude = torch.tensor([[pad, pad], [0, pad], [pad, pad]])
    with torch.no_grad():
        score, item = eager(history, exclude, item_emb)
    finite = [[None if v == -torch.inf else v for v in row] for row in score.tolist()]
    lists = {"history": history.tolist(), "exclude": exclude.tolist()}
    return {**lists, "score": finite, "item": item.tolist()}


def _write_pt2(program: torch.export.ExportedProgram, path: Path, name: str) -> None:
    archive = io.BytesIO()  # torch's own writer ends the process where a disk is full
    torch.export.save(program, archive)
    path.write_bytes(archive.getbuffer())


def _write_onnx(program: torch.export.ExportedProgram, path: Path, name: str) -> None:
    for module in ("onnx", "onnxscript"):
        import_extra(module, f"--format onnx needs {module}", "onnx")
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)  # it misses packages that have no part in this
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                program,
                (),
                path,
                dynamo=True,
                external_data=False,
                verbose=False,
                input_names=INPUTS[name],
                output_names=OUTPUTS[name],
            )
    finally:
        exporter.setLevel(level)


_WRITERS: dict[Format, Callable[..., None]] = {"pt2": _write_pt2, "onnx": _write_onnx}
_LOADERS: dict[Format, Callable[[Path], Program]] = {
    "pt2": load_pt2,
    "onnx": load_onnx,
}
