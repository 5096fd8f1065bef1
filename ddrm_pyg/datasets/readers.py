"""The front of all readers: find the one for a source, check, split, report.

A *table* (a file of rows, a DataFrame) holds all interactions and is split here. A
*folder* in one of the published layouts brings its own split. A new table format is one
more function from a path to a :class:`~ddrm_pyg.datasets._table.Table`, which
``_read_table`` picks by what is in the file.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from scipy import sparse
from torch_geometric.data import HeteroData

from ddrm_pyg.checks import check_among
from ddrm_pyg.datasets._columns import Columns, in_words
from ddrm_pyg.datasets._delimited import read_delimited
from ddrm_pyg.datasets._folders import FOLDER_READERS, name_of, read_folder
from ddrm_pyg.datasets._graph import warn_untrained, widen
from ddrm_pyg.datasets._header import kind_of
from ddrm_pyg.datasets._json_lines import read_json_lines
from ddrm_pyg.datasets._memory import InMemory, read_columns, read_matrix
from ddrm_pyg.datasets._parquet import read_parquet
from ddrm_pyg.datasets._table import Table
from ddrm_pyg.messages import ASSUMED
from ddrm_pyg.transforms.core import RatingThreshold, get_block
from ddrm_pyg.transforms.split import Scope, TemporalSplit, check_ratios


def load_interactions(
    source: str | os.PathLike[str] | InMemory | sparse.spmatrix | sparse.sparray,
    *,
    user: str = "user",
    item: str = "item",
    rating: str | Literal[False] | None = None,
    time: str | Literal[False] | None = None,
    liked_from: float | None = None,
    ratios: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    split: bool | Scope = True,
    encoding: str | None = None,
    separator: str | None = None,
) -> HeteroData:
    """Read interactions into one bipartite graph with held-out pairs.

    Recognised are

    - a ``.csv`` or ``.tsv`` file with a header; between commas, semicolons and bars
      quotes are CSV's, between tabs they are literal unless the header is quoted;
    - a ``.json`` or ``.jsonl`` file, one object per line;
    - a ``.parquet`` file, with the extra ``[parquet]``;
    - RecBole's ``.inter`` file, whose header types the columns;
    - GroupLens ``ratings.dat``, or the folder that holds it, and ``u.data``;
    - a pandas or polars DataFrame, an Arrow table (any object with Arrow's C stream;
      all but pandas' with the extra ``[parquet]``), or a dict of columns;
    - rows: a list of dicts, or a NumPy array or a list of (user, item), or of
      (user, item, rating, time);
    - a scipy sparse matrix, users x items: rows and columns keep their numbers, and the
      values are ratings unless all are 1;
    - a folder with ``train_list.npy``, ``valid_list.npy`` and ``test_list.npy``, int
      ``[n, 2]`` (user, item), and the row-aligned ``labels.npz`` where present;
    - a folder with LightGCN's ``train.txt`` and ``test.txt``, ``user item item …``, and
      ``valid.txt`` or ``val.txt`` where present.

    Text files may be packed as ``.gz``. The folders bring their own split; where one
    has no validation file, a seeded tenth of each user's train pairs is held out. The
    others are split here by :class:`~ddrm_pyg.transforms.TemporalSplit`. Whatever is
    assumed, and whatever is odd but usable, is said as a one-line warning of the logger
    ``ddrm_pyg``.

    Args:
        source: The file or folder, or what is in memory itself, which is not changed.
        user: Column with user ids, integers or texts. GroupLens' ``userId`` and
            RecBole's ``user_id`` stand in for the default.
        item: Column with item ids. GroupLens' ``movieId`` and RecBole's ``item_id``
            stand in for the default.
        rating: Column with ratings. ``None`` takes ``rating`` where there is one,
            ``False`` takes none.
        time: Column with times: numbers, or dates in ISO 8601, UTC where they name no
            zone. ``None`` takes ``time`` or ``timestamp`` where there is one, ``False``
            takes none.
        liked_from: The lowest rating that counts as liked. Lower ones become false
            positives: labelled noise in train and validation, never in test. ``None``
            labels nothing.
        ratios: Shares of train, validation and test of each user's liked
            interactions, by time where known, else at random; with
            ``split="global"`` of all interactions.
        seed: Seeds the generators of a random split and of a held-out validation.
        split: ``True`` or ``"user"`` cuts each user's own timeline, ``"global"`` cuts
            everyone's at the same two moments: held-out pairs of users and items that
            train does not have are left out, which is said. ``False`` leaves all pairs
            in ``edge_index``.
        encoding: What the bytes of a text are, as Python calls it: ``"latin-1"``.
            ``None`` believes a byte order mark, and takes UTF-8 without one.
        separator: What stands between two fields: one ASCII character or ``"::"``.
            ``None`` takes the one on which most of the first rows agree.

    Returns:
        Node types ``user`` and ``item`` with ``num_nodes`` and ``raw_id`` (int64
        ``[n]`` for integer ids, a list of str otherwise); edge type
        ``('user', 'interacts', 'item')`` with ``edge_index`` ``[2, E]`` int64 (train
        only), ``val_edge_label_index`` and ``test_edge_label_index`` ``[2, *]``. Where
        known, each of the three has ``edge_time`` (int64: numbers as they are, dates
        in seconds since 1970 or in the coarsest finer unit that is exact; float64 where
        numbers have fractions; -1 unknown), ``edge_rating`` (float32, 0 unknown) and
        ``edge_is_noise`` (bool), held-out ones with the prefix ``val_`` or ``test_``.
        Items without a known id in ``labels.npz`` have ``raw_id`` -1 - row.

    Raises:
        FileNotFoundError: The source, or a file its layout needs, is not there.
        ImportError: Parquet or Arrow was asked for without the extra ``[parquet]``.
        MemoryError: The file does not fit; the message names it.
        TypeError: Nothing that is recognised.
        ValueError: An argument or the content is refused; the message names the file,
            the line where there are lines, the rule and the value.
    """
    ratios = check_ratios(ratios)
    if not isinstance(split, bool):
        check_among(get_args(Scope), split=split)
    if liked_from is not None and not math.isfinite(liked_from):
        raise ValueError(f"'liked_from' must be a number (got {liked_from})")
    columns = {"user": user, "item": item, "rating": rating, "time": time}
    text = {"encoding": encoding, "separator": separator}
    if isinstance(source, sparse.spmatrix | sparse.sparray):
        what = "a sparse matrix, which has no columns"
        refuse_arguments(what, columns | text)
        name, data, said = "sparse matrix", read_matrix(source), list[str]()
    elif not isinstance(source, str | os.PathLike):
        refuse_arguments("data in memory, which are no text", text)
        name, data, said = _from_table(read_columns(source, columns))
    else:
        path = Path(source)
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
        if brings_split(path):
            choices = {"liked_from": liked_from, "ratios": ratios, "split": split}
            what = f"{path}, which brings its own split"
            refuse_arguments(what, columns | text | choices)
            data = read_folder(path, seed)
            warn_untrained(name_of(path), data)
            return data
        name, data, said = _from_file(path, columns, encoding, separator)
    return arrange(name, data, said, liked_from, ratios, seed, split)


def brings_split(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path is a folder in a layout that brings its own split.

    Args:
        path: Any path.
    """
    return any((Path(path) / file).is_file() for file in FOLDER_READERS)


def refuse_arguments(what: str, arguments: dict[str, Any]) -> None:
    """Refuse what only data without a split can honour.

    Args:
        what: What brings a split, for the message.
        arguments: Arguments of :func:`load_interactions`, by name.

    Raises:
        ValueError: One is not what it is by default.
    """
    parameters = inspect.signature(load_interactions).parameters
    for name, value in arguments.items():
        if value != parameters[name].default:
            raise ValueError(f"{name!r} does not apply to {what} (got {value!r})")


def _read_table(
    path: Path, columns: Columns, encoding: str | None, separator: str | None
) -> Table:
    file = path / "ratings.dat" if path.is_dir() else path
    if not file.is_file():
        there = ", ".join(sorted(p.name for p in path.iterdir())[:10]) or "nothing"
        names = ", ".join([*FOLDER_READERS, "ratings.dat"])
        raise ValueError(f"{path}: looked for {names} (there is {there})")
    kind = kind_of(file, encoding)
    if kind == "parquet":
        text = {"encoding": encoding, "separator": separator}
        refuse_arguments(f"{file.name}, which is parquet", text)
        return read_parquet(file, columns)
    if kind == "json":
        what = f"{file.name}, which is JSON lines"
        refuse_arguments(what, {"separator": separator})
        return read_json_lines(file, columns, encoding=encoding)
    return read_delimited(file, columns, encoding=encoding, separator=separator)


def _from_file(
    path: Path, columns: Columns, encoding: str | None, separator: str | None
) -> tuple[str, HeteroData, list[str]]:
    try:
        return _from_table(_read_table(path, columns, encoding, separator))
    except MemoryError as error:
        reason = f" ({error})" if error.args else ""
        raise MemoryError(f"{path}: does not fit into memory{reason}") from error


def _from_table(table: Table) -> tuple[str, HeteroData, list[str]]:
    for hint in table.hints:
        ASSUMED.warning("%s: %s", table.name, hint)
    said = []
    if table.inferred:
        said.append(in_words(table.inferred))
    return table.name, table.to_data(narrow=True), said


def arrange(
    name: str,
    data: HeteroData,
    said: list[str],
    liked_from: float | None,
    ratios: Sequence[float],
    seed: int,
    split: bool | Scope,
) -> HeteroData:
    """Label and split what came as one block, and say how.

    Args:
        name: Name of the source.
        data: Unsplit interactions, which are changed; an int32 ``edge_index`` becomes
            int64.
        said: What was assumed so far.
        liked_from: As for :func:`load_interactions`, like what follows.
        ratios: Shares of train, validation and test.
        seed: Seeds a random split.
        split: Whether and how to split.

    Raises:
        ValueError: There are no ratings to label by, or the data cannot be split.
    """
    attributes = [*get_block(data, "train")]
    if liked_from is not None:
        if "rating" not in attributes:
            raise ValueError(f"{name}: 'liked_from' needs a rating column")
        data = RatingThreshold(liked_from).forward(data)
    if split:
        if split == "global" and "time" not in attributes:
            raise ValueError(f"{name}: split='global' needs a column of times")
        how = "by time" if "time" in attributes else "at random (no time column)"
        shares = "/".join(f"{100 * ratio:g}" for ratio in ratios)
        said.append(
            f"everyone cut at the same two moments, {shares} % of all interactions"
            if split == "global"
            else f"each user split {shares} % {how}"
        )
        said.append(
            "every interaction counts as liked"
            if liked_from is None
            else f"ratings below {liked_from:g} count as noise"
        )
    if said:
        ASSUMED.warning("%s: assumed %s", name, "; ".join(said))
    if not split:
        widen(data)
        return data
    try:
        scope = "user" if split is True else split
        # no copy of the data, which would keep what the split replaces
        data = TemporalSplit(ratios, seed=seed, scope=scope).forward(data)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    warn_untrained(name, data)
    return data
