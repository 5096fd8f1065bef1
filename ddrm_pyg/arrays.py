"""Read NumPy's files without trust: no objects, nothing far beyond the file's size."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection
from pathlib import Path

import numpy as np

LARGE = 1 << 26
"""Bytes of an unpacked array up to which its packing is not looked at."""

_MAGIC = b"\x93NUMPY"

LARGEST_RATIO = 100
"""How many times its packed bytes a larger array may have."""


def open_npy(path: Path) -> np.ndarray:
    """Map an ``.npy`` file, whose shape must account for every byte.

    Args:
        path: The file.

    Raises:
        ValueError: It is not a plain array of numbers, or not as large as it says.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:  # NumPy would advise to unpickle it
            raise ValueError("it does not begin as one does")
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    _check_size("it", array.shape, array.dtype, path.stat().st_size - array.offset)
    return array


def _check_size(name: str, shape: tuple[int, ...], dtype: np.dtype, size: int) -> None:
    """Refuse bytes that are missing, and those left over, which NumPy would pass by."""
    says = math.prod(shape) * dtype.itemsize
    if says != size:
        raise ValueError(
            f"{name} says {list(shape)} of {dtype}, {says} bytes, and has {size}"
        )


def read_npz(
    path: Path, names: Collection[str] | None = None
) -> dict[str, np.ndarray | None]:
    """Read the arrays of an ``.npz`` file; shapes are checked before allocation.

    Args:
        path: The file.
        names: The arrays to read; None reads all.

    Returns:
        An array for each name in the file, None for one that is not to be read.

    Raises:
        ValueError: A member holds objects, is not as large as its header says, or
            unpacks to far more than the file has.
        zipfile.BadZipFile: It is no archive, or damaged.
    """
    arrays: dict[str, np.ndarray | None] = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            is_read = names is None or name in names
            arrays[name] = _read_member(archive, info) if is_read else None
    return arrays


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version > (2, 0):
            raise ValueError(f"{info.filename} is no array of numbers")
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(file)
        size = info.file_size - file.tell()
    if dtype.hasobject:
        raise ValueError(f"{info.filename} holds Python objects")
    _check_size(info.filename, shape, dtype, size)
    packed = min(info.compress_size, Path(str(archive.filename)).stat().st_size)
    if size > max(LARGE, LARGEST_RATIO * packed):
        raise ValueError(
            f"{info.filename} unpacks to {size} bytes, over {LARGEST_RATIO} times what "
            "it takes here"
        )
    with archive.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
