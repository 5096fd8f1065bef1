"""Read folders that bring their own split."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.arrays import open_npy, read_npz
from ddrm_pyg.datasets._graph import build_graph, hold_out
from ddrm_pyg.datasets._text import read_blocks
from ddrm_pyg.files import undamaged
from ddrm_pyg.graph.interaction_graph import EDGE
from ddrm_pyg.transforms.core import SPLITS, get_block

logger = logging.getLogger("ddrm_pyg")

# Ids of lists are row numbers of embedding tables. Anything far beyond the number of
# pairs is a broken file, and would allocate gigabytes before anyone noticed.
_MAX_ROWS = 1_000_000

_VALIDATION = ("valid.txt", "val.txt")
"""What others call the validation pairs beside LightGCN's train.txt."""


def read_folder(path: Path, seed: int) -> HeteroData:
    """Read a folder and hold out a validation split where it has none.

    Args:
        path: A folder with one of the files in ``FOLDER_READERS``.
        seed: Seeds the draw.
    """
    read = next(r for file, r in FOLDER_READERS.items() if (path / file).is_file())
    data = read(path)
    return data if get_block(data, "val") else hold_out(name_of(path), data, seed)


def _read_npy_folder(path: Path) -> HeteroData:
    """Read {train,valid,test}_list.npy and, where present, labels.npz.

    Each user's pairs are taken to stand in the order of time, as those who publish such
    lists write them, unless ``in_order`` of ``labels.npz`` is 0.
    """
    pairs = {}
    for split, file_split in zip(SPLITS, ("train", "valid", "test"), strict=True):
        file = path / f"{file_split}_list.npy"
        if split != "val" or file.exists():
            pairs[split] = _read_pairs(file)
    labels = _read_labels(path / "labels.npz")
    blocks = {}
    for split, index in pairs.items():
        block = {"index": torch.from_numpy(index.T.copy())}
        prefix = "valid" if split == "val" else split
        for key, name in (("pos", "time"), ("rating", "rating"), ("tp", "is_noise")):
            values = labels.get(f"{prefix}_{key}")
            if values is not None:
                block[name] = _label(path, f"{prefix}_{key}", values, len(index))
        blocks[split] = block
    raw = [
        _raw_ids(
            path, labels.get(key), [block["index"][i] for block in blocks.values()]
        )
        for i, key in enumerate(("user_raw", "movie_raw"))
    ]
    data = build_graph(name_of(path), blocks, *raw)
    if labels.get("in_order", np.ones(1)).all():
        data[EDGE].in_order = True
        if "time" not in blocks["train"]:
            logger.warning(
                "%s: assumed each user's pairs in the order of time", name_of(path)
            )
    return data


def _read_pairs(file: Path) -> np.ndarray:
    """Return the (user, item) pairs ``[n, 2]`` int64 of one file."""
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such file")
    with undamaged(file, "not a plain .npy file"):
        array = open_npy(file)
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu":
        raise ValueError(
            f"{file.name}: expected integers [n, 2] "
            f"(got {array.dtype} {list(array.shape)})"
        )
    return _check_ids(np.asarray(array), lambda row: f"{file.name}: row {row}")


def _check_ids(pairs: np.ndarray, where: Callable[[int], str]) -> np.ndarray:
    """Return pairs ``[n, 2]`` as int64, or refuse ids that are no row numbers."""
    limit = max(_MAX_ROWS, 10 * len(pairs))
    bad = (pairs < 0) | (pairs >= limit)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"{where(int(row))}: {('user', 'item')[column]} id {pairs[row, column]} "
            f"is out of range (ids are row numbers, 0 … {limit - 1})"
        )
    return pairs.astype(np.int64)


def _read_labels(file: Path) -> dict[str, np.ndarray]:
    if not file.exists():
        return {}
    with undamaged(file, "not a plain .npz file"):
        arrays = read_npz(file)
    labels = {key: values for key, values in arrays.items() if values is not None}
    for key, values in labels.items():
        kinds = "iuf" if key.endswith(("_rating", "_pos")) else "iu"
        plain = isinstance(values, np.ndarray) and values.dtype.kind in kinds
        if not plain or values.ndim != 1:
            raise ValueError(f"{file.name}: {key!r} must be one row of numbers")
        if values.dtype == np.uint64 and (values > np.iinfo(np.int64).max).any():
            raise ValueError(f"{file.name}: {key!r} must fit int64")
    return labels


def _label(path: Path, key: str, values: np.ndarray, num_pairs: int) -> Tensor:
    where = f"{name_of(path)}/labels.npz: {key!r}"
    if len(values) != num_pairs:
        raise ValueError(f"{where} must have {num_pairs} values (got {len(values)})")
    if key.endswith("_rating"):
        with np.errstate(over="ignore"):  # what does not fit becomes inf
            values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{where} must be finite numbers")
    if key.endswith("_rating"):
        return torch.from_numpy(values)
    if key.endswith("_pos"):
        is_whole = values.dtype.kind in "iu"
        return torch.from_numpy(values.astype(np.int64 if is_whole else np.float64))
    if not np.isin(values, (0, 1)).all():
        raise ValueError(f"{where} must be 0 or 1")
    return torch.from_numpy(values == 0)


def _raw_ids(path: Path, labels: np.ndarray | None, nodes: list[Tensor]) -> Tensor:
    """Return the caller's id of each row ``[n]``; the row itself where none is known.

    Beside known ids an unknown one (0) becomes -1 - row: the row itself could be
    somebody else's id.
    """
    num_nodes = max((int(node.max()) + 1 for node in nodes if node.numel()), default=0)
    if labels is None:
        return torch.arange(num_nodes)
    if len(labels) < num_nodes:
        raise ValueError(
            f"{name_of(path)}/labels.npz: {len(labels)} raw ids, but ids up to "
            f"{num_nodes - 1} in the lists"
        )
    raw_id = torch.from_numpy(labels.astype(np.int64))
    unknown = raw_id == 0
    if bool(unknown.any()):
        logger.warning(
            "%s: %d rows have no id in labels.npz; row r is called -1 - r",
            name_of(path),
            int(unknown.sum()),
        )
    ids = torch.where(unknown, -1 - torch.arange(len(raw_id)), raw_id)
    names, count = ids.unique(return_counts=True)
    if bool((count > 1).any()):  # two rows would be one user or item to the caller
        name = names[count > 1][0].item()
        first, second = (ids == name).nonzero().flatten().tolist()[:2]
        raise ValueError(
            f"{name_of(path)}/labels.npz: every raw id must be there once "
            f"(got {name} for rows {first} and {second})"
        )
    return ids


def _read_lightgcn_folder(path: Path) -> HeteroData:
    """Read train.txt, test.txt and valid.txt (or val.txt): a user's items per line."""
    files = {"train": path / "train.txt", "test": path / "test.txt"}
    held_out = [path / name for name in _VALIDATION if (path / name).is_file()]
    if len(held_out) > 1:
        raise ValueError(
            f"{name_of(path)}: one file must hold the validation pairs (got "
            f"{' and '.join(file.name for file in held_out)})"
        )
    if held_out:
        files["val"] = held_out[0]
    blocks = {
        split: {"index": _read_adjacency(files[split])}
        for split in SPLITS
        if split in files
    }
    nodes = [[block["index"][i] for block in blocks.values()] for i in (0, 1)]
    raw = [_raw_ids(path, None, of_type) for of_type in nodes]
    return build_graph(name_of(path), blocks, *raw)


def _read_adjacency(file: Path) -> Tensor:
    """Return the pairs ``[2, E]`` of lines ``user item item …``."""
    users: list[bytes] = []
    items: list[bytes] = []
    counts: list[int] = []
    lines: list[int] = []
    numbered = (
        pair
        for first_line, block in read_blocks(file)
        for pair in enumerate(block.split(b"\n"), first_line)
    )
    for line, text in numbered:
        tokens = text.split()
        # Nineteen digits can exceed int64.
        if not tokens:
            continue
        if not b"".join(tokens).isdigit() or max(map(len, tokens)) > 18:
            bad = next(t for t in tokens if not t.isdigit() or len(t) > 18)
            raise ValueError(
                f"{file.name}:{line}: {bad.decode()[:40]!r} is no id, expected a row "
                "number"
            )
        users.append(tokens[0])
        items.extend(tokens[1:])
        counts.append(len(tokens) - 1)
        lines.append(line)
    if set(counts) == {2} and len(set(users)) < len(users):
        raise ValueError(
            f"{file.name}: every line has three numbers and users begin several, as "
            "'user item weight' lines do; expected 'user item item ...', a line per "
            "user. Give a table with a header in place of the folder"
        )
    user = np.repeat(np.array(users, dtype=np.int64), counts)
    pairs = np.stack([user, np.array(items, dtype=np.int64)], axis=1)
    line_of_pair = np.repeat(np.array(lines, dtype=np.int64), counts)
    pairs = _check_ids(pairs, lambda row: f"{file.name}:{line_of_pair[row]}")
    return torch.from_numpy(pairs.T.copy())


FOLDER_READERS: dict[str, Callable[[Path], HeteroData]] = {
    "train_list.npy": _read_npy_folder,
    "train.txt": _read_lightgcn_folder,
}


def name_of(folder: Path) -> str:
    """Return what a folder is called, also where it is written as a dot.

    Args:
        folder: The folder.
    """
    return folder.resolve().name
