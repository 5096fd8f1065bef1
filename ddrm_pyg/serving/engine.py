"""An export, loaded by ONNX Runtime: lists in the caller's ids, without torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddrm_pyg.extras import import_extra
from ddrm_pyg.files import read_json, undamaged

FORMAT = 2
"""Of the folder; raised where an older reader would misread a newer export."""

MANIFEST = "serving.json"
"""Written last: a folder that has it is whole."""

ITEMS = "items.npy"
IDS = "item_ids.json"

_TOLERANCE = 1e-4
"""Largest relative difference of scores between what exported and what serves."""

_NOT_OURS = ("not what 'export' writes", "export again")

Id = str | int
Program = Callable[..., Sequence[Any]]
"""Takes and returns arrays, in the order of the export's inputs and outputs."""


class Listed(NamedTuple):
    """The best items of one request.

    Attributes:
        item: Ids, best first.
        score: One for each.
        num_unknown: Ids of the request that the export does not know.
    """

    item: list[Id]
    score: list[float]
    num_unknown: int


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read what an export says of itself.

    Raises:
        FileNotFoundError: There is no export.
        ValueError: It is damaged, or of another version of this package.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: not an export (no {MANIFEST})")
    with undamaged(path, *_NOT_OURS):
        manifest = read_json(path)
        version = manifest["format"]
        if version == FORMAT:
            _check_manifest(manifest)
            return manifest
    raise ValueError(
        f"{path}: the format must be {FORMAT} (got {version!r}); export again"
    )


def _check_manifest(manifest: dict[str, Any]) -> None:
    numbers = [manifest[name] for name in ("k", "num_items", "embedding_dim")]
    lists = [manifest["sample"][name] for name in ("history", "exclude")]
    kept = [manifest["formats"], *lists]
    if not all(type(number) is int for number in numbers) or not all(
        isinstance(values, list) for values in kept
    ):
        raise ValueError("its entries are of other kinds")


def replay(
    sample: dict[str, Any], item_emb: Any, recommend: Program, name: str
) -> None:
    """Refuse a program that does not give the lists which its export wrote down.

    Args:
        sample: Rows of ``history`` and ``exclude``, and the expected ``score`` and
            ``item``.
        item_emb: ``[num_items, D]``.
        recommend: The program.
        name: What the message calls it.

    Raises:
        ValueError: A list differs by more than rounding.
    """
    rows = [np.asarray(sample[key], np.int64) for key in ("history", "exclude")]
    score, item = (np.asarray(part) for part in recommend(*rows, item_emb))
    expected = np.asarray(
        [[-np.inf if v is None else v for v in row] for row in sample["score"]]
    )
    listed = np.asarray(sample["item"])
    close = np.isclose(score, expected, rtol=_TOLERANCE, atol=_TOLERANCE)
    # items may change places, or the list at its end, where scores are as close
    padding = np.isneginf(expected)
    steps = np.diff(np.where(padding, -1e30, expected), axis=1)
    apart = -steps > _TOLERANCE * (1 + np.abs(np.where(padding, 0, expected)[:, :-1]))
    alone = np.pad(apart, ((0, 0), (1, 0)), constant_values=True)
    alone[:, :-1] &= apart
    alone[:, -1] = False
    alone |= padding
    if not close.all() or not (item == listed)[alone].all():
        raise ValueError(f"{name}: the program does not give the lists of its export")


class Engine:
    """Answers requests from an export.

    Loading replays the sample of the export, so that what serves is what was exported.

    Args:
        folder: The export.
        num_threads: Threads of one answer.

    Attributes:
        num_items: Items of the catalogue.
        max_k: Longest list.
        ordered: Whether histories are read from first to last.

    Raises:
        FileNotFoundError: ``folder`` is no export.
        ValueError: It is damaged, incomplete or of another version, was not exported
            as ONNX, or gives other lists than it did there.
        ImportError: ONNX Runtime is not installed.
    """

    def __init__(self, folder: Path, *, num_threads: int = 1) -> None:
        self.folder = folder = Path(folder).resolve()  # the export behind a link
        manifest = read_manifest(folder)
        if "onnx" not in manifest["formats"]:
            raise ValueError(
                f"{folder}: to serve it, export it with '--format onnx' "
                f"(got {manifest['formats']})"
            )
        self._recommend = load_onnx(folder / "recommend.onnx", num_threads)
        for name in (ITEMS, IDS):
            if not (folder / name).is_file():
                raise ValueError(f"{folder / name}: not there; export again")
        with undamaged(folder / ITEMS, *_NOT_OURS):
            self._item_emb = np.load(folder / ITEMS, mmap_mode="r", allow_pickle=False)
        with undamaged(folder / IDS, *_NOT_OURS):
            self._ids: list[Id] = list(json.loads((folder / IDS).read_text("utf-8")))
        self.num_items = len(self._ids)
        self.max_k: int = manifest["k"]
        self.ordered: bool = manifest["ordered"]
        shape = (self.num_items, manifest["embedding_dim"])
        if self._item_emb.shape != shape or self.num_items < self.max_k:
            raise ValueError(
                f"{folder / ITEMS}: must be {list(shape)} "
                f"(got {list(self._item_emb.shape)})"
            )
        self._row = {str(name): row for row, name in enumerate(self._ids)}
        # what popularity adds to scores has no direction
        self._vectors = self._item_emb[:, : shape[1] - manifest["bias_columns"]]
        self._norm = np.maximum(np.linalg.norm(self._vectors, axis=1), 1e-12)
        with undamaged(folder / MANIFEST, *_NOT_OURS):
            replay(manifest["sample"], self._item_emb, self._recommend, str(folder))

    def recommend(
        self,
        histories: Sequence[Iterable[Id]],
        *,
        k: int,
        exclude: Sequence[Iterable[Id]],
    ) -> list[Listed]:
        """List the best items that are neither in a history nor excluded.

        Args:
            histories: Ids of what each person has, from first to last; unknown ones
                are counted and left out, and of repeated ones the first counts.
            k: List length, at most ``max_k``.
            exclude: Ids of what else each list leaves out.
        """
        rows = [self._rows(ids) for ids in histories]
        hidden = [self._rows(ids) for ids in exclude]
        score, item = self._recommend(
            self._padded([row for row, _ in rows]),
            self._padded([row for row, _ in hidden]),
            self._item_emb,
        )
        return [
            self._listed(item[n, :k], score[n, :k], rows[n][1] + hidden[n][1])
            for n in range(len(rows))
        ]

    def similar(self, item: Id, *, k: int) -> Listed | None:
        """List the items whose vectors point most in one item's direction.

        Returns:
            Cosines, best first; None for an unknown item.
        """
        row = self._row.get(str(item))
        if row is None:
            return None
        cosine = self._vectors @ self._vectors[row]
        cosine /= self._norm * self._norm[row]
        cosine[row] = -np.inf
        k = min(k, self.num_items - 1)
        best = np.argpartition(-cosine, k)[:k]
        best = best[np.argsort(-cosine[best], kind="stable")]
        return self._listed(best, cosine[best], 0)

    def _rows(self, ids: Iterable[Id]) -> tuple[list[int], int]:
        """Rows of the known ids, each once, and the number of the others."""
        names = list(dict.fromkeys(map(str, ids)))
        rows = [self._row[name] for name in names if name in self._row]
        return rows, len(names) - len(rows)

    def _padded(self, rows: list[list[int]]) -> Any:
        table = np.full((len(rows), max(1, *map(len, rows))), self.num_items, np.int64)
        for place, filled in zip(table, rows, strict=True):
            place[: len(filled)] = filled
        return table

    def _listed(self, item: Any, score: Any, num_unknown: int) -> Listed:
        real = item < self.num_items
        ids = [self._ids[row] for row in item[real].tolist()]
        return Listed(ids, score[real].tolist(), num_unknown)


def load_onnx(path: Path, num_threads: int = 1) -> Program:
    """Load a program with ONNX Runtime, on the CPU.

    Raises:
        ImportError: ONNX Runtime is not installed.
        ValueError: The file is missing or damaged.
    """
    runtime = import_extra("onnxruntime", "an export needs onnxruntime", "serve")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    with undamaged(path, "not a readable program", "export again"):
        session = runtime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    names = [value.name for value in session.get_inputs()]

    def run(*arrays: Any) -> Sequence[Any]:
        return session.run(None, dict(zip(names, arrays, strict=True)))

    return run
