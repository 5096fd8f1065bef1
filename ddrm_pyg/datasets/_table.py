"""Interactions as rows that stream in: found columns, checked numbers, numbered ids."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import count
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.datasets._graph import RawIds, build_graph, widen
from ddrm_pyg.transforms.core import empty

logger = logging.getLogger("ddrm_pyg")

_LARGEST_TIME = 2.0**62
_LARGEST_RATING = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class Coded:
    """Ids of a column, each distinct one once: Python makes no object per row.

    Attributes:
        code: ``[n]`` integers, the place of each row's id.
        texts: The distinct ones.
    """

    code: np.ndarray
    texts: list[Any]

    def __getitem__(self, row: int) -> Any:
        return self.texts[self.code[row]]

    def __len__(self) -> int:
        return len(self.code)


class Table:
    """Rows of users, items and, where known, ratings and times.

    Only codes and numbers are kept: 8 bytes for the two ids of a row (16 for integers
    beyond 32 bits), 4 for its rating and 8 for its time, and each text once.

    Args:
        name: Name of the source, for messages.
        column_of: What the source calls each role, see :func:`find_columns`.
        inferred: Columns that are used without being asked for by name.
        typed: Whether the source tells the number 5 from the text "5".
        hints: What the first rows say of columns that are not used, a line each.
    """

    def __init__(
        self,
        name: str,
        column_of: dict[str, str],
        inferred: Sequence[str],
        *,
        typed: bool = True,
        hints: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.column_of = column_of
        self.inferred = inferred
        self.hints = hints
        self._typed = typed
        self._ids = {role: _Ids() for role in ("user", "item")}
        self._ratings = _Parts()
        self._times = _Times()

    def append(
        self, columns: Mapping[str, np.ndarray | Coded], where: Callable[[int], str]
    ) -> None:
        """Add rows.

        Args:
            columns: For each found role its values ``[n]``: numbers, moments, or
                objects as they stand in the source; ids may be coded.
            where: The place of a row, counted from 0, as people know it.

        Raises:
            ValueError: A value is refused; the message says where it is.
        """
        for role, values in columns.items():
            try:
                if role in self._ids:
                    self._ids[role].append(values)
                elif isinstance(values, Coded):
                    raise TypeError(f"only ids may be coded (got {role!r})")
                elif role == "rating":
                    self._ratings.append(_ratings(values))
                else:
                    self._times.append(values)
            except _RefusedError as refused:
                without = (
                    f"; --no-{role}, in Python {role}=False, reads without it"
                    if role in ("rating", "time")
                    else ""
                )
                raise ValueError(
                    f"{where(refused.row)}: column {self.column_of[role]!r} is "
                    f"{str(values[refused.row])[:80]!r}, expected {refused.expected}"
                    f"{without}"
                ) from None

    def to_data(self, *, narrow: bool = False) -> HeteroData:
        """Number the ids in their own order and build the graph, once.

        Args:
            narrow: Leave ``edge_index`` as int32: half the memory, for those who split
                it or widen it themselves.

        Returns:
            Unsplit interactions, in the order of the source.

        Raises:
            ValueError: There are no rows, or an id is both a number and a text.
        """
        if self._typed:
            for role, ids in self._ids.items():
                both = ids.number_and_text()
                if both is not None:
                    raise ValueError(
                        f"{self.name}: column {self.column_of[role]!r} has the number "
                        f"{both} and the text {str(both)!r}; write one id in one way"
                    )
        raw: dict[str, RawIds] = {}
        index = empty((2, len(self._ids["user"])), torch.int32)
        if not index.numel():
            raise ValueError(f"{self.name}: no rows")
        for row, (role, ids) in enumerate(self._ids.items()):
            raw[role] = ids.numbered(index[row].numpy())
        block = {"index": index}
        del index  # the block is used up
        if "rating" in self.column_of:
            ratings = _joined(self._ratings.take(), np.float32)
            block["rating"] = torch.from_numpy(ratings)
        if "time" in self.column_of:
            block["time"] = self._times.joined(self.name)
        data = build_graph(self.name, {"train": block}, raw["user"], raw["item"])
        if not narrow:
            widen(data)
        return data


def check_column(
    role: Literal["rating", "time"], name: str, values: np.ndarray
) -> Tensor:
    """Return the ratings or times of what is no table, as a table has them.

    Args:
        role: What they are.
        name: What they are called, for messages.
        values: ``[n]``.

    Returns:
        ``[n]`` float32 for ratings, int64 or float64 for times.

    Raises:
        ValueError: A value is refused; the message says where it is.
    """
    if not len(values):
        return torch.from_numpy(values)
    try:
        if role == "rating":
            return torch.from_numpy(_ratings(values))
        times = _Times()
        times.append(values)
    except _RefusedError as refused:
        raise ValueError(
            f"{name}: value {refused.row} is {values[refused.row]}, expected "
            f"{refused.expected}"
        ) from None
    return times.joined(name)


class _RefusedError(Exception):
    """The value of a row is not what was expected."""

    def __init__(self, row: int, expected: str) -> None:
        self.row = row
        self.expected = expected


class _Parts:
    """Arrays one after the other, those of one type in one growing piece.

    Many small ones would be joined by a copy, and the system would get them back late.
    """

    def __init__(self) -> None:
        self._pieces: list[np.ndarray] = []
        self._used = 0  # of the last piece

    def __len__(self) -> int:
        return sum(map(len, self._pieces[:-1])) + self._used

    def append(self, values: np.ndarray) -> None:
        """Add values ``[n]`` of any type."""
        if not self._pieces or self._pieces[-1].dtype != values.dtype:
            self._trim()
            self._pieces.append(np.empty(0, values.dtype))
            self._used = 0
        piece, stop = self._pieces[-1], self._used + len(values)
        if stop > len(piece):
            piece.resize(stop + stop // 8, refcheck=False)
        piece[self._used : stop] = values
        self._used = stop

    def take(self) -> list[np.ndarray]:
        """Return the pieces, and keep none."""
        self._trim()
        pieces, self._pieces, self._used = self._pieces, [], 0
        return pieces

    def _trim(self) -> None:
        if self._pieces:
            self._pieces[-1].resize(self._used, refcheck=False)


def _joined(pieces: list[np.ndarray], dtype: Any) -> np.ndarray:
    """Join pieces as one type; a single one of that type is not copied."""
    if len(pieces) == 1:
        return pieces[0].astype(dtype, copy=False)
    return np.concatenate(pieces, dtype=dtype)


class _Ids:
    """The ids of one column: integers as they are, texts numbered as they come."""

    def __init__(self) -> None:
        self._integers = _Parts()  # as they are, until a text comes
        self._code_of: dict[int | str, int] = defaultdict(count().__next__)
        self._codes = _Parts()

    def __len__(self) -> int:
        return len(self._integers) or len(self._codes)

    def append(self, values: np.ndarray | Coded) -> None:
        """Number some values ``[n]``, integers or texts.

        Raises:
            _RefusedError: A value is neither, or an empty text.
        """
        if isinstance(values, Coded):
            coded = values
        elif values.dtype.kind == "O":
            _check_types(values, (str, int), "an id")
            coded = _coded(values)
        elif values.dtype.kind not in "iu":
            raise _RefusedError(0, "an id (an integer or a text)")
        elif not self._codes and values.dtype != np.uint64:
            within = np.iinfo(np.int32)
            small = (
                len(values) and within.min <= values.min() <= values.max() < within.max
            )
            self._integers.append(values.astype(np.int32 if small else np.int64))
            return
        else:
            coded = _coded(values)
        for block in (*map(_coded, self._integers.take()), coded):
            self._number(block)

    def _number(self, values: Coded) -> None:
        names, num_before = values.texts, len(self._code_of)
        code_of = map(self._code_of.__getitem__, names)
        code = np.fromiter(code_of, dtype=np.int32, count=len(names))
        new = (code >= num_before).nonzero()[0]
        no_id = [place for place in new.tolist() if not _is_id(names[place])]
        if no_id:
            raise _RefusedError(int(np.isin(values.code, no_id).argmax()), "an id")
        self._codes.append(code[values.code])

    def number_and_text(self) -> int | None:
        """Return an integer whose digits are an id of their own, if there is one."""
        names = self._code_of
        both = (n for n in names if isinstance(n, int) and str(n) in names)
        return next(both, None)

    def numbered(self, rows: np.ndarray) -> RawIds:
        """Return the ids by row, ascending.

        Ids are integers only where all are written as integers are.

        Args:
            rows: ``[N]`` int32, what the row of each value is written to.
        """
        if self._integers:
            pieces = self._integers.take()
            rows[:], values = _rank(_joined(pieces, np.result_type(*pieces)))
            return torch.from_numpy(values)
        codes = _joined(self._codes.take(), np.int32)
        names = [*self._code_of]
        self._code_of.clear()
        if all(_canonical_integer(name) is not None for name in names):
            row_of, ids = pd.factorize(
                np.array([*map(int, names)], dtype=np.int64), sort=True
            )
            raw: RawIds = torch.from_numpy(ids)
        else:
            row_of, raw = _sorted_once([*map(str, names)])
        row_of.astype(np.int32).take(codes, out=rows, mode="clip")  # "raise" would copy
        return raw


def _sorted_once(texts: list[str]) -> tuple[np.ndarray, list[str]]:
    """Return the rank ``[n]`` of each text, and the texts, ascending, each once."""
    rank = np.empty(len(texts), dtype=np.int32)
    once: list[str] = []
    for place in sorted(range(len(texts)), key=texts.__getitem__):
        if not once or once[-1] != texts[place]:
            once.append(texts[place])
        rank[place] = len(once) - 1
    return rank, once


def _coded(values: np.ndarray) -> Coded:
    """Code integers or objects ``[n]``."""
    code, distinct = pd.factorize(values)
    return Coded(code, distinct.tolist())


def _rank(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rank ``[N]`` of each integer, and the integers, ascending, each once.

    Integers that lie close together are ticked off, in half the time of a hash table.
    """
    low = int(values.min())
    span = int(values.max()) - low + 1
    if span > len(values):
        rank, once = pd.factorize(values, sort=True)
        return rank, once.astype(np.int64, copy=False)
    place = values - low
    is_there = np.zeros(span, dtype=bool)
    is_there[place] = True
    rank_of = is_there.cumsum(dtype=np.int32) - 1
    return rank_of.take(place, mode="clip"), is_there.nonzero()[0] + low


class _Times:
    """The times of one column, at the precision in which they come.

    Numbers stay what they are. Dates are whole seconds since 1970 or, where one of them
    has a fraction, whole milli-, micro- or nanoseconds: the coarsest that is exact.
    """

    def __init__(self) -> None:
        self._parts = _Parts()
        self._are_dates: bool | None = None

    def append(self, values: np.ndarray) -> None:
        """Add some values ``[n]``: numbers or moments, or objects that stand for them.

        Raises:
            _RefusedError: A value is neither, or the other one than before.
        """
        if self._are_dates is None:  # the first one decides for all
            self._are_dates = _is_date(values[0])
        if not self._are_dates:
            self._parts.append(_numbers(values))
            return
        moments = values if values.dtype.kind == "M" else _dates(values)
        unknown = np.isnat(moments)
        if unknown.any():
            raise _RefusedError(int(unknown.argmax()), "a time")
        self._parts.append(_coarsest(moments))

    def joined(self, name: str) -> Tensor:
        """Return all times ``[N]``: int64, or float64 where numbers have fractions.

        Args:
            name: Name of the source, for messages.

        Raises:
            ValueError: No unit, or no type of number, holds all of them exactly.
        """
        parts = self._parts.take()
        common = np.result_type(*parts)
        if not all(_is_exact(part, common) for part in parts):
            raise ValueError(
                f"{name}: times cannot be put in order exactly, as some have fractions "
                f"of a second and others are too large for {common}"
            )
        times = _joined(parts, common)
        return torch.from_numpy(times.view(np.int64) if self._are_dates else times)


def _is_id(name: int | str) -> bool:
    """Tell whether a text is not blank and can be written.

    JSON may hold half of a character.
    """
    if isinstance(name, int):
        return True
    try:
        return bool(name.strip()) and (name.isascii() or bool(name.encode()))
    except UnicodeEncodeError:
        return False


def _canonical_integer(name: int | str) -> int | None:
    """Return the int64 that is written exactly so: not 007, not +7, not 1e3."""
    if isinstance(name, str):
        if len(name) > 20 or not name.isascii() or not name.removeprefix("-").isdigit():
            return None
        value = int(name)
        if str(value) != name:
            return None
    else:
        value = name
    return value if -(2**63) <= value < 2**63 else None


def _check_types(values: np.ndarray, types: tuple[type, ...], expected: str) -> None:
    """Refuse the first object that is of none of these types; True is no integer."""
    if not set(map(type, values)) <= set(types):
        bad = next(row for row, value in enumerate(values) if type(value) not in types)
        raise _RefusedError(bad, expected)


def _finite(values: np.ndarray, largest: float, expected: str) -> np.ndarray:
    """Return numbers ``[n]`` as float64, or refuse the first that is none."""
    if values.dtype.kind == "O":
        _check_types(values, (str, int, float), expected)
        for row, value in enumerate(values):
            if type(value) is int and abs(value) > largest:  # may be no float at all
                raise _RefusedError(row, expected)
        values = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(np.float64)
    elif values.dtype.kind not in "iuf":
        raise _RefusedError(0, expected)
    numbers = values.astype(np.float64, copy=False)
    fits = np.abs(numbers) <= largest  # False for NaN
    if not fits.all():
        raise _RefusedError(int(np.argmin(fits)), expected)
    return numbers


def _ratings(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "iu":  # whose integers are all within the limit
        values = _finite(values, _LARGEST_RATING, "a number")
    return values.astype(np.float64, copy=False).astype(np.float32)


def _numbers(values: np.ndarray) -> np.ndarray:
    """Return times ``[n]`` as int64 where all are whole, otherwise as float64."""
    if values.dtype.kind == "O":
        whole = [
            _canonical_integer(v) if type(v) in (int, str) else None for v in values
        ]
        if None not in whole:
            values = np.array(whole, dtype=np.int64)
    # beyond 2 ** 53, floats would merge moments
    if values.dtype.kind in "iu" and values.max() <= _LARGEST_TIME:
        return values.astype(np.int64, copy=False)
    numbers = _finite(values, _LARGEST_TIME, "a number")
    integers = numbers.astype(np.int64)
    return integers if (integers == numbers).all() else numbers


def _is_date(value: Any) -> bool:
    """Tell whether a time is a date, or text that cannot be a number."""
    if isinstance(value, date | np.datetime64):
        return True
    return bool(pd.isna(pd.to_numeric(pd.Series([value]), errors="coerce")).all())


def _dates(values: np.ndarray) -> np.ndarray:
    """Return dates, or texts in ISO 8601, ``[n]`` as moments, unknown where they fail.

    What names no time zone is read as UTC.
    """
    expected = "a number of seconds, or a date like 2018-07-07 22:09:11"
    series = pd.Series(values, dtype=object)
    texts = isinstance(series.iloc[0], str)
    kinds = str if texts else (date, np.datetime64)
    good = np.array([isinstance(value, kinds) for value in series])
    moments = pd.to_datetime(
        series.where(good), format="ISO8601", errors="coerce", utc=True
    )
    good &= moments.notna()
    if texts:  # pandas also takes the words "now" and "today"
        good &= series.str.match(r"\s*\d{4}-\d\d-\d\d").fillna(False).to_numpy(bool)
    if not good.all():
        raise _RefusedError(int(np.argmin(good)), expected)
    return moments.dt.tz_localize(None).to_numpy()


def _coarsest(moments: np.ndarray) -> np.ndarray:
    """Return moments ``[n]`` in seconds, or in the coarsest unit that is exact."""
    units = (moments.astype(f"datetime64[{unit}]") for unit in ("s", "ms", "us"))
    return next((coarse for coarse in units if (coarse == moments).all()), moments)


def _is_exact(values: np.ndarray, dtype: np.dtype) -> bool:
    """Tell whether values stay what they are in another type."""
    return values.dtype == dtype or bool(
        (values.astype(dtype).astype(values.dtype) == values).all()
    )


def objects(values: Sequence[Any]) -> np.ndarray:
    """Return any values as an array of objects ``[n]``, lists among them included."""
    return np.fromiter(values, dtype=object, count=len(values))
