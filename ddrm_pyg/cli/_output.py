"""What commands write: JSON, and tables in the caller's own ids."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
from torch import Tensor

from ddrm_pyg.extras import import_extra
from ddrm_pyg.files import atomic_path

Chunks = Iterable[tuple[Tensor, Tensor, Tensor]]
"""``(user, score, item)`` as :func:`ddrm_pyg.ranking.recommend_chunks` yields them."""


def print_json(record: object) -> None:
    """Print one object on stdout."""
    print(json.dumps(record))


def write_csv(
    path: Path,
    frame: pd.DataFrame,
    *,
    index: bool = False,
    float_format: str | None = None,
) -> None:
    """Write a DataFrame as CSV, whole or not at all."""
    with atomic_path(path) as temporary:
        frame.to_csv(
            temporary, index=index, float_format=float_format, lineterminator="\n"
        )


def write_ids(path: Path, ids: dict[str, list[Any]]) -> None:
    """Write which row of which table is whose: ``kind,row,id`` lines."""
    with _text(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["kind", "row", "id"])
        for kind, names in ids.items():
            writer.writerows((kind, row, name) for row, name in enumerate(names))


def write_recommendations(
    path: Path | None, chunks: Chunks, user_ids: list[Any], item_ids: list[Any]
) -> None:
    """Write ``user,item,score`` lines, best first, in the caller's ids.

    Args:
        path: File to write, CSV unless it ends in ``.parquet``; stdout if None.
        chunks: What to write.
        user_ids: Id of every user row.
        item_ids: Id of every item row; beyond them is padding, left out.
    """
    if path is not None and path.suffix == ".parquet":
        import_extra("pyarrow", f"writing {path} needs pyarrow", "parquet")
        rows = [
            (user_ids[user], item, score)
            for user, items, scores in lists(chunks, item_ids)
            for item, score in zip(items, scores, strict=True)
        ]
        frame = pd.DataFrame(rows, columns=["user", "item", "score"])
        with atomic_path(path) as temporary:
            frame.to_parquet(temporary, index=False)
        return
    with _text(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["user", "item", "score"])
        for user, items, scores in lists(chunks, item_ids):
            writer.writerows(
                (user_ids[user], item, f"{score:.6g}")
                for item, score in zip(items, scores, strict=True)
            )


def lists(
    chunks: Chunks, item_ids: list[Any]
) -> Iterator[tuple[int, list[Any], list[float]]]:
    """Yield each user's row, item ids and scores, without padding."""
    for user, score, item in chunks:
        for row, values, columns in zip(
            user.tolist(), score.tolist(), item.tolist(), strict=True
        ):
            kept = [item_ids[c] for c in columns if c < len(item_ids)]
            yield row, kept, values[: len(kept)]


@contextmanager
def _text(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        yield file
