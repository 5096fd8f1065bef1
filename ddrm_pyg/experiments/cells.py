"""Cells: the rows of an experiment, before they are run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ddrm_pyg.experiments.methods import find, yardsticks

CELLS = "cells"
"""Where the commands keep cells, in the folder of their results."""


@dataclass(frozen=True)
class Cell:
    """One row of a table, before it is run.

    A cell is complete from its birth: its method writes out every setting that is left
    to a default (see :class:`ddrm_pyg.experiments.arguments.Arguments`), so that a cell
    tells what is run whatever the defaults become, and its hash is its name.

    Attributes:
        method: A key of :data:`ddrm_pyg.experiments.methods.METHODS`.
        seed: Seed of initial weights and training; None for closed forms.
        model: Constructor arguments of the method; of the backend, where a method
            cleans a backend's training.
        fit: Arguments of :func:`ddrm_pyg.fit`.
        base: The cell whose embeddings or weights this one starts from.
        clean: Settings of what cleans a backend's training (``+t-ce``, ...).

    Raises:
        ValueError: There is no such method, or a setting is out of its range.
    """

    method: str
    seed: int | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)
    base: Cell | None = None
    clean: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts = find(self.method).complete(self.model, self.fit, self.clean)
        for name, settings in parts.items():
            object.__setattr__(self, name, settings)


class Sketch(Cell):
    """A cell whose defaults are not written out: it tells what it is without torch."""

    def __post_init__(self) -> None:
        """Leave the settings as they are."""


def cell_from_record(record: Mapping[str, Any]) -> Cell:
    """Rebuild a cell from ``dataclasses.asdict``, as JSON keeps it.

    It stays as it was written: a default that came later is none of its own.
    """
    cell = object.__new__(Cell)
    base = record["base"] and cell_from_record(record["base"])
    for name, value in {**record, "base": base}.items():
        object.__setattr__(cell, name, value)
    return cell


def chain(cell: Cell) -> list[Cell]:
    """A cell and all that it starts from."""
    return [cell, *(chain(cell.base) if cell.base else [])]


def starts_from_past(cell: Cell) -> bool:
    """Whether a cell is a DDRM trained to generate what comes next."""
    return cell.method == "ddrm" and cell.model.get("train_start") == "past"


def is_order_aware(cell: Cell) -> bool:
    """Whether a cell, or anything that it starts from, reads the order of interactions.

    Rows that do and rows that do not are never compared: the order is information that
    the others lack.
    """
    return any(
        find(link.method).order_aware or starts_from_past(link) or _fades(link)
        for link in chain(cell)
    )


def _fades(cell: Cell) -> bool:
    """Whether a cell weighs histories by recency."""
    history = cell.model.get("history")
    return history is not None and history["kind"] == "recency"


def why_no_vectors(cell: Cell) -> str:
    """Say why a row has no vectors; nothing if it has."""
    is_yardstick = find(cell.method).role == "yardstick"
    return "it has no vectors" if is_yardstick else ""


def why_not_folded_in(cell: Cell) -> str:
    """Say why a new user's history mean, or DDRM of it, does not rank by a row."""
    if reason := why_no_vectors(cell):
        return reason
    if is_order_aware(cell):
        return "it needs the order of histories"
    if any(link.model.get("history") for link in chain(cell)):
        return "it weighs histories"
    return ""


def why_not_new(cell: Cell) -> str:
    """Say why a row cannot rank for new users by their histories; nothing if it can."""
    reads_order = cell.method == "recent_mean" or cell.base is None
    if reads_order and is_order_aware(cell):
        return why_no_vectors(cell)
    return why_not_exported(cell)


def why_not_exported(cell: Cell) -> str:
    """Say why a row cannot be exported; nothing if it can."""
    return "" if starts_from_past(cell) else why_not_folded_in(cell)


def seed_of(cell: Cell) -> int | None:
    """The seed of a cell, or of what it starts from; None where nothing is trained."""
    return next((c.seed for c in chain(cell) if c.seed is not None), None)


def rows_for(
    backend: Cell, last: Cell | None = None, kind: type[Cell] = Cell
) -> dict[str, Cell]:
    """List the cells of the main job.

    Args:
        backend: A backend or given embeddings.
        last: What denoises: DDRM with ``backend`` as its base, or the backend trained
            on cleaner data; nothing if None.
        kind: What the other rows are made as; :class:`Sketch` only tells what they are.

    Returns:
        Row name to cell, in the order of the table: what does not read the order of
        interactions first. Yardsticks that do are there where DDRM or the backend does.
    """
    names = yardsticks()
    if is_order_aware(last or backend):
        names += yardsticks(order_aware=True)
    rows = {name: kind(name) for name in names}
    rows |= _uses_of(backend, kind) | _denoised_uses(backend, last, kind)
    return dict(sorted(rows.items(), key=lambda row: is_order_aware(row[1])))


def _uses_of(backend: Cell, kind: type[Cell]) -> dict[str, Cell]:
    combine = {"combine": backend.model.get("combine", "mean")}
    name = backend.method
    return {
        name: backend,
        f"{name}, best depth": kind("best_depth", model=combine, base=backend),
    }


def _denoised_uses(
    backend: Cell, last: Cell | None, kind: type[Cell]
) -> dict[str, Cell]:
    """What denoises, and what it is made of."""
    if last is None:
        return {}
    if last.method != "ddrm":
        return {last.method: last}
    history = {k: v for k, v in last.model.items() if k == "history"}
    if starts_from_past(last):  # one pass; its starts weigh histories by recency, too
        return {
            "history mean": kind("history_mean", base=backend),
            "history mean, recency": kind("recent_mean", base=backend),
            "ddrm": last,
        }
    return {
        # where this DDRM starts: with its weights, or the comparison is not with it
        "history mean": kind("history_mean", model=history, base=backend),
        "ddrm, one pass, no noise": kind("one_pass", base=last),
        "ddrm": last,
    }


def identity(cell: Cell) -> str:
    """Tell a cell from every other: one line of JSON."""
    return json.dumps(asdict(cell), sort_keys=True)


def folder_name(cell: Cell, fingerprint: str) -> str:
    """Name a cell's folder by its method and a hash of what defines it.

    Args:
        cell: The cell.
        fingerprint: Of the data, see
            :func:`ddrm_pyg.experiments.runner.fingerprint`.
    """
    digest = hashlib.sha256((identity(cell) + fingerprint).encode()).hexdigest()
    return f"{cell.method}-{digest[:12]}"
