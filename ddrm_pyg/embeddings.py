"""User and item vectors: what every embedding model returns and DDRM maps."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.arrays import read_npz
from ddrm_pyg.files import atomic_path, undamaged
from ddrm_pyg.ids import align, check_columns_alike, raw_ids, read_vectors
from ddrm_pyg.mapped import MappedEmbeddings, open_tables

logger = logging.getLogger("ddrm_pyg")

_CHECKED = 65_536
"""Rows checked together."""


class Embeddings(NamedTuple):
    """Vectors of all users and items; their inner product is the score.

    A named tuple, so ``user_emb, item_emb = embeddings`` works, and a Scorer, so it
    can be given to :func:`ddrm_pyg.evaluate` and :func:`ddrm_pyg.recommend` directly.

    Attributes:
        user: ``[num_users, D]`` float.
        item: ``[num_items, D]`` float.
    """

    user: Tensor
    item: Tensor

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(user={_shown(self.user)}, item={_shown(self.item)})"
        )

    def _repr_html_(self) -> str:
        cells: list[tuple[str, ...]]
        cells = [("", "rows", "width", "type", "mean length")]
        for name, table in zip(self._fields, self, strict=True):
            kind = str(table.dtype).removeprefix("torch.")
            length = table.float().norm(dim=1).mean().item()
            cells.append((name, *map(str, table.shape), kind, f"{length:.4g}"))
        rows = ("".join(f"<td>{cell}</td>" for cell in row) for row in cells)
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"

    @property
    def num_users(self) -> int:
        """Number of user rows."""
        return self.user.size(0)

    @property
    def num_items(self) -> int:
        """Number of item rows."""
        return self.item.size(0)

    def scores(self, user: Tensor) -> Tensor:
        """Score every item for some users by inner product (Eq. 24 of DDRM).

        Args:
            user: ``[B]`` int64 user rows.

        Returns:
            ``[B, num_items]`` float32, whatever the tables are stored in: half
            precision overflows where ranking begins. Higher is better.
        """
        return self.user[user].float() @ self.item.float().T

    def to(self, dtype: torch.dtype) -> Self:
        """Return both tables as another type of float."""
        return type(self)(self.user.to(dtype), self.item.to(dtype))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write both tables to ``.safetensors``, ``.npz`` or ``.pt``, atomically.

        The file holds two arrays named ``user`` and ``item``.

        Raises:
            ValueError: The suffix is none of the three, or an ``.npz`` of bfloat16,
                which NumPy does not have.
        """
        suffix = _checked_suffix(path)
        if suffix == ".npz" and torch.bfloat16 in (self.user.dtype, self.item.dtype):
            raise ValueError(
                f"{path}: an .npz file cannot hold torch.bfloat16; write .safetensors "
                "or .pt, or embeddings.to(torch.float32)"
            )
        tensors = {
            name: table.detach().cpu().contiguous()
            for name, table in zip(self._fields, self, strict=True)
        }
        with atomic_path(path) as temporary:
            if suffix == ".safetensors":
                from safetensors.torch import save_file

                save_file(tensors, temporary)
            elif suffix == ".npz":
                np.savez(
                    temporary,
                    user=tensors["user"].numpy(),
                    item=tensors["item"].numpy(),
                )
            else:
                torch.save(tensors, temporary)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read tables that :meth:`save` or any other program wrote.

        ``.safetensors`` tables are memory-mapped: rows are read when they are used.

        Args:
            path: A ``.safetensors``, ``.npz`` or ``.pt`` file with arrays ``user`` and
                ``item``; what else it holds is named in a line and not read. Nothing
                is unpickled (``.pt`` is read with ``weights_only=True``).

        Raises:
            FileNotFoundError: There is no such file.
            MemoryError: It does not fit; :meth:`open` reads rows as they are used.
            ValueError: Unknown suffix, unreadable file, missing or misshapen array,
                NaN or infinite value.
        """
        suffix = _checked_suffix(path)
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file")
        with undamaged(path, f"not a readable {suffix} file"):
            tensors = _READERS[suffix](path)
        missing = [name for name in cls._fields if name not in tensors]
        if missing:
            raise ValueError(
                f"{path}: needs arrays 'user' and 'item' (found {_names(tensors)})"
            )
        beside = _names(name for name in tensors if name not in cls._fields)
        if beside:
            logger.info("%s: %s beside 'user' and 'item' not read", path, beside)
        embeddings = cls(tensors["user"], tensors["item"])
        embeddings.check(str(path))
        return embeddings

    @staticmethod
    def open(path: str | os.PathLike[str]) -> MappedEmbeddings:
        """Open a ``.safetensors`` file of any size; rows are read when asked for.

        Nothing is checked but the shapes: :meth:`load` reads all values.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: Not a readable file of that kind, or without two equally wide
                float matrices ``user`` and ``item``.
        """
        tables = open_tables(path)
        opened = [tables[name] for name in Embeddings._fields if name in tables]
        kinds = {
            (t.dtype.is_floating_point, len(t.shape), *t.shape[1:]) for t in opened
        }
        if len(opened) != 2 or len(kinds) != 1 or min(kinds)[:2] != (True, 2):
            shapes = {name: list(table.shape) for name, table in tables.items()}
            raise ValueError(
                f"{path}: needs float tables 'user' and 'item' of one width "
                f"(got {shapes})"
            )
        return MappedEmbeddings(*opened)

    @classmethod
    def from_ids(cls, user: Any, item: Any, data: HeteroData) -> Self:
        """Put vectors that come with ids into the order of a data set's rows.

        Rows in another order give plausible wrong numbers; ids do not.

        Args:
            user: Vectors of users: a pair ``(ids, table)``, a mapping from id to
                vector, a DataFrame, or a ``.parquet``, ``.csv`` or ``.tsv`` file; the
                last two with a column ``id`` and a number per other column, or one
                column of vectors.
            item: Vectors of items, likewise.
            data: The loaded data set, whose ids decide; compared as texts.

        Returns:
            float32, row by row the vectors of ``data["user"].raw_id`` and of
            ``data["item"].raw_id``.

        Raises:
            ValueError: An id of the data has no vector, an id is there twice, columns
                of the same names stand in another order, or the tables cannot be scored
                (see :meth:`check`).

        Example:
            >>> data = HeteroData({"user": {"raw_id": ["ann", "bob"]}})
            >>> data["item"].raw_id = ["tea", "jam"]
            >>> user = {"bob": [0.0, 1.0], "ann": [1.0, 0.0]}
            >>> item = (["jam", "tea"], torch.tensor([[2.0, 0.0], [0.0, 3.0]]))
            >>> Embeddings.from_ids(user, item, data).item.tolist()
            [[0.0, 3.0], [2.0, 0.0]]
        """
        kinds = {"user": user, "item": item}
        vectors = {k: read_vectors(source, f"'{k}'") for k, source in kinds.items()}
        check_columns_alike(**vectors)
        embeddings = cls(
            *(
                align((read.ids, read.table), raw_ids(data, k), f"'{k}'").float()
                for k, read in vectors.items()
            )
        )
        embeddings.check()
        return embeddings

    def check(self, where: str = "embeddings") -> None:
        """Refuse tables that cannot be scored.

        Args:
            where: What the message names: a file or an argument.

        Raises:
            ValueError: Not two float matrices of one width, or a value that is not
                finite.
        """
        for name, table in zip(self._fields, self, strict=True):
            if table.dim() != 2 or not table.is_floating_point():
                raise ValueError(
                    f"{where}: '{name}' must be a 2-dimensional float array "
                    f"(got {table.dtype} of shape {list(table.shape)})"
                )
            _check_finite(table, f"{where}: '{name}'")
        if self.user.size(1) != self.item.size(1):
            raise ValueError(
                f"{where}: 'user' and 'item' must be equally wide "
                f"(got {self.user.size(1)} and {self.item.size(1)})"
            )

    def check_matches(
        self, num_users: int, num_items: int, where: str = "embeddings"
    ) -> None:
        """Refuse tables whose rows are not those of a graph.

        Raises:
            ValueError: The number of user or item rows differs.
        """
        for name, table, expected in (
            ("user", self.user, num_users),
            ("item", self.item, num_items),
        ):
            if table.size(0) != expected:
                raise ValueError(
                    f"{where}: '{name}' must have one row per {name} of the graph, "
                    f"{expected} (got {table.size(0)})"
                )


def _names(entries: Iterable[Any]) -> list[str]:
    return sorted(map(str, entries))


def _shown(table: Any) -> str:
    """Show a table by its shape, and by its type where that is not float32."""
    kind = str(getattr(table, "dtype", type(table).__name__)).removeprefix("torch.")
    shape = list(getattr(table, "shape", []))
    return f"{shape}" if kind == "float32" else f"{shape} {kind}"


def _check_finite(table: Tensor, name: str) -> None:
    """Refuse NaN and infinity, in the memory of some rows."""
    for start, block in enumerate(table.split(_CHECKED)):
        finite = torch.isfinite(block)
        if not bool(finite.all()):
            row, column = (~finite).nonzero()[0].tolist()
            raise ValueError(
                f"{name} must be finite (got {block[row, column].item()} at row "
                f"{start * _CHECKED + row}, column {column})"
            )


def _checked_suffix(path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix
    if suffix not in _READERS:
        raise ValueError(f"{path}: the suffix must be one of {', '.join(_READERS)}")
    return suffix


def _read_safetensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _read_npz(path: str | os.PathLike[str]) -> dict[str, Any]:
    arrays = read_npz(Path(path), Embeddings._fields)
    return {
        name: None if array is None else _tensor(array)
        for name, array in arrays.items()
    }


def _read_pt(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if "weights_only" in str(error):  # torch advises to switch the guard off
            raise ValueError("objects are not unpickled; save tensors only") from None
        raise
    if not isinstance(tensors, dict) or not all(
        isinstance(tensors.get(name, torch.empty(0)), Tensor)
        for name in Embeddings._fields
    ):
        raise ValueError("it must hold a dict of tensors with keys 'user' and 'item'")
    return tensors


_READERS = {".safetensors": _read_safetensors, ".npz": _read_npz, ".pt": _read_pt}


def as_embeddings(source: Any) -> Embeddings:
    """Accept user and item vectors in any of the forms people have.

    Args:
        source: :class:`Embeddings`; a file that :meth:`Embeddings.load` reads; a pair
            ``(user, item)`` of tensors, NumPy arrays of any layout and byte order,
            ``torch.nn.Embedding`` or data frames, whose rows count by place; or an
            object with ``user_factors`` and ``item_factors``, as ``implicit`` fits.

    Returns:
        Detached tables.

    Raises:
        ValueError: The tables cannot be scored (see :meth:`Embeddings.check`).
        TypeError: None of those forms.
    """
    if isinstance(source, (str, os.PathLike)):
        return Embeddings.load(source)
    if has_factors(source):
        source = (source.user_factors, source.item_factors)
    if not isinstance(source, Sequence) or len(source) != 2:
        raise TypeError(
            "'embeddings' must be Embeddings, a file or a pair (user, item) "
            f"(got {type(source).__name__})"
        )
    embeddings = Embeddings(*(_as_table(table) for table in source))
    embeddings.check()
    return embeddings


def has_factors(source: Any) -> bool:
    """Tell whether an object holds its vectors as ``implicit`` names them."""
    return hasattr(source, "user_factors") and hasattr(source, "item_factors")


def _as_table(table: Any) -> Tensor:
    if isinstance(table, torch.nn.Embedding):
        table = table.weight
    if isinstance(table, Tensor):
        return table.detach()
    if hasattr(table, "to_numpy"):  # a data frame, or implicit's matrix on a GPU
        table = table.to_numpy()
    return _tensor(np.asarray(table))


def _tensor(array: np.ndarray) -> Tensor:
    """Share an array's memory where torch can: native byte order, no reversed axis."""
    if array.dtype.kind not in "fiu":
        raise ValueError(f"a table must hold numbers (got an array of {array.dtype})")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if any(stride < 0 for stride in array.strides):
        array = array.copy()
    with warnings.catch_warnings():  # a mapped file is read-only, and is only read
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)
