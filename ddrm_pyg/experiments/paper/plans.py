"""What an experiment of the paper is made of: lines in blocks, one cell per seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.paper.conditions import GIVEN, Condition
from ddrm_pyg.experiments.stored import (
    YARDSTICKS,
    cell_for,
    denoised,
    load_settings,
    stored_name,
)


@dataclass(frozen=True)
class Line:
    """A row of a table, or a point of a curve.

    Attributes:
        name: What a reader sees; unique in its block but for ``at``.
        cells: One per seed; of closed forms, one.
        rival: Name of the line that it is tested against.
        at: Its place on the x axis, if there is one.
        condition: What is done to the data.
        turn: In which round it is run.
        about: Where its settings come from and what was checked, for lines that miss
            the paper.
    """

    name: str
    cells: tuple[Cell, ...]
    rival: str | None = None
    at: float | None = None
    condition: Condition = GIVEN
    turn: int = 0
    about: str = ""


def full_name(name: str, at: float | None) -> str:
    """Name a line so that its block has no other of that name."""
    return name if at is None else f"{name}, {at:g}"


@dataclass(frozen=True)
class Block:
    """A part of a table, or a panel of a figure.

    Attributes:
        title: Its heading.
        lines: Its lines, as they are printed.
        axis: The name of the x axis of a panel of curves.
    """

    title: str
    lines: tuple[Line, ...]
    axis: str | None = None


@dataclass(frozen=True)
class Plan:
    """What makes lines: which settings, seeds and backends.

    Attributes:
        variant: Data set whose stored settings are preferred.
        seeds: Seeds of whatever is trained.
        epochs: Epochs of every training at most; as stored if None.
        labelled: Whether the liked part of validation is known.
        backends: Of DDRM; those of the paper if empty.
        ddrm_settings: Name or file of settings of DDRM that replace those of the
            variant, one by one.
    """

    variant: str | None = None
    seeds: Sequence[int] = (0, 1, 2)
    epochs: int | None = None
    labelled: bool = True
    backends: Sequence[str] = ()
    ddrm_settings: str | None = None

    def cells(self, name: str) -> tuple[Cell, ...]:
        """One cell per seed of a stored method; one of a yardstick."""
        if name in YARDSTICKS:
            return (Cell(name),)
        return tuple(self._cell(name, seed) for seed in self.seeds)

    def _cell(self, name: str, seed: int) -> Cell:
        told: dict[str, Any] = {"variant": self.variant, "epochs": self.epochs}
        backend, _, added = name.partition("+")
        if added != "ddrm" or self.ddrm_settings is None:
            return cell_for(name, seed=seed, **told)
        base = cell_for(backend, seed=seed, **told)
        return denoised(base, added, settings=self.ddrm_settings, **told)

    def line(self, name: str, rival: str | None = None, **told: Any) -> Line:
        """A line of a stored method."""
        return Line(name, self.cells(name), rival, about=self._about(name), **told)

    def changed(self, backend: str, added: str, **changed: Any) -> Line:
        """A line of DDRM with other arguments, tested against its backend."""
        name = f"{backend}+ddrm"
        changes = [replace(c, model={**c.model, **changed}) for c in self.cells(name)]
        told = self._about(name)
        return Line(f"{name} {added}", tuple(changes), backend, about=told)

    def _about(self, name: str) -> str:
        if name in YARDSTICKS:
            return ""
        backend, _, added = name.partition("+")
        method = added or backend
        stored = stored_name(method, self.variant, backend if added else "")
        if method == "ddrm":
            stored = self.ddrm_settings or stored
        told = load_settings(stored, method)
        checked = f"Checked: {told.get('checked', 'nothing yet')}"
        return ". ".join(filter(None, (told.get("about"), checked)))
