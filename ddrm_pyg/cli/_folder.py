"""Folders that commands write results to: whose they are, and never two in one."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddrm_pyg.checks import nearest, nearest_path
from ddrm_pyg.experiments.cells import CELLS, Cell, Sketch, cell_from_record, rows_for
from ddrm_pyg.experiments.sources import Source
from ddrm_pyg.files import held, read_json, remove_abandoned, undamaged, write_json

logger = logging.getLogger("ddrm_pyg")

CONFIG = "config.json"
"""Written first: says what a folder holds the results of."""


FINISHED = "metrics.json"
"""Written last by a run: a folder that has it is complete."""

HELD = ("winner", "with_vectors")
"""What a finished run says of its files: the row whose lists they hold, which is best
on validation, and the row whose vectors; the same, unless the best has none."""

EMBEDDINGS = "embeddings.safetensors"
"""Vectors of a run."""

KEYS = ("source", "fingerprint", "backend", "denoise")
"""What the config of a run says."""

NOT_OURS = ("not what a finished run writes", "the same command writes it again")
"""What is wrong with a damaged file of a run, and what to do."""


def check_free(
    out: Path,
    keys: Iterable[str],
    option: str = "--out",
    *,
    source: Source | None = None,
    overwrite: bool = False,
) -> None:
    """Refuse, before anything is loaded, a folder that holds something else.

    Args:
        out: The folder.
        keys: What the config of a run of this kind says.
        option: What the folder was given by.
        source: Where the data of the run come from; None where that is not told.
        overwrite: Whether what another run left is replaced.

    Raises:
        ValueError: It is a file, or holds what is no such run, or of other data.
    """
    if out.is_dir():
        remove_abandoned(out)
    existing = read_config(out, set(keys))
    is_new = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if not is_new and existing is None:
        raise ValueError(f"'{option}' must be a new folder or a run's (got {out})")
    if existing and source and not overwrite:
        config = {**existing, "source": _as_read(source.located().record())}
        if config != existing:
            raise ValueError(_holds_another(out, existing, config, option))


def _as_read(config: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(config))  # tuples become lists, as in the file


def _holds_another(
    out: Path,
    existing: dict[str, Any],
    config: dict[str, Any],
    option: str,
    advice: str = "; give --overwrite to replace it",
) -> str:
    return (
        f"'{option}' must be new or hold this very run (got {out}, which holds "
        f"another: {_difference(existing, config)}{advice})"
    )


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
    config = _as_read(config)
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
        advice = [] if finished else [""]  # where nothing is ever replaced
        raise ValueError(_holds_another(out, existing, config, option, *advice))
    else:
        (out / finished).unlink(missing_ok=True)  # first: the rest is no run now
        shutil.rmtree(out / CELLS, ignore_errors=True)
    write_json(out / CONFIG, config)


def read_run_config(folder: Path) -> dict[str, Any]:
    """Read what ``run`` or ``denoise`` said of a folder of theirs.

    Raises:
        ValueError: It is no such folder.
    """
    config = read_config(folder, KEYS)
    if config is None:
        meant = "" if folder.exists() else nearest_path(folder)
        raise ValueError(
            f"{folder}: not the folder of a run (no {CONFIG} of one){meant}"
        )
    return config


@dataclass(frozen=True)
class RunRecord:
    """What a finished run says of itself.

    Attributes:
        folder: Where it is.
        source: Where its data come from.
        fingerprint: Of those.
        cells: Name of each row of its table to its cell.
        winner: The row that won on validation: its lists are in the folder.
        with_vectors: The row whose vectors are in the folder.
        hashes: SHA-256 of files of the folder, by name; empty of older runs.
    """

    folder: Path
    source: Source
    fingerprint: str
    cells: dict[str, Cell]
    winner: str
    with_vectors: str
    hashes: Mapping[str, str]

    def cell(self, row: str) -> Cell:
        """The cell of a row.

        Raises:
            ValueError: The run has no such row.
        """
        if row not in self.cells:
            raise ValueError(
                f"'--row' must be one of {', '.join(map(repr, self.cells))} "
                f"(got '{row}'{nearest(row, self.cells)})"
            )
        return self.cells[row]

    def check_row(self, row: str, purpose: str, why_not: Callable[[Cell], str]) -> None:
        """Refuse a row that cannot do what is asked for.

        Args:
            row: Its name.
            purpose: The option or command that asks.
            why_not: Says why a row's cell cannot; nothing if it can.

        Raises:
            ValueError: No such row, or it cannot.
        """
        if reason := why_not(self.cell(row)):
            able = [repr(n) for n, cell in self.cells.items() if not why_not(cell)]
            raise ValueError(
                f"{purpose} works with the rows {', '.join(able)} of this run "
                f"(got '{row}': {reason})"
            )


def read_run(folder: Path, kind: type[Cell] = Sketch) -> RunRecord:
    """Read what a finished run says of itself, without its data or vectors.

    Args:
        folder: Where it is.
        kind: What its rows are made as, see
            :func:`ddrm_pyg.experiments.cells.rows_for`.

    Raises:
        ValueError: No such folder, an unfinished or a damaged run.
    """
    config = read_run_config(folder)
    record = {}
    if (folder / FINISHED).exists():
        with undamaged(folder / FINISHED, *NOT_OURS):
            record = read_json(folder / FINISHED)
    if not record.keys() >= set(HELD):
        raise ValueError(
            f"{folder}: the run must be finished (no {FINISHED} of this version); the "
            "same command goes on with it"
        )
    with undamaged(folder / CONFIG, "not what a run writes", "--overwrite the run"):
        kept = config["source"]
        source = Source(**{**kept, "ratios": tuple(kept["ratios"])})
        backend, last = (
            record and cell_from_record(record)
            for record in (config["backend"], config["denoise"])
        )
        cells = rows_for(backend, last, kind)
    with undamaged(folder / FINISHED, *NOT_OURS):
        measured = {row["name"]: cells[row["name"]] for row in record["rows"]}
        held = {name: record[name] for name in HELD}
        hashes = dict(record.get("hashes", {}))
        if not {*held.values()} <= measured.keys():
            raise ValueError("it holds rows that it has not")
    fingerprint = config["fingerprint"]
    return RunRecord(folder, source, fingerprint, measured, **held, hashes=hashes)


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
