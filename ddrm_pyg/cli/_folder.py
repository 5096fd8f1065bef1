"""Folders that commands write results to: whose they are, and never two in one."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ddrm_pyg.experiments.runner import CELLS
from ddrm_pyg.files import held, read_json, remove_abandoned, write_json

logger = logging.getLogger("ddrm_pyg")

CONFIG = "config.json"
"""Written first: says what a folder holds the results of."""


def claim(
    out: Path,
    config: dict[str, Any],
    *,
    finished: str | None = None,
    overwrite: bool = False,
    option: str = "--out",
) -> None:
    """Continue what a folder holds if it is this very thing; never mix two.

    Args:
        out: The folder.
        config: What is about to be run.
        finished: File that makes the folder complete; None where a command never
            replaces what another run left.
        overwrite: Replace it.
        option: What the folder was given by.

    Raises:
        ValueError: ``out`` holds something else.
    """
    config = json.loads(json.dumps(config))  # tuples become lists, as in the file
    if out.exists() and not out.is_dir():
        raise ValueError(f"'{option}' must be a new folder or a run's (got {out})")
    out.mkdir(parents=True, exist_ok=True)
    with held(out, wait=True):  # of two that claim it, one comes second
        _claim(out, config, finished, overwrite, option)


def _claim(
    out: Path,
    config: dict[str, Any],
    finished: str | None,
    overwrite: bool,
    option: str,
) -> None:
    remove_abandoned(out)
    existing = read_config(out, config.keys())
    if existing == config:
        logger.info("continuing in %s", out)
        return
    if existing is None:
        if any(out.iterdir()):
            raise ValueError(f"'{option}' must be a new folder or a run's (got {out})")
    elif finished is None or not overwrite:
        advice = "; give --overwrite to replace it" if finished else ""
        raise ValueError(
            f"'{option}' must be new or hold this very run (got {out}, which holds "
            f"another: {_difference(existing, config)}{advice})"
        )
    else:
        (out / finished).unlink(missing_ok=True)  # first: the rest is no run now
        shutil.rmtree(out / CELLS, ignore_errors=True)
    write_json(out / CONFIG, config)


def read_config(folder: Path, keys: Any) -> dict[str, Any] | None:
    """Read what a folder holds; None if it is no folder of such a config."""
    try:
        config = read_json(folder / CONFIG)
    except (OSError, ValueError):
        return None
    return config if config.keys() == set(keys) else None


def _difference(existing: dict[str, Any], config: dict[str, Any]) -> str:
    """Name the first setting in which two runs differ."""
    old, new = dict(_flat(existing)), dict(_flat(config))
    name = next(key for key in old | new if old.get(key, "") != new.get(key, ""))
    if name == "fingerprint":
        return "the interactions were others"
    return f"{name} was {old.get(name)} and is {new.get(name)}"


def _flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
