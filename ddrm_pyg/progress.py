"""Progress bars, which one switch hides."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

HIDDEN: ContextVar[bool] = ContextVar("HIDDEN", default=False)
"""Whether all bars are hidden, whatever their callers ask for."""


def progress_bar(
    iterable: Iterable[Any] | None = None,
    *,
    progress: bool | None = None,
    **options: Any,
) -> tqdm:
    """Make a progress bar.

    Args:
        iterable: What to go through, if anything.
        progress: Show it; on a terminal only if None.
        **options: Of ``tqdm.tqdm``.
    """
    hidden = HIDDEN.get() or progress is False
    disable = True if hidden else (None if progress is None else False)
    return tqdm(iterable, disable=disable, **options)


def on_terminal(progress: bool) -> bool | None:
    """Turn a caller's switch into that of a bar which is shown on a terminal only."""
    return None if progress else False
