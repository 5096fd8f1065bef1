"""Loggers below ``ddrm_pyg`` that are silenced by themselves, and a way to do so."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

ASSUMED = logging.getLogger("ddrm_pyg.assumed")
"""Warns of what was assumed about data that were read; silent with ``-q``."""

UNSELECTED = logging.getLogger("ddrm_pyg.unselected")
"""Warns of a training without validation, whose last epoch is kept."""


@contextmanager
def hushed(logger: logging.Logger) -> Iterator[None]:
    """Let a logger say errors alone, where the rest is said elsewhere.

    Args:
        logger: That of the package, with all below it, or one of these.
    """
    level = logger.level
    logger.setLevel(max(level, logging.ERROR))
    try:
        yield
    finally:
        logger.setLevel(level)
