"""Write interactions in the formats that the readers know."""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.datasets._header import import_pyarrow
from ddrm_pyg.files import atomic_path, write_text
from ddrm_pyg.graph.sequences import tells_order
from ddrm_pyg.transforms.core import SPLITS, UNKNOWN, get_block

logger = logging.getLogger("ddrm_pyg")

LAYOUTS = ("npy", "lightgcn")
_FILE_SPLITS = dict(zip(SPLITS, ("train", "valid", "test"), strict=True))
_NO_FIELD = re.compile(r"[\t\r\n]")
_INTER_TYPES = {
    "user": "user_id:token",
    "item": "item_id:token",
    "rating": "rating:float",
    "time": "timestamp:float",
}


def save_interactions(
    data: HeteroData, path: str | os.PathLike[str], *, layout: str = "npy"
) -> None:
    """Write a file or folder that :func:`load_interactions` reads.

    A path with one of the suffixes ``.csv``, ``.tsv``, ``.jsonl`` (each also with
    ``.gz``), ``.inter`` and ``.parquet`` becomes a table of the caller's ids with the
    columns user, item and, where known, rating and time: all splits, one after another.
    A path without a suffix becomes a folder that keeps the split:

    - ``npy`` writes ``{train,valid,test}_list.npy`` and ``labels.npz`` with noise
      labels, ratings, times and integer ids;
    - ``lightgcn`` writes ``train.txt`` and ``test.txt``, row numbers only. It knows no
      validation: those pairs go to train, where the reader holds some out again.

    What a format cannot keep is said as a one-line warning of the logger ``ddrm_pyg``.

    Args:
        data: Interactions, split or not.
        path: The file or folder. Each file appears only once it is complete.
        layout: ``npy`` or ``lightgcn``, for a folder.

    Raises:
        ValueError: The suffix or layout is unknown, a folder is asked for and the data
            are not split, or ids cannot be written.
        ImportError: Parquet was asked for without the extra ``[parquet]``.
    """
    path = Path(path)
    write = table_writer(path)
    if write is not None:
        parts = [block for split in SPLITS if (block := get_block(data, split))]
        frame = _to_frame(data, parts, path.name)
        if len(parts) > 1:
            logger.warning("%s: a table does not keep the split", path.name)
        if any("is_noise" in block for block in parts):
            logger.warning("%s: a table does not keep noise labels", path.name)
        with atomic_path(path) as temporary:
            write(frame, temporary, path.name.endswith(".gz"))
        return
    if layout not in LAYOUTS:
        raise ValueError(f"'layout' must be one of {', '.join(LAYOUTS)} (got {layout})")
    blocks = {split: get_block(data, split) for split in SPLITS}
    if not all(blocks.values()):
        raise ValueError(f"{path}: a folder needs split interactions")
    if layout == "npy":
        _write_npy_folder(data, blocks, path)
    else:
        _write_lightgcn_folder(blocks, path)


def table_writer(path: Path) -> Callable[[pd.DataFrame, Path, bool], None] | None:
    """Return what writes a table of a path's suffix, None for a folder.

    Args:
        path: The file to write.

    Raises:
        ValueError: The suffix is unknown.
    """
    suffix = Path(path.name.removesuffix(".gz")).suffix
    is_table = suffix in _TABLE_WRITERS and path.name != f"{suffix}.gz"
    if is_table and not (path.suffix == ".gz" and suffix in (".parquet", ".inter")):
        return _TABLE_WRITERS[suffix]
    if path.suffix:
        raise ValueError(
            f"{path}: no writer for {path.suffix!r} (known: {', '.join(_TABLE_WRITERS)}"
            ", text also as .gz, and a folder where there is no suffix)"
        )
    return None


def is_csv(path: Path) -> bool:
    """Tell whether a table of this name is comma-separated."""
    return table_writer(path) is _write_csv


def csv_quoting(texts: Iterable[str]) -> Literal[0, 2]:
    """Return how the csv module must quote these fields to bring them back.

    By default it leaves a lone carriage return unquoted, which ends a row.

    Args:
        texts: Fields that are to be written.
    """
    returns = any("\r" in text for text in texts)
    return csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL


# Tables


def _to_frame(
    data: HeteroData, blocks: Sequence[dict[str, Tensor]], name: str
) -> pd.DataFrame:
    """Return the pairs of all splits in the caller's ids."""
    user, item = torch.cat([block["index"] for block in blocks], dim=1)
    columns = {"user": _named(data, "user", user), "item": _named(data, "item", item)}
    for column, unknown in UNKNOWN.items():
        if not all(column in block for block in blocks):
            continue
        values = torch.cat([block[column] for block in blocks])
        missing = int((values == unknown).sum())
        if missing:  # a reader would take what stands for it for a value
            logger.warning(
                "%s: the column %s is left out, as %d of %d are unknown (%d)",
                *(name, column, missing, len(values), unknown),
            )
        else:
            columns[column] = values.numpy()
    return pd.DataFrame(columns)


def _named(data: HeteroData, node_type: str, row: Tensor) -> np.ndarray:
    raw_id = data[node_type].raw_id
    if isinstance(raw_id, Tensor):
        return raw_id[row].numpy()
    return np.array(raw_id, dtype=object)[row.numpy()]


@contextmanager
def _opened(path: Path, packed: bool) -> Iterator[io.BufferedIOBase]:
    with path.open("wb") as file:
        if not packed:
            yield file
            return
        # no name and no time in the header: equal tables are equal bytes
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as archive:
            yield archive


def _write_csv(frame: pd.DataFrame, path: Path, packed: bool) -> None:
    _write_fields(frame, path, packed, quoting=csv_quoting(_text_ids(frame)))


def _write_tsv(
    frame: pd.DataFrame, path: Path, packed: bool, header: bool | list[str] = True
) -> None:
    """Write fields as they are: between tabs, quotes are literal."""
    bad = next((name for name in _text_ids(frame) if _NO_FIELD.search(name)), None)
    if bad is not None:
        raise ValueError(
            f"{path.name}: ids must have no tabs and no line ends (got {bad!r}); "
            "write .csv, .jsonl or .parquet"
        )
    _write_fields(frame, path, packed, sep="\t", quoting=csv.QUOTE_NONE, header=header)


def _write_inter(frame: pd.DataFrame, path: Path, packed: bool) -> None:
    _write_tsv(frame, path, packed, [_INTER_TYPES[str(name)] for name in frame])


def _write_fields(
    frame: pd.DataFrame, path: Path, packed: bool, **options: Any
) -> None:
    with _opened(path, packed) as file:
        frame.to_csv(file, index=False, lineterminator="\n", **options)


def _text_ids(frame: pd.DataFrame) -> Iterator[str]:
    for name in ("user", "item"):
        if frame[name].dtype.kind not in "iu":
            yield from pd.unique(frame[name])


def _write_parquet(frame: pd.DataFrame, path: Path, packed: bool) -> None:
    import_pyarrow()
    frame.to_parquet(path, index=False)


def _write_json_lines(frame: pd.DataFrame, path: Path, packed: bool) -> None:
    rows = zip(*(frame[name].tolist() for name in frame), strict=True)
    with _opened(path, packed) as file:
        for row in rows:
            record = dict(zip(frame, row, strict=True))
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")


_TABLE_WRITERS: dict[str, Callable[[pd.DataFrame, Path, bool], None]] = {
    ".csv": _write_csv,
    ".tsv": _write_tsv,
    ".inter": _write_inter,
    ".jsonl": _write_json_lines,
    ".parquet": _write_parquet,
}


# Folders


def _write_npy_folder(
    data: HeteroData, blocks: dict[str, dict[str, Tensor]], folder: Path
) -> None:
    labels: dict[str, np.ndarray] = {}
    for split, block in blocks.items():
        name = _FILE_SPLITS[split]
        if "is_noise" in block:
            labels[f"{name}_tp"] = (~block["is_noise"]).long().numpy()
        if "rating" in block:
            labels[f"{name}_rating"] = block["rating"].numpy()
        if "time" in block:
            labels[f"{name}_pos"] = block["time"].numpy()
    for key, node_type in (("user_raw", "user"), ("movie_raw", "item")):
        raw_ids = _raw_of_labels(folder, data, node_type)
        if raw_ids is not None:
            labels[key] = raw_ids.numpy()
    if not tells_order(data):  # what the reader takes for granted
        labels["in_order"] = np.zeros(1, dtype=np.int64)
    if labels:
        with atomic_path(folder / "labels.npz") as temporary:
            np.savez(temporary, allow_pickle=False, **labels)
    for split in reversed(SPLITS):  # train last: by it, a folder is known to be one
        with atomic_path(folder / f"{_FILE_SPLITS[split]}_list.npy") as temporary:
            np.save(temporary, blocks[split]["index"].T.numpy(), allow_pickle=False)


def _raw_of_labels(folder: Path, data: HeteroData, node_type: str) -> Tensor | None:
    """Return the ids as ``labels.npz`` has them, 0 for an unknown one."""
    raw_id = data[node_type].raw_id
    row = torch.arange(data[node_type].num_nodes)
    if isinstance(raw_id, Tensor):
        if torch.equal(raw_id, row):  # what the reader takes where there are none
            return None
        if not (raw_id == 0).any():
            return torch.where(raw_id == -1 - row, 0, raw_id)
    what = "the id 0" if isinstance(raw_id, Tensor) else "ids that are texts"
    logger.warning(
        "%s: labels.npz cannot hold %s: %ss keep their row numbers only",
        folder.name,
        what,
        node_type,
    )
    return None


def _write_lightgcn_folder(blocks: dict[str, dict[str, Tensor]], folder: Path) -> None:
    logger.warning(
        "%s: train.txt and test.txt keep row numbers only; validation goes to train",
        folder.name,
    )
    for name, splits in (("train", ("train", "val")), ("test", ("test",))):
        index = torch.cat([blocks[split]["index"] for split in splits], dim=1)
        user, item = index[:, index[0].argsort(stable=True)].tolist()
        lines: dict[int, list[int]] = {}
        for u, i in zip(user, item, strict=True):
            lines.setdefault(u, [u]).append(i)
        text = "".join(" ".join(map(str, line)) + "\n" for line in lines.values())
        write_text(folder / f"{name}.txt", text)
