"""What commands write: JSON, and tables in the caller's own ids."""

from __future__ import annotations

import copy
import csv
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.datasets.writers import csv_quoting
from ddrm_pyg.experiments.tables import Table
from ddrm_pyg.extras import import_extra
from ddrm_pyg.files import atomic_path
from ddrm_pyg.ids import raw_ids, spreadsheet_safe

logger = logging.getLogger("ddrm_pyg")

Chunks = Iterable[tuple[Tensor, Tensor, Tensor]]
"""``(user, score, item)`` as :func:`ddrm_pyg.ranking.recommend_chunks` yields them."""


def print_json(record: object) -> None:
    """Print one object on stdout."""
    print(json.dumps(record))


def print_results(
    tables: Sequence[Table], verdict: Sequence[str], more: Sequence[str]
) -> None:
    """Print what a command found; with ``-q`` the numbers and the verdict alone.

    Args:
        tables: The numbers, with what their words mean.
        verdict: What was found, a line each.
        more: What else there is to say: where it was written, and what next.
    """
    says_all = logger.isEnabledFor(logging.INFO)
    print("\n\n".join(table.text(notes=says_all) for table in tables))
    if lines := [*verdict, *(more if says_all else ())]:
        print("\n" + "\n".join(lines))


def check_safe_csv(safe: bool, is_csv: bool, out: object) -> None:
    """Refuse ``--safe-csv`` where no ids are written as CSV.

    Raises:
        ValueError: They are not.
    """
    if safe and not is_csv:
        raise ValueError(f"'--safe-csv' must go with CSV (got {out})")


def in_csv(ids: list[Any], *, safe: bool) -> list[Any]:
    """Ids as a CSV has them: as they are, or safe to open in a spreadsheet."""
    return spreadsheet_safe(ids) if safe else ids


def with_ids_in_csv(data: HeteroData, *, safe: bool) -> HeteroData:
    """The same interactions with ids as a CSV has them."""
    data = copy.copy(data)
    for kind in ("user", "item"):
        if not isinstance(data[kind].raw_id, Tensor):  # numbers stay
            data[kind].raw_id = in_csv(raw_ids(data, kind), safe=safe)
    return data


def write_csv(
    path: Path,
    frame: pd.DataFrame,
    *,
    index: bool = False,
    float_format: str | None = None,
) -> None:
    """Write a DataFrame as CSV, whole or not at all."""
    columns = (column for _, column in frame.items() if column.dtype.kind == "O")
    with atomic_path(path) as temporary:
        frame.to_csv(
            temporary,
            index=index,
            float_format=float_format,
            lineterminator="\n",
            quoting=csv_quoting(str(cell) for column in columns for cell in column),
        )


def write_ids(path: Path, ids: dict[str, list[Any]]) -> None:
    """Write which row of which table is whose: ``kind,row,id`` lines."""
    with _text(path) as file:
        writer = _writer(file, *ids.values())
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
        writer = _writer(file, user_ids, item_ids)
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


def _writer(file: TextIO, *columns: list[Any]) -> Any:
    """What writes rows of these ids so that they come back as they are."""
    names = (str(name) for names in columns for name in names)
    return csv.writer(file, lineterminator="\n", quoting=csv_quoting(names))


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
