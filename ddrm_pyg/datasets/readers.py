"""Read interactions from the formats people have, and refuse what is wrong in them.

A *table* (CSV, TSV, ratings.dat) holds all interactions and is split here. A *folder*
in one of the published layouts brings its own split. A new table format is one more
function from a path to a :class:`_Table` in ``_TABLE_READERS``.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import inspect
import io
import logging
import math
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.transforms.core import (
    SPLITS,
    RatingThreshold,
    get_block,
    select,
    set_block,
)
from ddrm_pyg.transforms.split import HoldOutValidation, TemporalSplit, check_ratios

logger = logging.getLogger("ddrm_pyg")

_DELIMITERS = (",", "\t", ";", "|")
_GROUPLENS = {
    "user": "userId",
    "item": "movieId",
    "rating": "rating",
    "time": "timestamp",
}
# Ids of lists are row numbers of embedding tables. Anything far beyond the number of
# pairs is a broken file, and would allocate gigabytes before anyone noticed.
_MAX_ROWS = 1_000_000


@dataclass
class _Table:
    """Interactions as they stand in a file, one row each.

    Attributes:
        name: File name for messages.
        frame: Columns ``user`` and ``item`` (int64 or str) and, where known,
            ``rating`` and ``time`` (numbers, or whatever the file has instead).
        columns: What the file calls each of them.
        inferred: Columns found without being asked for by name.
        line_of: Line number of a row, both counted as people do for the former (from
            1) and as arrays do for the latter (from 0).
    """

    name: str
    frame: pd.DataFrame
    columns: dict[str, str]
    inferred: bool
    line_of: Callable[[int], int]

    def refuse(self, row: int, role: str, expected: str) -> ValueError:
        value = str(self.frame[role].iloc[row])
        return ValueError(
            f"{self.name}:{self.line_of(row)}: column {self.columns[role]!r} is "
            f"{value!r}, expected {expected}"
        )


def load_interactions(
    path: str | os.PathLike[str],
    *,
    user: str = "user",
    item: str = "item",
    rating: str | None = None,
    time: str | None = None,
    liked_from: float | None = None,
    ratios: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    split: bool = True,
) -> HeteroData:
    """Read interactions into one bipartite graph with held-out pairs.

    Recognised are

    - a folder with ``train_list.npy``, ``valid_list.npy`` and ``test_list.npy``, int
      ``[n, 2]`` (user, item), and the row-aligned ``labels.npz`` where present;
    - a folder with LightGCN's ``train.txt`` and ``test.txt``, ``user item item …``;
    - a ``.csv`` or ``.tsv`` file, also ``.gz``, with a header;
    - GroupLens ``ratings.dat``, or the folder that holds it.

    The first two bring their own split; where it has no validation file, a seeded
    tenth of each user's train pairs is held out. The others are split here by
    :class:`~ddrm_pyg.transforms.TemporalSplit`. Whatever is assumed, and whatever is
    odd but usable, is said as a one-line warning of the logger ``ddrm_pyg``.

    Args:
        path: The file or folder.
        user: Column with user ids. GroupLens' ``userId`` stands in for the default.
        item: Column with item ids. GroupLens' ``movieId`` stands in for the default.
        rating: Column with ratings. ``None`` takes ``rating`` where there is one.
        time: Column with times, whole seconds. ``None`` takes ``time`` or GroupLens'
            ``timestamp`` where there is one.
        liked_from: The lowest rating that counts as liked. Lower ones become false
            positives: labelled noise in train and validation, never in test. ``None``
            labels nothing.
        ratios: Shares of train, validation and test of each user's liked
            interactions: by time where known, else at random.
        seed: Seeds the generators of a random split and of a held-out validation.
        split: Whether to split a table; otherwise all pairs are in ``edge_index``.

    Returns:
        Node types ``user`` and ``item`` with ``num_nodes`` and ``raw_id`` (int64
        ``[n]`` for integer ids, a list of str otherwise); edge type
        ``('user', 'interacts', 'item')`` with ``edge_index`` ``[2, E]`` int64 (train
        only), ``val_edge_label_index`` and ``test_edge_label_index`` ``[2, *]``. Where
        known, each of the three has ``edge_time`` (int64 seconds, or the rank in the
        user's timeline, -1 unknown), ``edge_rating`` (float32, 0 unknown) and
        ``edge_is_noise`` (bool), held-out ones with the prefix ``val_`` or ``test_``.
        Items without a known id in ``labels.npz`` have ``raw_id`` -1 - row.

    Raises:
        FileNotFoundError: ``path``, or a file its layout needs, is not there.
        ValueError: An argument or the content is refused; the message names the file,
            the line where there are lines, the rule and the value.
    """
    ratios = check_ratios(ratios)
    if liked_from is not None and not math.isfinite(liked_from):
        raise ValueError(f"'liked_from' must be a number (got {liked_from})")
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")

    columns = {"user": user, "item": item, "rating": rating, "time": time}
    read_folder = _folder_reader(path)
    if read_folder is not None:
        given = {"liked_from": liked_from, "ratios": ratios, "split": split}
        _refuse_arguments(path, columns | given)
        data = _with_validation(path, read_folder(path), seed)
        _report(_name(path), data)
        return data

    table = _read_table(path, columns)
    data = _table_to_data(table)
    if liked_from is not None:
        if "rating" not in table.columns:
            raise ValueError(f"{table.name}: 'liked_from' needs a rating column")
        data = RatingThreshold(liked_from)(data)
    _say_assumptions(table, liked_from, ratios, split)
    if split:
        try:
            data = TemporalSplit(ratios, seed=seed)(data)
        except ValueError as error:
            raise ValueError(f"{table.name}: {error}") from error
        _report(table.name, data)
    return data


def _folder_reader(path: Path) -> Callable[[Path], HeteroData] | None:
    readers = _FOLDER_READERS.items()
    return next((read for file, read in readers if (path / file).is_file()), None)


def _refuse_arguments(path: Path, given: dict[str, Any]) -> None:
    """Refuse what only a table can honour."""
    parameters = inspect.signature(load_interactions).parameters
    for name, value in given.items():
        if value != parameters[name].default:
            raise ValueError(
                f"{name!r} does not apply to {path}, which brings its own split "
                f"(got {value!r})"
            )


# Tables: find the reader, read, check, number the ids.


def _read_table(path: Path, columns: dict[str, str | None]) -> _Table:
    file = path / "ratings.dat" if path.is_dir() else path
    if not file.is_file():
        there = ", ".join(sorted(p.name for p in path.iterdir())[:10]) or "nothing"
        known = ", ".join([*_FOLDER_READERS, "ratings.dat"])
        raise ValueError(f"{path}: looked for {known} (there is {there})")
    suffix = Path(file.name.removesuffix(".gz")).suffix
    if suffix not in _TABLE_READERS:
        known = ", ".join(_TABLE_READERS)
        raise ValueError(f"{file}: no reader for {suffix!r} (known: {known}, also .gz)")
    return _TABLE_READERS[suffix](file, columns)


def _read_delimited(path: Path, columns: dict[str, str | None]) -> _Table:
    """Read a table with a header; the header tells the delimiter."""
    text = _read_text(path, "utf-8")
    header_line, _, body = text.partition(b"\n")
    header = header_line.decode().removeprefix("\ufeff")
    delimiter = max(_DELIMITERS, key=header.count)
    if delimiter not in header:
        raise ValueError(
            f"{path.name}:1: no comma, tab, semicolon or bar in the header "
            f"{header[:80]!r}"
        )
    _, fields = next(_records(path.name, header.encode(), delimiter, first_line=1))
    names = [name.strip() for name in fields]
    found, inferred = _find_columns(path.name, names, columns)
    return _parse(path.name, body, delimiter, names, found, inferred, first_line=2)


def _read_ratings_dat(path: Path, columns: dict[str, str | None]) -> _Table:
    """Read GroupLens' user::item::rating::seconds, which has no header."""
    for role, name in columns.items():
        if name not in (None, role):
            raise ValueError(f"{path.name}: no column names to choose {name!r} from")
    body = _read_text(path, "latin-1").replace(b"::", b"\t")
    names = ["user", "item", "rating", "time"]
    found = {name: name for name in names}
    return _parse(path.name, body, "\t", names, found, inferred=False, first_line=1)


_TABLE_READERS: dict[str, Callable[[Path, dict[str, str | None]], _Table]] = {
    ".csv": _read_delimited,
    ".tsv": _read_delimited,
    ".dat": _read_ratings_dat,
}


def _read_bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    # OSError covers a wrong gzip header, EOFError a truncated one; zlib has its own.
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name}: cannot be read ({error})") from error


def _read_text(path: Path, encoding: str) -> bytes:
    """Return a file as UTF-8, lines ending in one newline, none blank at the end."""
    raw = _read_bytes(path)
    if not raw or raw.isspace():
        raise ValueError(f"{path.name}: no rows")
    if b"\0" in raw:
        raise ValueError(f"{path.name}: not a text file (it has zero bytes)")
    if not raw.isascii():
        try:
            raw = raw.decode(encoding).encode()
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise ValueError(f"{path.name}:{line}: not {encoding} text") from error
    if b"\r" in raw:
        raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return raw.rstrip(b"\n") + b"\n"


def _find_columns(
    file: str, names: list[str], columns: dict[str, str | None]
) -> tuple[dict[str, str], bool]:
    """Return what the file calls each role, and whether that had to be inferred."""
    found = {}
    for role, asked in columns.items():
        by_default = asked in (None, role)
        candidates = [role, _GROUPLENS[role]] if by_default else [asked]
        name = next((name for name in candidates if name in names), None)
        if name is not None:
            if names.count(name) > 1:
                raise ValueError(f"{file}:1: column {name!r} is there twice")
            found[role] = name
        elif asked is not None:
            raise ValueError(_no_column(file, asked, names))
    if len(set(found.values())) < len(found):
        raise ValueError(f"{file}:1: one column has two uses (got {found})")
    inferred = any(name != columns[role] for role, name in found.items())
    return found, inferred


def _no_column(file: str, asked: str, names: list[str]) -> str:
    lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(asked.lower(), lower, n=1)
    hint = f"; did you mean {lower[near[0]]!r}?" if near else ""
    there = ", ".join(repr(name) for name in names[:20])
    return f"{file}:1: no column {asked!r} (there are {there}{hint})"


def _parse(
    file: str,
    body: bytes,
    delimiter: str,
    names: list[str],
    found: dict[str, str],
    inferred: bool,
    first_line: int,
) -> _Table:
    """Check the shape of the rows, then let pandas read the columns in use."""
    if not body.strip():
        raise ValueError(f"{file}: no rows")
    num_rows = _count_rows(file, body, delimiter, len(names), first_line)
    frame = _read_frame(file, body, delimiter, names, found)
    if len(frame) != num_rows:
        raise ValueError(f"{file}: {num_rows} rows read as {len(frame)}: bad quoting")

    def line_of(row: int) -> int:
        records = _records(file, body, delimiter, first_line)
        return next(line for i, (line, _) in enumerate(records) if i == row)

    return _Table(file, frame, found, inferred, line_of)


def _read_frame(
    file: str, body: bytes, delimiter: str, names: list[str], found: dict[str, str]
) -> pd.DataFrame:
    """Read ids as int64 where all are written as such, else as they are written."""
    position = {names.index(name): role for role, name in found.items()}
    order = sorted(position)

    def read(id_type: str | None, num_rows: int | None = None) -> pd.DataFrame:
        return pd.read_csv(
            io.BytesIO(body),
            sep=delimiter,
            header=None,
            usecols=order,
            names=[position[i] for i in order],
            dtype=id_type and {"user": id_type, "item": id_type},
            na_filter=False,
            low_memory=False,
            nrows=num_rows,
        )

    try:
        if not _has_padded_integer(body, delimiter):
            first = read("str", num_rows=1)[["user", "item"]].iloc[0]
            if all(_canonical_integer(text) is not None for text in first):
                # Asked for int64, pandas would take 2.0 and 1e3 as well.
                frame = read(None)
                if all(frame[role].dtype.kind == "i" for role in ("user", "item")):
                    return frame
        return read("str")
    except Exception as error:  # pandas fails in many ways on bad quoting
        raise ValueError(f"{file}: cannot be parsed ({_first_line(error)})") from error


def _has_padded_integer(body: bytes, delimiter: str) -> bool:
    """Tell whether a field starts like 007, which as an integer would become 7."""
    byte = np.frombuffer(b"\n" + body, dtype=np.uint8)
    step = 1 << 20  # small enough for the comparisons to stay in the cache
    for start in range(0, len(byte), step):
        part = byte[start : start + step + 2]
        opens = (part[:-2] == 10) | (part[:-2] == ord(delimiter)) | (part[:-2] == 34)
        digit = (part[2:] >= 48) & (part[2:] <= 57)
        if (opens & (part[1:-1] == 48) & digit).any():
            return True
    return False


def _count_rows(
    file: str, body: bytes, delimiter: str, num_fields: int, first_line: int
) -> int:
    """Return the number of rows once each has as many fields as there are names.

    pandas pads short rows and, reading some columns only, cuts long ones. Deleting all
    bytes but delimiters and line ends leaves a pattern that one comparison checks.
    """
    d = delimiter.encode()
    bare = body
    if b'"' in body:
        edge = re.escape(d) + rb"\n"
        quoted = rb'(?<![^%b])"(?:[^"]++|"")*+"(?=[%b])' % (edge, edge)
        bare = re.sub(quoted, b"", body)
    marks = bare.translate(None, bytes(set(range(256)) - {d[0], 10}))
    pattern = d * (num_fields - 1) + b"\n"
    num_rows = len(marks) // len(pattern)
    if b'"' not in bare and marks == pattern * num_rows:
        return num_rows
    num_rows = 0
    for line, fields in _records(file, body, delimiter, first_line):
        if len(fields) != num_fields:
            raise ValueError(
                f"{file}:{line}: {len(fields)} fields, expected {num_fields}"
            )
        num_rows += 1
    return num_rows


def _records(
    file: str, body: bytes, delimiter: str, first_line: int
) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and fields of each row, slowly and exactly."""
    lines = io.StringIO(body.decode(), newline="\n")
    reader = csv.reader(lines, delimiter=delimiter)
    line = first_line
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"{file}:{line}: {error}") from error
        if fields:
            yield line, fields
        line = first_line + reader.line_num


def _table_to_data(table: _Table) -> HeteroData:
    """Number the ids in their own order and check the numbers."""
    user, user_raw = _number_ids(table, "user")
    item, item_raw = _number_ids(table, "item")
    block = {"index": torch.from_numpy(np.stack([user, item]))}
    if "rating" in table.columns:
        block["rating"] = _ratings(table)
    if "time" in table.columns:
        block["time"] = _times(table)
    return _assemble(table.name, {"train": block}, user_raw, item_raw)


def _number_ids(table: _Table, role: str) -> tuple[np.ndarray, Tensor | list[str]]:
    """Return the row ``[N]`` of each id and the ids by row, ascending."""
    column = table.frame[role]
    if column.dtype.kind == "i":
        rows, ids = pd.factorize(column.to_numpy(), sort=True)
        return rows, torch.from_numpy(ids)
    codes, uniques = pd.factorize(column)
    texts = [str(text).strip() for text in uniques]
    if "" in texts:
        raise table.refuse(int(np.argmax(codes == texts.index(""))), role, "an id")
    integers = [_canonical_integer(text) for text in texts]
    if None in integers:
        row_of, names = pd.factorize(np.array(texts, dtype=object), sort=True)
        return row_of[codes], names.tolist()
    row_of, ids = pd.factorize(np.array(integers, dtype=np.int64), sort=True)
    return row_of[codes], torch.from_numpy(ids)


def _canonical_integer(text: str) -> int | None:
    """Return the int64 that is written exactly so: not 007, not +7, not 1e3."""
    if len(text) > 20 or not text.isascii() or not text.removeprefix("-").isdigit():
        return None
    value = int(text)
    return value if str(value) == text and -(2**63) <= value < 2**63 else None


def _ratings(table: _Table) -> Tensor:
    values = _finite(table, "rating", torch.finfo(torch.float32).max)
    return torch.from_numpy(values.astype(np.float32))


def _times(table: _Table) -> Tensor:
    column = table.frame["time"]
    if column.dtype.kind == "i":  # beyond 2 ** 53, floats would merge moments
        return torch.from_numpy(column.to_numpy(np.int64, copy=True))
    values = _finite(table, "time", 2.0**62)
    if (values != np.floor(values)).any():
        logger.warning("%s: fractions of a second are dropped", table.name)
    return torch.from_numpy(np.floor(values).astype(np.int64))


def _finite(table: _Table, role: str, largest: float) -> np.ndarray:
    """Return a column ``[N]`` as float64, or refuse its first value that is none."""
    column = table.frame[role]
    if column.dtype.kind == "b":
        raise table.refuse(0, role, "a number")
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    fits = np.abs(values) <= largest  # False for NaN
    if not fits.all():
        raise table.refuse(int(np.argmin(fits)), role, "a number")
    return values


def _say_assumptions(
    table: _Table, liked_from: float | None, ratios: Sequence[float], split: bool
) -> None:
    said = []
    if table.inferred:
        said.append("columns " + ", ".join(table.columns.values()))
    if split:
        how = "by time" if "time" in table.columns else "at random (no time column)"
        shares = "/".join(f"{100 * ratio:g}" for ratio in ratios)
        said.append(f"each user split {shares} % {how}")
        said.append(
            "every interaction counts as liked"
            if liked_from is None
            else f"ratings below {liked_from:g} count as false positives"
        )
    if said:
        logger.warning("%s: assumed %s", table.name, "; ".join(said))


# Folders that bring their own split.


def _read_npy_folder(path: Path) -> HeteroData:
    """Read {train,valid,test}_list.npy and, where present, labels.npz."""
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
    return _assemble(_name(path), blocks, *raw)


def _read_pairs(file: Path) -> np.ndarray:
    """Return the (user, item) pairs ``[n, 2]`` int64 of one file."""
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such file")
    try:
        # A memory map compares the header with the size of the file before it
        # allocates, and cannot unpickle.
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a broken header can raise nearly anything
        raise ValueError(
            f"{file.name}: not a plain .npy file ({_first_line(error)})"
        ) from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{file.name}: not a plain .npy file (an archive of several)")
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
    try:
        with np.load(file, allow_pickle=False) as archive:
            labels = dict(archive)
    except Exception as error:  # a broken archive can raise nearly anything
        raise ValueError(
            f"{file.name}: not a plain .npz file ({_first_line(error)})"
        ) from error
    for key, values in labels.items():
        kinds = "iuf" if key.endswith("_rating") else "iu"
        plain = isinstance(values, np.ndarray) and values.dtype.kind in kinds
        if not plain or values.ndim != 1:
            raise ValueError(f"{file.name}: {key!r} must be one row of numbers")
    return labels


def _label(path: Path, key: str, values: np.ndarray, num_pairs: int) -> Tensor:
    where = f"{_name(path)}/labels.npz: {key!r}"
    if len(values) != num_pairs:
        raise ValueError(f"{where} must have {num_pairs} values (got {len(values)})")
    if not np.isfinite(values).all():
        raise ValueError(f"{where} must be finite numbers")
    if key.endswith("_rating"):
        return torch.from_numpy(values.astype(np.float32))
    if key.endswith("_pos"):
        return torch.from_numpy(values.astype(np.int64))
    if not np.isin(values, (0, 1)).all():
        raise ValueError(f"{where} must be 0 or 1")
    return torch.from_numpy(values == 0)


def _raw_ids(path: Path, known: np.ndarray | None, nodes: list[Tensor]) -> Tensor:
    """Return the caller's id of each row ``[n]``; the row itself where none is known.

    Beside known ids an unknown one (0) becomes -1 - row: the row itself could be
    somebody else's id.
    """
    num_nodes = max((int(node.max()) + 1 for node in nodes if node.numel()), default=0)
    if known is None:
        return torch.arange(num_nodes)
    if len(known) < num_nodes:
        raise ValueError(
            f"{_name(path)}/labels.npz: {len(known)} raw ids, but ids up to "
            f"{num_nodes - 1} in the lists"
        )
    raw_id = torch.from_numpy(known.astype(np.int64))
    unknown = raw_id == 0
    if bool(unknown.any()):
        logger.warning(
            "%s: %d raw ids are unknown and read as -1 - row",
            _name(path),
            int(unknown.sum()),
        )
    return torch.where(unknown, -1 - torch.arange(len(raw_id)), raw_id)


def _read_lightgcn_folder(path: Path) -> HeteroData:
    """Read train.txt and test.txt, one user and its items per line."""
    blocks = {
        split: {"index": _read_adjacency(path / f"{split}.txt")}
        for split in ("train", "test")
    }
    nodes = [[block["index"][i] for block in blocks.values()] for i in (0, 1)]
    raw = [_raw_ids(path, None, of_type) for of_type in nodes]
    return _assemble(_name(path), blocks, *raw)


def _read_adjacency(file: Path) -> Tensor:
    """Return the pairs ``[2, E]`` of lines ``user item item …``."""
    users: list[bytes] = []
    items: list[bytes] = []
    counts: list[int] = []
    lines: list[int] = []
    for line, text in enumerate(_read_text(file, "utf-8").split(b"\n"), start=1):
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
    user = np.repeat(np.array(users, dtype=np.int64), counts)
    pairs = np.stack([user, np.array(items, dtype=np.int64)], axis=1)
    line_of_pair = np.repeat(np.array(lines, dtype=np.int64), counts)
    pairs = _check_ids(pairs, lambda row: f"{file.name}:{line_of_pair[row]}")
    return torch.from_numpy(pairs.T.copy())


_FOLDER_READERS: dict[str, Callable[[Path], HeteroData]] = {
    "train_list.npy": _read_npy_folder,
    "train.txt": _read_lightgcn_folder,
}


def _with_validation(path: Path, data: HeteroData, seed: int) -> HeteroData:
    if get_block(data, "val"):
        return data
    logger.warning(
        "%s: no validation file; a tenth of each user's train pairs is held out "
        "(seed %d)",
        _name(path),
        seed,
    )
    return HoldOutValidation(0.1, seed=seed)(data)


# What all formats share.


def _assemble(
    name: str,
    blocks: dict[str, dict[str, Tensor]],
    user_raw: Tensor | list[str],
    item_raw: Tensor | list[str],
) -> HeteroData:
    """Build the graph; a pair that is there twice stays where it came first."""
    index = torch.cat([block["index"] for block in blocks.values()], dim=1)
    repeated = pd.Series((index[0] * len(item_raw) + index[1]).numpy()).duplicated()
    if repeated.any():
        logger.warning(
            "%s: %d duplicate pairs (each kept once, the first)", name, repeated.sum()
        )
        fresh = torch.from_numpy(~repeated.to_numpy())
        sizes = [block["index"].size(1) for block in blocks.values()]
        masks = fresh.split(sizes)
        blocks = {
            split: select(block, mask)
            for (split, block), mask in zip(blocks.items(), masks, strict=True)
        }
    for split, block in blocks.items():
        if split != "val" and block["index"].size(1) == 0:
            raise ValueError(f"{name}: no rows for {split}")
    data = HeteroData()
    for node_type, raw_id in (("user", user_raw), ("item", item_raw)):
        data[node_type].num_nodes = len(raw_id)
        data[node_type].raw_id = raw_id
    for split, block in blocks.items():
        set_block(data, split, block)
    return data


def _report(name: str, data: HeteroData) -> None:
    """Say how many nodes a model cannot learn."""
    index = get_block(data, "train")["index"]
    for node_type, node, what in (
        ("user", index[0], "users have no train items"),
        ("item", index[1], "items are not in train"),
    ):
        degree = torch.bincount(node, minlength=data[node_type].num_nodes)
        missing = int((degree == 0).sum())
        if missing:
            logger.warning("%s: %d %s", name, missing, what)


def _name(folder: Path) -> str:
    return folder.resolve().name


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
