"""Which column has which role, by what the caller and the source call it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

# What stands in for a default column: GroupLens' name, then RecBole's.
_ALIASES = {
    "user": ("userId", "user_id"),
    "item": ("movieId", "item_id"),
    "rating": (),
    "time": ("timestamp",),
}

_TIME = re.compile(r"time|date|stamp|epoch|unix|(?:^|_)(?:at|ts|when)$")
_NO_TIME = re.compile(r"birth|born|releas|publi|expir")
"""Dates of a person or a thing, which say nothing of when it was taken."""
_RATING = re.compile(r"(?:^|_)(?:rat(?:e|ed|ing|ings)|stars?|scores?|grades?)$")
NUMBER = re.compile(r"\s*[+-]?[0-9]+(?:\.[0-9]*)?\s*")
_DATE = re.compile(r"\s*\d{4}-\d\d-\d\d(?:\D|$)")
_EPOCH = re.compile(r"1?\d{9}(?:\d{3}){0,3}(?:\.\d*)?")
"""Seconds since 1970 until 2033, or milli-, micro- or nanoseconds."""
_DATE_OTHERWISE = re.compile(r"\s*\d{1,4}[/.]\d{1,2}[/.]\d{1,4}(?:\D|$)")
_DIGIT = re.compile(r"\d")
_BETWEEN = re.compile(r"[\s,;|]+")
_LARGEST_STARS = 100

Columns = Mapping[str, str | Literal[False] | None]
"""What the caller calls the user, item, rating and time column.

None takes the usual name where there is one, False no column at all.
"""


def find_columns(
    where: str, names: Sequence[str], columns: Columns
) -> tuple[dict[str, str], list[str]]:
    """Return what the source calls each role, and which of that had to be inferred.

    Args:
        where: The place of the names, for messages.
        names: All columns of the source.
        columns: What the caller asks for.

    Raises:
        ValueError: A column is missing, there twice, or asked for twice.
    """
    column_of = {}
    for role, asked in columns.items():
        if asked is False:
            continue
        by_default = asked in (None, role)
        candidates = (role, *_ALIASES[role]) if by_default else (asked,)
        name = next((name for name in candidates if name in names), None)
        if name is not None:
            if list(names).count(name) > 1:
                raise ValueError(f"{where}: column {name!r} is there twice")
            column_of[role] = name
        elif asked is not None:
            raise ValueError(_no_column(where, role, asked, names))
    if len(set(column_of.values())) < len(column_of):
        raise ValueError(f"{where}: one column has two uses (got {column_of})")
    inferred = [name for role, name in column_of.items() if name != columns[role]]
    return column_of, inferred


def in_words(names: Sequence[str]) -> str:
    """Name columns: ``column time``, ``columns rating, time``."""
    return f"column{'s' * (len(names) > 1)} {', '.join(names)}"


def _no_column(where: str, role: str, asked: str, names: Sequence[str]) -> str:
    lower = {str(name).lower(): name for name in names}
    near = difflib.get_close_matches(asked.lower(), lower, n=1)
    hint = f"; did you mean {lower[near[0]]!r}?" if near else ""
    there = ", ".join(repr(name) for name in names[:20])
    return (
        f"{where}: no column {asked!r} (there are {there}{hint}); "
        f"--{role}, in Python {role}=, names the column to use"
    )


def hint_unused(
    samples: Mapping[str, Sequence[Any]], column_of: dict[str, str], columns: Columns
) -> list[str]:
    """Say which columns look useful and are not used. Nothing is decided by it.

    Args:
        samples: For each column its first values; none where they are not known.
        column_of: What the source calls each role.
        columns: What the caller asks for; of a role that is False nothing is said.

    Returns:
        A line for each hint.
    """
    free = [name for name in samples if name not in column_of.values()]
    texts = {name: [*map(str, samples[name])] for name in samples}

    def first(role: str, looks: Callable[[str, list[str]], bool]) -> list[str]:
        if role in column_of or columns[role] is False:
            return []
        return [n for n in free if texts[n] and looks(_snake(str(n)), texts[n])][:1]

    return [
        *(
            f"{name!r} looks like times: with --time {name}, in Python time=, DDRM "
            "learns what comes next"
            for name in first("time", _looks_like_times)
        ),
        *(
            f"{name!r} looks like times that are not read: written as 2018-07-31 22:09 "
            "and named by --time, in Python time=, DDRM learns what comes next"
            for name in first("time", _looks_like_other_dates)
        ),
        *(
            f"{name!r} looks like ratings: with --rating {name} and --liked-from, in "
            "Python rating= and liked_from=, low ones count as noise"
            for name in first("rating", _looks_like_ratings)
        ),
        *(
            f"{name!r} holds several ids in a cell ({_short(texts[name][0])}), each "
            "cell is read as one id: write a row for each"
            for name in [column_of["item"]]
            if _looks_like_lists(texts.get(name, []))
        ),
    ]


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _looks_like_times(name: str, values: list[str]) -> bool:
    if _NO_TIME.search(name):
        return False
    are_numbers = _TIME.search(name) and all(map(_EPOCH.fullmatch, values))
    return bool(are_numbers) or all(map(_DATE.match, values))


def _looks_like_other_dates(name: str, values: list[str]) -> bool:
    is_time = _TIME.search(name) and not _NO_TIME.search(name)
    return bool(is_time) and all(map(_DATE_OTHERWISE.match, values))


def _looks_like_ratings(name: str, values: list[str]) -> bool:
    if not _RATING.search(name) or not all(map(NUMBER.fullmatch, values)):
        return False
    numbers = {*map(float, values)}
    in_quarters = all((4 * number).is_integer() for number in numbers)
    return in_quarters and len(numbers) > 1 and max(numbers) <= _LARGEST_STARS


def _looks_like_lists(values: list[str]) -> bool:
    """Tell whether most cells hold several ids; those of titles have few digits."""
    cells = [_BETWEEN.split(value.strip()) for value in values]
    several = [c for c in cells if len(c) > 1 and all(map(_DIGIT.search, c))]
    return 2 * len(several) > len(cells)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
