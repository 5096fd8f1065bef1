"""Cells: the rows of an experiment, before and after they are run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from safetensors.torch import load_file
from torch import Tensor
from torch_geometric.data import HeteroData

from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.ranking import Metrics
from ddrm_pyg.training import FitResult
from ddrm_pyg.typing import Recommender, Scorer


@dataclass(frozen=True)
class Cell:
    """One row of a table, before it is run.

    Attributes:
        method: A key of :data:`METHODS`.
        seed: Seed of initial weights and training; None for closed forms.
        model: Constructor arguments of the method; of the backend, where a method
            cleans a backend's training.
        fit: Arguments of :func:`ddrm_pyg.fit`.
        base: The cell whose embeddings or weights this one starts from.
        clean: Settings of what cleans a backend's training (``+t-ce``, ...).
    """

    method: str
    seed: int | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)
    base: Cell | None = None
    clean: Mapping[str, Any] = field(default_factory=dict)


def cell_from_record(record: Mapping[str, Any]) -> Cell:
    """Rebuild a cell from ``dataclasses.asdict``, as JSON keeps it."""
    base = record["base"]
    return Cell(**{**record, "base": base and cell_from_record(base)})


def chain(cell: Cell) -> list[Cell]:
    """A cell and all that it starts from."""
    return [cell, *(chain(cell.base) if cell.base else [])]


def seed_of(cell: Cell) -> int | None:
    """The seed of a cell, or of what it starts from; None where nothing is trained."""
    return next((c.seed for c in chain(cell) if c.seed is not None), None)


@dataclass
class Outcome:
    """What running a method gives.

    Attributes:
        scorer: Ranks the items.
        tensors: What later cells start from, by file stem.
        notes: What was chosen on the way.
        fit: What training did, where there was any.
        num_parameters: Trained numbers; None without training.
    """

    scorer: Scorer
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    fit: FitResult | None = None
    num_parameters: int | None = None


@dataclass(frozen=True)
class Result:
    """A cell that has been run.

    Attributes:
        cell: The cell.
        folder: Where its files are.
        val: Validation metrics (means); empty without a validation split.
        test: Test metrics, with per-user values.
        notes: What was chosen on the way.
        history: Training records, one per epoch.
        best_epoch: Selected epoch; None without training.
        seconds: Wall time of training or solving; of a training that was interrupted,
            its epochs in all processes.
        peak_memory: Bytes that training or solving added to the process at its peak,
            see :class:`ddrm_pyg.experiments.memory.PeakMemory`.
        num_parameters: Trained numbers; None without training.
    """

    cell: Cell
    folder: Path
    val: dict[str, float]
    test: Metrics
    notes: dict[str, Any]
    history: list[dict[str, float]]
    best_epoch: int | None
    seconds: float
    peak_memory: int
    num_parameters: int | None

    def embeddings(self, name: str = "embeddings") -> Embeddings:
        """Read the tables that the cell left for later ones."""
        return Embeddings.load(self.folder / f"{name}.safetensors")

    def weights(self) -> dict[str, Tensor]:
        """Read the weights that the cell left for later ones."""
        return load_file(self.folder / "weights.safetensors")


class Bench(Protocol):
    """What a method works on: a :class:`ddrm_pyg.experiments.runner.Runner`."""

    data: HeteroData

    @property
    def graph(self) -> InteractionGraph:
        """Train interactions."""

    def run(self, cell: Cell) -> Result:
        """Return the result of another cell, which is run if it has to be."""

    def train(self, cell: Cell, model: Recommender) -> FitResult:
        """Fit a cell's model, from its checkpoint if there is one."""


Method = Callable[[Bench, Cell], Outcome]
"""Runs a cell; torch's global generator has its seed."""
