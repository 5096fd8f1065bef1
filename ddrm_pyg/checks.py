"""Checks of arguments: what is refused is named, with the rule and the value."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable
from numbers import Integral
from pathlib import Path
from typing import Any

MAX_NUMBER = 3.4e38
"""Where float32, in which everything is computed, ends."""

MAX_SIZE = 1 << 20
"""More than any width, depth or number of steps that is meant."""


MAX_PADDED = 1000
"""Longest list of a catalogue with fewer items."""


def check_at_least(low: float, **values: float) -> None:
    """Refuse numbers below a bound, NaN and what float32 cannot hold, by name."""
    for name, value in values.items():
        if not value >= low:
            raise ValueError(f"'{name}' must be >= {low} (got {value})")
        _check_finite(name, value)


def check_positive(**values: float) -> None:
    """Refuse numbers that are not above 0 or that float32 cannot hold, by name."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"'{name}' must be positive (got {value})")
        _check_finite(name, value)


def check_share(**values: float) -> None:
    """Refuse numbers outside [0, 1], by name."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"'{name}' must lie in [0, 1] (got {value})")


def check_size(low: int, **values: int) -> None:
    """Refuse what is no width, depth or number of steps, by name.

    Raises:
        ValueError: Not a whole number from ``low`` to :data:`MAX_SIZE`.
    """
    for name, value in values.items():
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise ValueError(f"'{name}' must be an integer (got {value!r})")
        if value < low:
            raise ValueError(f"'{name}' must be >= {low} (got {value})")
        if value > MAX_SIZE:
            raise ValueError(f"'{name}' must be <= {MAX_SIZE} (got {value})")


def check_list_length(k: int, num_items: int) -> None:
    """Refuse lists far longer than the catalogue, before they are written out.

    Raises:
        ValueError: ``k`` above the number of items and above :data:`MAX_PADDED`.
    """
    if k > max(num_items, MAX_PADDED):
        raise ValueError(f"'k' must be <= {num_items}, the number of items (got {k})")


def check_among(choices: Collection[Any], **values: str) -> None:
    """Refuse unknown words, by name, with the nearest right one."""
    for name, value in values.items():
        if value not in choices:
            raise ValueError(
                f"'{name}' must be one of {sorted(choices)} "
                f"(got '{value}'){nearest(value, choices)}"
            )


def nearest(word: str, choices: Iterable[str]) -> str:
    """Suggest what was probably meant, as the end of a message; empty if nothing."""
    close = difflib.get_close_matches(str(word), map(str, choices), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def nearest_path(path: str | os.PathLike[str]) -> str:
    """Suggest what beside a missing file was probably meant; empty if nothing."""
    name, folder = Path(path).name, Path(path).parent
    try:
        beside = [other.name for other in folder.iterdir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(name, beside, n=1)
    return f"; did you mean '{folder / close[0]}'?" if close else ""


def _check_finite(name: str, value: float) -> None:
    if value > MAX_NUMBER:
        raise ValueError(
            f"'{name}' must be finite in float32, <= {MAX_NUMBER:g} (got {value})"
        )
